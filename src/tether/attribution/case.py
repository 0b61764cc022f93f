"""A case, and the small named tests that rules are made of.

Law: pure, and printable: every test carries its own words, so that the table can print itself. A test
says which kinds of facts it cannot do without (`needs`), so that a rule whose kinds are not in a case
is not even asked. No test reads `detail`, subtracts two observers' clocks, or looks outside the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence, F
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
"""Facts that explain an end and are none: what is left without them is how the end looked."""

_TRUST = {Vantage.AGENT: 0, Vantage.SERVER: 1, Vantage.RELAY: 2, Vantage.CLIENT: 3}


class Case:
    """Everything known about one end: the facts of all vantages, symptoms left out."""

    __slots__ = ("_by_kind", "connect_type", "facts", "kinds")

    def __init__(self, connect_type: ConnectType, facts: Iterable[Evidence]) -> None:
        self.connect_type, self.facts = connect_type, tuple(facts)
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
    """By trust in the observer, then by its clock; by their words only where these are the same."""
    keys = {(fact.vantage, fact.at) for fact in alike}
    if len(keys) == len(alike):
        alike.sort(key=lambda fact: (_TRUST[fact.vantage], fact.at))
    else:
        alike.sort(key=lambda fact: (_TRUST[fact.vantage], fact.at, repr(fact)))


class Predicate:
    """A question to a case. `needs`: without a fact of each of these kinds the answer is no."""

    __slots__ = ("__name__", "check", "needs")

    def __init__(
        self,
        check: Callable[[Case], bool],
        words: str,
        needs: Iterable[type[ev.Fact]] = (),
    ) -> None:
        self.check, self.__name__, self.needs = check, words, frozenset(needs)

    def __call__(self, case: Case) -> bool:
        return self.check(case)


Pick = Callable[[Case], str]


def saw(kind: type[ev.Fact], **want: object) -> Predicate:
    """Some fact of `kind` has all the wanted values; a tuple means "one of these"."""
    wanted = [
        (attrgetter(name), value if isinstance(value, tuple) else (value,))
        for name, value in want.items()
    ]

    def check(case: Case) -> bool:  # by far the most asked: loops are twice as quick as any and all
        for fact in case.all(kind):
            for get, values in wanted:
                if get(fact) not in values:
                    break
            else:
                return True
        return False

    inside = ", ".join(f"{name}={word(value)}" for name, value in want.items())
    return Predicate(check, f"{kind.kind}({inside})" if inside else kind.kind, [kind])


def has(kind: type[F], words: str, holds: Callable[[F], bool]) -> Predicate:
    """Some fact of `kind` for which `holds` is true; `words` say what that is."""

    def check(case: Case) -> bool:
        for fact in case.all(kind):  # noqa: SIM110 -- as in `saw`
            if holds(fact):
                return True
        return False

    return Predicate(check, f"{kind.kind}({words})", [kind])


def both(*tests: Predicate) -> Predicate:
    """Every test holds."""
    needs = frozenset().union(*(test.needs for test in tests))
    checks = [test.check for test in tests]

    def check(case: Case) -> bool:
        for one in checks:  # noqa: SIM110 -- as in `saw`
            if not one(case):
                return False
        return True

    return Predicate(check, " and ".join(test.__name__ for test in tests), needs)


def either(*tests: Predicate) -> Predicate:
    """At least one test holds."""
    needs = frozenset.intersection(*(test.needs for test in tests))
    words = " or ".join(test.__name__ for test in tests)
    checks = [test.check for test in tests]

    def check(case: Case) -> bool:
        for one in checks:  # noqa: SIM110 -- as in `saw`
            if one(case):
                return True
        return False

    return Predicate(check, f"({words})", needs)


def never(test: Predicate) -> Predicate:
    """The test does not hold."""
    return Predicate(lambda case: not test(case), f"no {test.__name__}")


def joins(*types: ConnectType) -> Predicate:
    """The connection is one of these types."""
    return Predicate(lambda case: case.connect_type in types, f"connect_type in {word(types)}")


def word(value: object) -> str:
    """A wanted value as the table prints it."""
    return "|".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


anything = Predicate(lambda _case: True, "anything")
