"""What rules are made of: the case, small named tests of it, and picks of a cause.

Law: pure, and printable: every test carries its own words, so that the table can print itself. No
test reads `detail`, subtracts two observers' clocks, or looks outside the case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.causes import POLICY_REFUSALS, PROTOCOL_ERRORS
from tether.attribution.evidence import Evidence, F
from tether.attribution.vocabulary import (
    AccessRefusal,
    ConnectType,
    Party,
    StreamEnd,
    Vantage,
)

BLOCKED_EXIT_CODE = 65
"""What a session that policy refused exits with."""

AGENT_FAILED_EXIT_CODE = 229
"""What a session exits with that the agent could not start."""

LIVELY_ACK_MS = 20_000
"""A peer's kernel that acknowledged within this time is alive (agent keepalive 15 s + 5 s probe)."""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything known about one end: the facts of all vantages, symptoms left out."""

    connect_type: ConnectType
    facts: tuple[Evidence, ...]

    def all(self, kind: type[F]) -> list[F]:
        """The facts of one kind, in an order that does not depend on how they arrived."""
        return sorted(
            (fact for fact in self.facts if isinstance(fact, kind)),
            key=lambda fact: (_TRUST.index(fact.vantage), fact.at, repr(fact)),
        )


_EXIT_BY_SIGNAL = (129, 130, 137, 143)
"""What a JVM or a shell exits with after SIGHUP, SIGINT, SIGKILL (of its child), SIGTERM."""

_TRUST = (Vantage.AGENT, Vantage.SERVER, Vantage.RELAY, Vantage.CLIENT)

Test = Callable[[Case], bool]
Pick = Callable[[Case], str]


# -- predicates: small and named, so that the table can print itself --------------------------------


def saw(kind: type[ev.Fact], **want: object) -> Test:
    """Some fact of `kind` has all the wanted values; a tuple means "one of these"."""

    def check(case: Case) -> bool:
        return any(
            all(
                getattr(fact, name) in value
                if isinstance(value, tuple)
                else getattr(fact, name) == value
                for name, value in want.items()
            )
            for fact in case.all(kind)
        )

    inside = ", ".join(f"{name}={_word(value)}" for name, value in want.items())
    return _named(check, f"{kind.kind}({inside})" if inside else kind.kind)


def both(*tests: Test) -> Test:
    """Every test holds."""
    return _named(
        lambda case: all(test(case) for test in tests),
        " and ".join(test.__name__ for test in tests),
    )


def never(test: Test) -> Test:
    """The test does not hold."""
    return _named(lambda case: not test(case), f"no {test.__name__}")


def joins(*types: ConnectType) -> Test:
    """The connection is one of these types."""
    return _named(lambda case: case.connect_type in types, f"connect_type in {_word(types)}")


def last_session(by_signal: bool) -> Test:
    """A session ended, and the last one to end was (or was not) killed by a signal."""

    def check(case: Case) -> bool:
        ended = case.all(ev.SessionEnded)
        return bool(ended) and (ended[-1].exit_signal is not None) == by_signal

    return _named(check, f"last session ended {'by a signal' if by_signal else 'with a status'}")


def _no_session_open(case: Case) -> bool:
    ended = case.all(ev.SessionEnded)
    said = case.all(ev.SshDisconnected)
    left = said[-1].open_sessions if said else ended[-1].open_sessions if ended else 1
    return bool(ended) and left == 0


def _detached_last(case: Case) -> bool:
    detached, ended = case.all(ev.TerminalDetached), case.all(ev.SessionEnded)
    if not detached or detached[-1].open_sessions:
        return False
    return not ended or detached[-1].at >= ended[-1].at


def _last_session_has_a_cause(case: Case) -> bool:
    ended = case.all(ev.SessionEnded)
    return bool(ended) and bool(ended[-1].cause)


def _only_refused(case: Case) -> bool:
    """The client left, and all that it got was a refusal by policy."""
    said = [fact for fact in case.all(ev.SshDisconnected) if fact.by is Party.CLIENT]
    if not case.all(ev.PolicyRefused) or case.all(ev.ForwardServed):
        return False
    if not said and not case.all(ev.LocalSideClosed):
        return False
    ended = case.all(ev.SessionEnded)
    left = said[-1].open_sessions if said else ended[-1].open_sessions if ended else 0
    return left == 0 and all(fact.exit_code == BLOCKED_EXIT_CODE for fact in ended)


def _backend_signalled(case: Case) -> bool:
    return any(
        fact.exit_signal is not None or fact.exit_code in _EXIT_BY_SIGNAL
        for fact in case.all(ev.IdeBackendGone)
    )


def _backend_out_of_memory(case: Case) -> bool:
    return any(
        fact.exit_code is None and fact.exit_signal in (None, "KILL") and (fact.oom_kills or 0) > 0
        for fact in case.all(ev.IdeBackendGone)
    )


def _backend_status_known(case: Case) -> bool:
    return any(fact.exit_code is not None for fact in case.all(ev.IdeBackendGone))


def _anything(case: Case) -> bool:
    return True


def _named(test: Test, name: str) -> Test:
    test.__name__ = name
    return test


def _word(value: object) -> str:
    return "|".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


no_session_open = _named(_no_session_open, "no session left open")
detached_last = _named(_detached_last, "the last session was detached, none left open")
last_session_has_a_cause = _named(
    _last_session_has_a_cause, "the agent ended the last session for a cause of its own"
)
only_refused = _named(_only_refused, "the client left, and policy had refused all it asked for")
backend_signalled = _named(_backend_signalled, "the backend was ended by a signal")
backend_out_of_memory = _named(_backend_out_of_memory, "the backend was killed as memory ran out")
backend_status_known = _named(_backend_status_known, "the backend ended with a status")
anything = _named(_anything, "anything")

# -- picks --------------------------------


def declared(case: Case) -> str:
    """The cause that the most trusted goodbye named; a client's only where nobody else said one."""
    goodbyes = case.all(ev.GoodbyeSaid)
    return next((said for said in goodbyes if said.by in NOT_CLIENT), goodbyes[0]).cause


def by_session(case: Case) -> str:
    """Why the agent ended the last session."""
    return case.all(ev.SessionEnded)[-1].cause


def by_offender(case: Case) -> str:
    """Who broke the protocol."""
    return PROTOCOL_ERRORS[case.all(ev.ProtocolViolated)[0].by]


def by_policy(case: Case) -> str:
    """Which switch refused. The most telling refusal of several wins."""
    refused = {fact.policy for fact in case.all(ev.PolicyRefused)}
    return next(code for policy, code in POLICY_REFUSALS.items() if policy in refused)


REFUSALS = {
    AccessRefusal.UNKNOWN_KEY: "auth.key_refused",
    AccessRefusal.CERTIFICATE_EXPIRED: "auth.certificate_expired",
    AccessRefusal.CERTIFICATE_NOT_YET_VALID: "auth.certificate_expired",
    AccessRefusal.WRONG_WORKSPACE: "auth.certificate_refused",
    AccessRefusal.WRONG_USER: "auth.certificate_refused",
    AccessRefusal.USER_REVOKED: "auth.user_revoked",
}


def by_refusal(case: Case) -> str:
    """Why the credential was refused. The most telling refusal of several wins."""
    refusals = {REFUSALS[fact.why] for fact in case.all(ev.AccessRefused)}
    order = ("auth.user_revoked", "auth.certificate_expired", "auth.certificate_refused")
    return next((code for code in order if code in refusals), "auth.key_refused")


CONTROL = joins(ConnectType.SERVER_TO_AGENT, ConnectType.CLIENT_TO_SERVER)
SESSION = joins(ConnectType.AGENT_TO_CLIENT)
HARD = (StreamEnd.EOF, StreamEnd.RESET, StreamEnd.CLOSED, StreamEnd.OTHER, StreamEnd.ABORTED)
SOFT = (StreamEnd.SILENT, StreamEnd.TIMED_OUT, StreamEnd.UNREACHABLE)
NOT_CLIENT = (Party.AGENT, Party.SERVER, Party.RELAY)
LOCAL_CLOSED = saw(ev.LocalSideClosed)
LOGGED_IN = saw(ev.Authenticated)


def _lively(case: Case) -> bool:
    return any(c.last_ack_recv_ms < LIVELY_ACK_MS for c in case.all(ev.TcpCounters))


LIVELY = _named(_lively, f"the peer's kernel acknowledged within {LIVELY_ACK_MS // 1000} s")
