"""From facts to a cause: an ordered table. The first rule that matches decides.

Law: the order *is* the precedence, readable top-down: what the owner of a connection declared, then
what SSH itself said, then what the other side declared, then post-mortems, then what was merely
observed, then absence. Rules never read `detail`, never subtract two observers' clocks, never look
outside the case. `examples.py` holds one reachable case per rule, in the order of the table; the tests
hold every rule to the eight laws (no rule shadowed, none idle, order of facts irrelevant, total, …).
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.causes import UNKNOWN
from tether.attribution.predicates import (
    CONTROL,
    HARD,
    LIVELY,
    LOCAL_CLOSED,
    LOGGED_IN,
    NOT_CLIENT,
    SESSION,
    SOFT,
    Case,
    Pick,
    Test,
    anything,
    backend_out_of_memory,
    backend_signalled,
    backend_status_known,
    both,
    by_offender,
    by_policy,
    by_refusal,
    by_session,
    declared,
    detached_last,
    last_session,
    last_session_has_a_cause,
    never,
    no_session_open,
    only_refused,
    saw,
)
from tether.attribution.vocabulary import Basis, Party, StreamEnd


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `cause` is a catalogue code, or picks one from the case."""

    name: str
    when: Test
    cause: str | Pick
    basis: Basis
    because: str

    def decide(self, case: Case) -> str:
        """The cause's code for a case that this rule matches."""
        return self.cause if isinstance(self.cause, str) else self.cause(case)


RULES: tuple[Rule, ...] = (
    Rule(
        "internal-failure",
        saw(ev.InternalFailure, party=Party.AGENT),
        "agent.internal_error",
        Basis.OBSERVED,
        "The agent caught an error of its own while it handled the connection.",
    ),
    Rule(
        "superseded",
        saw(ev.Superseded),
        "agent.superseded",
        Basis.OBSERVED,
        "The server saw a newer connection with the same identity and ended this one.",
    ),
    Rule(
        "protocol-violated",
        saw(ev.ProtocolViolated),
        by_offender,
        Basis.OBSERVED,
        "Bytes arrived that mean nothing in the protocol.",
    ),
    Rule(
        "goodbye",
        saw(ev.GoodbyeSaid, by=NOT_CLIENT),
        declared,
        Basis.DECLARED,
        "The party that left said so, and why, before it closed.",
    ),
    Rule(
        "refused",
        both(saw(ev.AccessRefused), never(LOGGED_IN)),
        by_refusal,
        Basis.OBSERVED,
        "Every credential that the client offered was refused.",
    ),
    Rule(
        "handshake-timeout",
        saw(ev.HandshakeTimedOut, by=Party.CLIENT),
        "client.handshake_timeout",
        Basis.OBSERVED,
        "The client connected and did not finish its handshake in time.",
    ),
    Rule(
        "refused-by-policy",
        only_refused,
        by_policy,
        Basis.OBSERVED,
        "The workspace's policy refused what the client had come for.",
    ),
    Rule(
        "ide-backend-oom-killed",
        backend_out_of_memory,
        "ide.backend_oom_killed",
        Basis.INFERRED,
        "The backend was killed just as its memory cgroup counted an out-of-memory kill.",
    ),
    Rule(
        "ide-backend-killed",
        backend_signalled,
        "ide.backend_killed",
        Basis.OBSERVED,
        "The backend's process was ended by a signal.",
    ),
    Rule(
        "ide-backend-exited",
        saw(ev.IdeBackendGone, exit_code=0),
        "ide.backend_exited",
        Basis.OBSERVED,
        "The backend's process ended with exit code 0.",
    ),
    Rule(
        "ide-backend-failed",
        backend_status_known,
        "ide.backend_failed",
        Basis.OBSERVED,
        "The backend's process ended with a failing exit code.",
    ),
    Rule(
        "ide-backend-gone",
        saw(ev.IdeBackendGone),
        "ide.backend_gone",
        Basis.INFERRED,
        "The backend's process is gone, and its exit status could not be had.",
    ),
    Rule(
        "ide-closed",
        saw(ev.IdeChannelsClosed, by=Party.CLIENT),
        "ide.closed",
        Basis.OBSERVED,
        "The client closed the last connection to the backend.",
    ),
    Rule(
        "ide-backend-closed",
        saw(ev.IdeChannelsClosed),
        "ide.backend_closed",
        Basis.OBSERVED,
        "The backend closed the last connection and runs on.",
    ),
    Rule(
        "client-ssh-aborted",
        both(
            saw(ev.SshDisconnected, by=Party.CLIENT),
            never(saw(ev.SshDisconnected, by=Party.CLIENT, code=11)),
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
            saw(ev.SshDisconnected, by=Party.CLIENT, code=11),
            no_session_open,
            last_session_has_a_cause,
        ),
        by_session,
        Basis.OBSERVED,
        "The agent ended the last session, said why, and the client disconnected.",
    ),
    Rule(
        "session-signalled",
        both(
            saw(ev.SshDisconnected, by=Party.CLIENT, code=11),
            no_session_open,
            last_session(by_signal=True),
        ),
        "session.signal",
        Basis.OBSERVED,
        "The last session's process was ended by a signal, then the client disconnected.",
    ),
    Rule(
        "session-exited",
        both(saw(ev.SshDisconnected, by=Party.CLIENT, code=11), no_session_open),
        "session.exit",
        Basis.OBSERVED,
        "The last session's process ended with an exit status, then the client disconnected.",
    ),
    Rule(
        "client-disconnected",
        saw(ev.SshDisconnected, by=Party.CLIENT),
        "client.closed",
        Basis.DECLARED,
        "The client's ssh disconnected on request while a session was open.",
    ),
    Rule(
        "session-signalled-then-closed",
        both(LOCAL_CLOSED, no_session_open, last_session(by_signal=True)),
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
        both(LOCAL_CLOSED, LOGGED_IN, SESSION),
        "client.ssh_killed",
        Basis.INFERRED,
        "The client's program closed its pipe with a session open and without disconnecting.",
    ),
    Rule(
        "client-goodbye",
        saw(ev.GoodbyeSaid, by=Party.CLIENT),
        declared,
        Basis.DECLARED,
        "The client said that it was leaving.",
    ),
    Rule(
        "client-gave-up",
        LOCAL_CLOSED,
        "client.closed",
        Basis.OBSERVED,
        "The client's program closed its side, and nobody tells of a session on it.",
    ),
    Rule(
        "agent-host-rebooted",
        saw(ev.PreviousRunDied, party=Party.AGENT, host_rebooted=True),
        "agent.host_rebooted",
        Basis.OBSERVED,
        "The agent's next run found another boot id and no clean stop.",
    ),
    Rule(
        "agent-post-mortem",
        saw(ev.PreviousRunDied, party=Party.AGENT),
        "agent.crashed",
        Basis.OBSERVED,
        "The agent's next run, on the same boot, found no clean stop.",
    ),
    Rule(
        "server-post-mortem",
        both(saw(ev.PreviousRunDied, party=Party.SERVER), CONTROL),
        "server.crashed",
        Basis.OBSERVED,
        "The server's next run found no clean stop.",
    ),
    Rule(
        "client-stream-ended",
        saw(ev.StreamEnded, peer=Party.CLIENT, how=HARD),
        "client.vanished",
        Basis.INFERRED,
        "The client's stream ended at once and without a goodbye.",
    ),
    Rule(
        "client-stream-silent",
        saw(ev.StreamEnded, peer=Party.CLIENT, how=SOFT),
        "client.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the client.",
    ),
    Rule(
        "agent-stream-ended",
        saw(ev.StreamEnded, peer=Party.AGENT, how=HARD),
        "agent.vanished",
        Basis.INFERRED,
        "The agent's stream ended at once and without a goodbye.",
    ),
    Rule(
        "agent-frozen",
        both(saw(ev.StreamEnded, peer=Party.AGENT, how=StreamEnd.SILENT), LIVELY),
        "agent.unresponsive",
        Basis.INFERRED,
        "The agent fell silent while its kernel still acknowledged data.",
    ),
    Rule(
        "agent-stream-silent",
        saw(ev.StreamEnded, peer=Party.AGENT, how=SOFT),
        "agent.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the agent.",
    ),
    Rule(
        "server-stream-ended",
        saw(ev.StreamEnded, peer=Party.SERVER, how=HARD),
        "server.vanished",
        Basis.INFERRED,
        "The server's stream ended at once and without a goodbye.",
    ),
    Rule(
        "server-stream-silent",
        saw(ev.StreamEnded, peer=Party.SERVER, how=SOFT),
        "server.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the server.",
    ),
    Rule(
        "relay-stream-ended",
        saw(ev.StreamEnded, peer=Party.RELAY, how=HARD),
        "relay.crashed",
        Basis.INFERRED,
        "The relay's stream ended at once and without a goodbye.",
    ),
    Rule(
        "relay-stream-silent",
        saw(ev.StreamEnded, peer=Party.RELAY, how=SOFT),
        "relay.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the relay.",
    ),
    Rule(
        "relay-died-with-server",
        both(SESSION, saw(ev.PreviousRunDied, party=Party.SERVER)),
        "relay.crashed",
        Basis.INFERRED,
        "The server whose relay carried the connection ended without a clean stop.",
    ),
    Rule(
        "agent-never-returned",
        saw(ev.NeverReturned, party=Party.AGENT),
        "agent.vanished",
        Basis.INFERRED,
        "The agent was gone and did not come back.",
    ),
    Rule(
        "no-evidence",
        anything,
        UNKNOWN,
        Basis.INFERRED,
        "Nothing that was seen or said explains this end.",
    ),
)
