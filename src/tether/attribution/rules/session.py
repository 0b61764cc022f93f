"""What SSH itself said, and what a client did at its end of the pipe.

Law: rows only; see `table`. A conclusion from a session that nobody tells of, or from a disconnect that
nobody saw, is not sure.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.picks import by_goodbye, by_session
from tether.attribution.predicates.predicate import SESSION, both, either, has, never, saw
from tether.attribution.predicates.sessions import (
    CLOSED_ANSWERED,
    CLOSED_UNSIGNALLED,
    LEFT_BY_SSH,
    LOCAL_CLOSED,
    NOT_INTERRUPTED,
    ONLY_LOOKS,
    TELLS_A_CRASH,
    UNANSWERED,
    detached_last,
    last_session_has_a_cause,
    last_session_killed,
    last_session_signalled,
    left_at,
    no_session_open,
)
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import (
    Basis,
    Confidence,
    HandshakeStage,
    OomVictim,
    Party,
)

RULES: tuple[Rule, ...] = (
    Rule(
        "client-ssh-aborted",
        both(
            saw(ev.SshDisconnected, by=Party.CLIENT),
            never(LEFT_BY_SSH),
        ),
        "client.protocol_error",
        Basis.DECLARED,
        "The client's ssh disconnected with an error code of its own.",
    ),
    Rule(
        "terminal-detached",
        both(saw(ev.SshDisconnected, by=Party.CLIENT, code=11, open_sessions=0), detached_last),
        "session.detached",
        Basis.OBSERVED,
        "The client let go of a terminal that lives on, then disconnected.",
    ),
    Rule(
        "session-ended-by-agent",
        both(
            either(LEFT_BY_SSH, LOCAL_CLOSED),
            no_session_open,
            last_session_has_a_cause,
        ),
        by_session,
        Basis.OBSERVED,
        "The agent ended the last session, said why, and the client left.",
    ),
    Rule(
        "session-oom-killed",
        both(
            either(LEFT_BY_SSH, LOCAL_CLOSED),
            no_session_open,
            last_session_killed,
            saw(ev.OomKills, party=Party.AGENT, victim=OomVictim.CHILD),
        ),
        "session.oom_killed",
        Basis.INFERRED,
        "The last session's process was killed just as the kernel counted a kill for want of memory.",
    ),
    Rule(
        "session-signalled",
        both(
            LEFT_BY_SSH,
            no_session_open,
            last_session_signalled,
        ),
        "session.signal",
        Basis.OBSERVED,
        "The last session's process was ended by a signal, then the client disconnected.",
    ),
    Rule(
        "session-exited",
        both(LEFT_BY_SSH, no_session_open),
        "session.exit",
        Basis.OBSERVED,
        "The last session's process ended with an exit status, then the client disconnected.",
    ),
    Rule(
        "client-disconnected",
        has(
            ev.SshDisconnected,
            "by=client, open_sessions>0",
            lambda fact: fact.by is Party.CLIENT and fact.open_sessions > 0,
        ),
        "client.closed",
        Basis.DECLARED,
        "The client's ssh disconnected on request while a session was open.",
    ),
    Rule(
        "client-disconnected-idle",
        saw(ev.SshDisconnected, by=Party.CLIENT, open_sessions=0),
        "client.closed",
        Basis.INFERRED,
        "The client's ssh disconnected on request, and nobody tells of a session on it.",
        Confidence.MEDIUM,
    ),
    Rule(
        "session-signalled-then-closed",
        both(LOCAL_CLOSED, no_session_open, last_session_signalled),
        "session.signal",
        Basis.OBSERVED,
        "The last session's process was ended by a signal, then the client's program closed.",
    ),
    Rule(
        "session-exited-then-closed",
        both(LOCAL_CLOSED, no_session_open),
        "session.exit",
        Basis.OBSERVED,
        "The last session's process ended with an exit status, then the client's program closed.",
    ),
    Rule(
        "stdio-forward-ended",
        both(LOCAL_CLOSED, saw(ev.StdioForwardEnded), never(saw(ev.SessionEnded))),
        "session.forwarded",
        Basis.OBSERVED,
        "The only forwarded connection was closed, then the client's program closed.",
    ),
    Rule(
        "ssh-killed",
        both(CLOSED_UNSIGNALLED, TELLS_A_CRASH, SESSION),
        "client.ssh_killed",
        Basis.INFERRED,
        "The client's program, which always tells when it ends by itself, closed its pipe and did not.",
        Confidence.MEDIUM,
    ),
    Rule(
        "host-key-refused",
        both(CLOSED_ANSWERED, NOT_INTERRUPTED, never(ONLY_LOOKS), left_at(HandshakeStage.HOST_KEY)),
        "client.host_key_refused",
        Basis.INFERRED,
        "The client was shown the host key, and left before it took the new keys into use.",
        Confidence.MEDIUM,
    ),
    Rule(
        "never-authenticated",
        both(CLOSED_ANSWERED, NOT_INTERRUPTED, left_at(HandshakeStage.LOGIN)),
        "auth.never_authenticated",
        Basis.INFERRED,
        "The client accepted the host key, and left before it was let in.",
    ),
    Rule(
        "client-only-looked",
        both(ONLY_LOOKS, saw(ev.NoCommonAlgorithm)),
        "client.closed",
        Basis.OBSERVED,
        "The client asked whether the agent has a host key of some type, and it has none.",
    ),
    Rule(
        "client-goodbye",
        both(saw(ev.GoodbyeSaid, by=Party.CLIENT), never(UNANSWERED)),
        by_goodbye,
        Basis.DECLARED,
        "The client said that it was leaving.",
    ),
    Rule(
        "client-gave-up",
        CLOSED_ANSWERED,
        "client.closed",
        Basis.INFERRED,
        "The client's program closed its pipe without a word of SSH, as many do that end in order.",
        Confidence.MEDIUM,
    ),
)
