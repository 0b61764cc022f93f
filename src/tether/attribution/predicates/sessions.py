"""What rules ask about SSH connections, their sessions and an IDE's backend, and what was asked for.

Law: as `predicate`.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.causes.catalogue import codes_where
from tether.attribution.predicates.predicate import Predicate, both, has, never, predicate, saw
from tether.attribution.ssh_clients import family_of
from tether.attribution.vocabulary import BLOCKED_EXIT_CODE, HandshakeStage, Party, Reason

SIGINT = 2

INTENT_S = 30.0
"""An end within this many seconds of what somebody asked for is what they asked for."""

_EXIT_BY_SIGNAL = (129, 130, 137, 143)
"""What a JVM or a shell exits with after SIGHUP, SIGINT, SIGKILL (of its child), SIGTERM."""

NOT_CLIENT = (Party.AGENT, Party.SERVER, Party.RELAY)
LOCAL_CLOSED = saw(ev.LocalSideClosed)
LOGGED_IN = saw(ev.Authenticated)
LEFT_BY_SSH = saw(ev.SshDisconnected, by=Party.CLIENT, code=11)
"""The client's ssh disconnected on request (SSH_DISCONNECT_BY_APPLICATION)."""

UNANSWERED_S = 3.0
"""A client that leaves after its tunnel was unanswered for so long may leave because of that. It is the
patience of the quickest `ServerAliveInterval` in use, and longer than a lossy path takes to answer."""


def gave_up(closed: ev.LocalSideClosed) -> bool:
    """Whether the program left after its tunnel had been unanswered for long."""
    return (closed.unanswered_s or 0.0) >= UNANSWERED_S


UNANSWERED = has(ev.LocalSideClosed, f"unanswered_s>={UNANSWERED_S:.0f}", gave_up)
CLOSED_ANSWERED = both(LOCAL_CLOSED, never(UNANSWERED))
CLOSED_UNSIGNALLED = both(saw(ev.LocalSideClosed, signal=0), never(UNANSWERED))
NOT_INTERRUPTED = never(saw(ev.LocalSideClosed, signal=SIGINT))
"""Nobody pressed Ctrl-C."""

TELLS_A_CRASH = has(
    ev.Authenticated,
    "of a client that tells when it ends by itself",
    lambda fact: family_of(fact.client).silent_end_is_a_crash,
)
ONLY_LOOKS = has(
    ev.HandshakeUnfinished,
    "of a client that only looks at host keys",
    lambda fact: family_of(fact.client).only_looks,
)


def left_at(stage: HandshakeStage) -> Predicate:
    """The client left at this stage of its handshake."""
    return saw(ev.HandshakeUnfinished, stage=stage)


# -- sessions ---------------------------------------------------------------------------


@predicate("last session ended by a signal", ev.SessionEnded)
def last_session_signalled(case: Case) -> bool:
    ended = case.all(ev.SessionEnded)
    return bool(ended) and ended[-1].exit_signal is not None


@predicate("no session left open", ev.SessionEnded)
def no_session_open(case: Case) -> bool:
    ended = case.all(ev.SessionEnded)
    said = case.all(ev.SshDisconnected)
    left = said[-1].open_sessions if said else ended[-1].open_sessions if ended else 1
    return bool(ended) and left == 0


@predicate("the last session was detached, none left open", ev.TerminalDetached)
def detached_last(case: Case) -> bool:
    detached, ended = case.all(ev.TerminalDetached), case.all(ev.SessionEnded)
    if not detached or detached[-1].open_sessions:
        return False
    return not ended or detached[-1].at >= ended[-1].at


@predicate("the agent ended the last session for a cause of its own", ev.SessionEnded)
def last_session_has_a_cause(case: Case) -> bool:
    ended = case.all(ev.SessionEnded)
    return bool(ended) and bool(ended[-1].cause)


@predicate("last session ended by SIGKILL", ev.SessionEnded)
def last_session_killed(case: Case) -> bool:
    ended = case.all(ev.SessionEnded)
    return bool(ended) and ended[-1].exit_signal == "KILL"


@predicate("the client left, and policy had refused all it asked for", ev.PolicyRefused)
def only_refused(case: Case) -> bool:
    """The client left, and all that it got was a refusal by policy."""
    said = [fact for fact in case.all(ev.SshDisconnected) if fact.by is Party.CLIENT]
    if not case.all(ev.PolicyRefused) or case.all(ev.ForwardServed):
        return False
    if not said and not case.all(ev.LocalSideClosed):
        return False
    ended = case.all(ev.SessionEnded)
    left = said[-1].open_sessions if said else ended[-1].open_sessions if ended else 0
    return left == 0 and all(fact.exit_code == BLOCKED_EXIT_CODE for fact in ended)


# -- an IDE's backend -------------------------------------------------------------------


@predicate("the backend was ended by a signal", ev.IdeBackendGone)
def backend_signalled(case: Case) -> bool:
    return any(
        fact.exit_signal is not None or fact.exit_code in _EXIT_BY_SIGNAL
        for fact in case.all(ev.IdeBackendGone)
    )


@predicate("the backend was killed as memory ran out", ev.IdeBackendGone)
def backend_out_of_memory(case: Case) -> bool:
    return any(
        fact.exit_code is None and fact.exit_signal in (None, "KILL") and (fact.oom_kills or 0) > 0
        for fact in case.all(ev.IdeBackendGone)
    )


@predicate("the backend ended with a status", ev.IdeBackendGone)
def backend_status_known(case: Case) -> bool:
    return any(fact.exit_code is not None for fact in case.all(ev.IdeBackendGone))


# -- what somebody had asked for --------------------------------------------------------


@predicate(f"somebody had asked for it at most {INTENT_S:.0f} s before", ev.IntentRecorded)
def intended(case: Case) -> bool:
    return any(fact.before_s <= INTENT_S for fact in case.all(ev.IntentRecorded))


WORKSPACE_STOPS = codes_where(lambda row: row.reason is Reason.WORKSPACE_STOPPED)
"""Decisions that end a workspace, and with it the agent, however that leaves."""

stop_declared = saw(ev.GoodbyeSaid, by=(Party.SERVER, Party.RELAY), cause=WORKSPACE_STOPS)
"""The server said why the workspace was to stop."""

stop_intended = both(saw(ev.IntentRecorded, cause=WORKSPACE_STOPS), intended)
"""Somebody had just asked the server to stop the workspace."""
