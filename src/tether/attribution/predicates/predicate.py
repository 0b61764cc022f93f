"""A question to a case, and the few ways to make and to combine questions.

Law: pure, and printable: every question carries its own words, so that the table prints itself. It
says which kinds of facts it cannot do without (`needs`): a rule whose kinds are not in a case is not
even asked. No question reads `detail`, subtracts two observers' clocks, or looks outside the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

from tether.attribution.case import Case
from tether.attribution.evidence import F, Fact
from tether.attribution.vocabulary import ConnectType


class Predicate:
    """A question to a case. `needs`: without a fact of each of these kinds the answer is no."""

    __slots__ = ("__name__", "check", "needs")

    def __init__(
        self,
        check: Callable[[Case], bool],
        words: str,
        needs: Iterable[type[Fact]] = (),
    ) -> None:
        self.check = check
        self.__name__ = words
        self.needs = frozenset(needs)

    def __call__(self, case: Case) -> bool:
        return self.check(case)


def predicate(words: str, *needs: type[Fact]) -> Callable[[Callable[[Case], bool]], Predicate]:
    """Make a predicate of a function; see `Predicate`."""
    return lambda check: Predicate(check, words, needs)


def saw(kind: type[Fact], **want: object) -> Predicate:
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

CONTROL = joins(ConnectType.SERVER_TO_AGENT, ConnectType.CLIENT_TO_SERVER)
SESSION = joins(ConnectType.AGENT_TO_CLIENT)
