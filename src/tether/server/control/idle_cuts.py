"""Which peers lose one link after the other whenever it is idle, and how often to ping them then.

Law: in memory, of the last runs only; facts of the server's own vantage. A middlebox that forgets what
is silent is recognised by repetition: the links of one run are each cut after the same idle time, and
none of them but the first outlived such a silence. Once that is known, the peer's next links are
pinged so often that they are not silent for so long.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.predicates.streams import IDLE_TOLERANCE_S
from tether.attribution.vocabulary import Party, StreamEnd, Vantage

MOST = 4096

LEAST_IDLE_S = 4.0
"""After a shorter silence a cut is nothing that idleness explains."""

LEAST_PING_S = 2.0

Run = tuple[str, str]
"""Whose token it is, and which run of its holder."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """The links of a run that were cut one after the other, since one was not."""

    connection_ids: tuple[str, ...]
    idle_s: float

    def goes_on(self, idle_s: float) -> bool:
        """Whether a cut after this idle time is one more: the same one, or a shorter one where we
        ping more often by now, and still not often enough."""
        return abs(self.idle_s - idle_s) <= IDLE_TOLERANCE_S or (
            len(self.connection_ids) > 1 and idle_s < self.idle_s
        )


class IdleCuts:
    """What the last links of each run share. Call `ended` for every link, in the order of their ends."""

    def __init__(self) -> None:
        self._chains: dict[Run, _Chain] = {}

    def ended(
        self,
        run: Run,
        connection_id: str,
        party: Party,
        facts: Iterable[Evidence],
        *,
        outlived_s: float,
        at: float,
    ) -> tuple[ev.CutWhenIdle | None, tuple[str, ...]]:
        """A link of this run has ended.

        Args:
            run: whose link.
            connection_id: which link.
            party: the peer.
            facts: of the link's own cell.
            outlived_s: the longest silence before that the link outlived.
            at: now, of the wall clock.

        Returns:
            What its end shares with those before, if anything, and the earlier links that this is true
            of as well: nobody could know it when the first was cut.
        """
        before = self._chains.pop(run, None)
        idle_s = _cut_after(facts, party)
        if idle_s is None:
            return None, ()
        earlier: tuple[str, ...] = ()
        if before is not None and outlived_s < idle_s - IDLE_TOLERANCE_S and before.goes_on(idle_s):
            earlier = before.connection_ids
        self._chains[run] = _Chain((*earlier, connection_id), idle_s)
        while len(self._chains) > MOST:
            del self._chains[next(iter(self._chains))]
        if not earlier:
            return None, ()
        cut = ev.CutWhenIdle(
            vantage=Vantage.SERVER, at=at, party=party, cuts=len(earlier) + 1, idle_s=idle_s
        )
        return cut, earlier if len(earlier) == 1 else ()

    def ping_every_s(self, run: Run, usual_s: float) -> float:
        """How often to ping the next link of this run: twice within the silence that cut the last."""
        chain = self._chains.get(run)
        if chain is None or len(chain.connection_ids) < 2:
            return usual_s
        return min(usual_s, max(LEAST_PING_S, chain.idle_s / 2))


def _cut_after(facts: Iterable[Evidence], party: Party) -> float | None:
    for fact in facts:
        match fact:
            case ev.StreamEnded(
                vantage=Vantage.SERVER,
                peer=peer,
                how=StreamEnd.EOF | StreamEnd.RESET,
                idle_s=float(idle_s),
            ) if peer is party and idle_s >= LEAST_IDLE_S:
                return idle_s
            case _:
                pass
    return None
