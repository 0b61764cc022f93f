"""A case: everything that is known about one end of one connection and can have to do with it.

Law: pure. The order in which the facts arrived leaves no trace, nor does what was over before the last
byte came (`staleness`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence, F
from tether.attribution.staleness import without_stale
from tether.attribution.vocabulary import ConnectType, Vantage

CONTEXT = frozenset(
    {
        ev.Suspended,
        ev.LoopStalled,
        ev.ClockStepped,
        ev.Pressure,
        ev.OomKills,
        ev.Exhausted,
        ev.AddressChanged,
        ev.RouteChanged,
        ev.LinkChanged,
        ev.RedialFailed,
        ev.OthersAnswered,
        ev.PeerReturned,
        ev.PreviousRunDied,
        ev.IntentRecorded,
        ev.EndedTogether,
        ev.CutWhenIdle,
        ev.NeighbourEnded,
    }
)
"""Facts that may explain an end and are no end themselves: without them, a case shows how it looked."""

_TRUST_ORDER = {Vantage.AGENT: 0, Vantage.SERVER: 1, Vantage.RELAY: 2, Vantage.CLIENT: 3}


class Case:
    """The facts of all vantages about one end, without symptoms and without stale circumstances."""

    __slots__ = ("_by_kind", "connect_type", "facts", "kinds")

    def __init__(self, connect_type: ConnectType, facts: Iterable[Evidence]) -> None:
        self.connect_type = connect_type
        self.facts = without_stale(facts)
        self._by_kind: dict[type[ev.Fact], list[ev.Fact]] = {}
        for fact in self.facts:
            self._by_kind.setdefault(type(fact), []).append(fact)
        for alike in self._by_kind.values():
            if len(alike) > 1:
                _arrange(alike)
        self.kinds = frozenset(self._by_kind)

    def all(self, kind: type[F]) -> Sequence[F]:
        """The facts of one kind, in an order that does not depend on how they arrived."""
        return self._by_kind.get(kind, ())  # type: ignore[return-value]


def _arrange(alike: list[ev.Fact]) -> None:
    """Sort by trust in the observer, then by its clock; by their words only where both are the same."""
    keys = {(fact.vantage, fact.at) for fact in alike}
    if len(keys) == len(alike):
        alike.sort(key=lambda fact: (_TRUST_ORDER[fact.vantage], fact.at))
    else:
        alike.sort(key=lambda fact: (_TRUST_ORDER[fact.vantage], fact.at, repr(fact)))
