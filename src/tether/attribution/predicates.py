"""What rules ask about sessions, goodbyes and backends, and how they pick a cause from a case.

Law: as `case`: pure and printable.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case, Pick, Predicate, joins, saw
from tether.attribution.causes import POLICY_REFUSALS, PROTOCOL_ERRORS
from tether.attribution.vocabulary import AccessRefusal, ConnectType, Party, StreamEnd, Vantage

__all__ = ["AGENT_FAILED_EXIT_CODE", "BLOCKED_EXIT_CODE", "Case", "Pick", "Predicate"]

BLOCKED_EXIT_CODE = 65
"""What a session that policy refused exits with."""

AGENT_FAILED_EXIT_CODE = 229
"""What a session exits with that the agent could not start."""

INTENT_S = 30.0
"""An end within this time of what somebody asked for is what they asked for."""

_EXIT_BY_SIGNAL = (129, 130, 137, 143)
"""What a JVM or a shell exits with after SIGHUP, SIGINT, SIGKILL (of its child), SIGTERM."""

CONTROL = joins(ConnectType.SERVER_TO_AGENT, ConnectType.CLIENT_TO_SERVER)
SESSION = joins(ConnectType.AGENT_TO_CLIENT)
HARD = (StreamEnd.EOF, StreamEnd.RESET, StreamEnd.CLOSED, StreamEnd.OTHER, StreamEnd.ABORTED)
SOFT = (StreamEnd.SILENT, StreamEnd.TIMED_OUT, StreamEnd.UNREACHABLE)
SILENCE_CODE = 4408
"""The close code of a party that gives up a peer which it heard nothing from (protocol, "Ends")."""

GIVEN_UP = saw(ev.StreamEnded, vantage=Vantage.SERVER, close_code=SILENCE_CODE)
"""The peer closed its link to the server and said that it had heard nothing from it."""

CLIENT_ONE_WAY = ("network.client_upload_lost", "network.client_download_lost")
AGENT_ONE_WAY = ("network.agent_upload_lost", "network.agent_download_lost")
ONE_WAY = (*CLIENT_ONE_WAY, *AGENT_ONE_WAY)
"""Causes of a control link that are as true of the tunnels of the same party in the same outage."""

NOT_CLIENT = (Party.AGENT, Party.SERVER, Party.RELAY)
LOCAL_CLOSED = saw(ev.LocalSideClosed)
LOGGED_IN = saw(ev.Authenticated)
LEFT_BY_SSH = saw(ev.SshDisconnected, by=Party.CLIENT, code=11)


# -- sessions ---------------------------------------------------------------------------


def last_session(by_signal: bool) -> Predicate:
    """A session ended, and the last one to end was (or was not) killed by a signal."""

    def check(case: Case) -> bool:
        ended = case.all(ev.SessionEnded)
        return bool(ended) and (ended[-1].exit_signal is not None) == by_signal

    words = f"last session ended {'by a signal' if by_signal else 'with a status'}"
    return Predicate(check, words, [ev.SessionEnded])


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


def _last_session_killed(case: Case) -> bool:
    ended = case.all(ev.SessionEnded)
    return bool(ended) and ended[-1].exit_signal == "KILL"


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


no_session_open = Predicate(_no_session_open, "no session left open", [ev.SessionEnded])
detached_last = Predicate(
    _detached_last, "the last session was detached, none left open", [ev.TerminalDetached]
)
last_session_has_a_cause = Predicate(
    _last_session_has_a_cause,
    "the agent ended the last session for a cause of its own",
    [ev.SessionEnded],
)
last_session_killed = Predicate(
    _last_session_killed, "last session ended by SIGKILL", [ev.SessionEnded]
)
only_refused = Predicate(
    _only_refused, "the client left, and policy had refused all it asked for", [ev.PolicyRefused]
)


# -- an IDE's backend -------------------------------------------------------------------


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


backend_signalled = Predicate(
    _backend_signalled, "the backend was ended by a signal", [ev.IdeBackendGone]
)
backend_out_of_memory = Predicate(
    _backend_out_of_memory, "the backend was killed as memory ran out", [ev.IdeBackendGone]
)
backend_status_known = Predicate(
    _backend_status_known, "the backend ended with a status", [ev.IdeBackendGone]
)


# -- what somebody had asked for --------------------------------------------------------

intended = Predicate(
    lambda case: any(fact.before_s <= INTENT_S for fact in case.all(ev.IntentRecorded)),
    f"somebody had asked for it at most {INTENT_S:.0f} s before",
    [ev.IntentRecorded],
)


# -- picks ------------------------------------------------------------------------------


def declared(case: Case) -> str:
    """The cause that the most trusted goodbye named; a client's only where nobody else said one."""
    goodbyes = case.all(ev.GoodbyeSaid)
    return next((said for said in goodbyes if said.by in NOT_CLIENT), goodbyes[0]).cause


def by_intent(case: Case) -> str:
    """What was asked for last."""
    return min(case.all(ev.IntentRecorded), key=lambda fact: fact.before_s).cause


def by_neighbour(case: Case) -> str:
    """What the two ends of the connection beside it told."""
    told = [fact for fact in case.all(ev.NeighbourEnded) if fact.cause in ONE_WAY]
    return min(told, key=lambda fact: abs(fact.before_s)).cause


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


INTERNAL_ERRORS = {
    Party.AGENT: "agent.internal_error",
    Party.SERVER: "server.internal_error",
    Party.RELAY: "relay.crashed",
    Party.CLIENT: "client.internal_error",
}


def by_failed(case: Case) -> str:
    """Whose bug it is."""
    return INTERNAL_ERRORS[case.all(ev.InternalFailure)[0].party]


SLOW = {
    Party.AGENT: "agent.not_reading",
    Party.SERVER: "server.overloaded",
    Party.RELAY: "server.overloaded",
    Party.CLIENT: "client.not_reading",
}


def by_slow(case: Case) -> str:
    """Who did not take what was sent to it."""
    return SLOW[case.all(ev.QueueOverflowed)[0].party]


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
