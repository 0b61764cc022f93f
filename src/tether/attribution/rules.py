"""From facts to a cause: an ordered table. The first rule that matches decides.

Law: the order *is* the precedence, readable top-down: what the owner of a connection declared, then
what SSH itself said, then what the other side declared, then post-mortems, then what was merely
observed, then absence. Rules never read `detail`, never subtract two observers' clocks, never look
outside the case. `EXAMPLES` holds one reachable case per rule, in the order of the table; the tests
hold every rule to the eight laws (no rule shadowed, none idle, order of facts irrelevant, total, …).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.causes import POLICY_REFUSALS, PROTOCOL_ERRORS, UNKNOWN
from tether.attribution.evidence import Evidence, F
from tether.attribution.vocabulary import (
    AccessRefusal,
    Basis,
    ConnectType,
    Party,
    Policy,
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
only_refused = _named(_only_refused, "the client left, and policy had refused all it asked for")
backend_signalled = _named(_backend_signalled, "the backend was ended by a signal")
backend_out_of_memory = _named(_backend_out_of_memory, "the backend was killed as memory ran out")
backend_status_known = _named(_backend_status_known, "the backend ended with a status")
anything = _named(_anything, "anything")

# -- picks --------------------------------


def declared(case: Case) -> str:
    """The cause that the most trusted goodbye named; a client's only where nobody else said one."""
    goodbyes = case.all(ev.GoodbyeSaid)
    return next((said for said in goodbyes if said.by in _NOT_CLIENT), goodbyes[0]).cause


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


# -- the table --------------------------------

_CONTROL = joins(ConnectType.SERVER_TO_AGENT, ConnectType.CLIENT_TO_SERVER)
_SESSION = joins(ConnectType.AGENT_TO_CLIENT)
_HARD = (StreamEnd.EOF, StreamEnd.RESET, StreamEnd.CLOSED, StreamEnd.OTHER, StreamEnd.ABORTED)
_SOFT = (StreamEnd.SILENT, StreamEnd.TIMED_OUT, StreamEnd.UNREACHABLE)
_NOT_CLIENT = (Party.AGENT, Party.SERVER, Party.RELAY)
_LOCAL_CLOSED = saw(ev.LocalSideClosed)
_LOGGED_IN = saw(ev.Authenticated)


def _lively(case: Case) -> bool:
    return any(c.last_ack_recv_ms < LIVELY_ACK_MS for c in case.all(ev.TcpCounters))


_LIVELY = _named(_lively, f"the peer's kernel acknowledged within {LIVELY_ACK_MS // 1000} s")

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
        saw(ev.GoodbyeSaid, by=_NOT_CLIENT),
        declared,
        Basis.DECLARED,
        "The party that left said so, and why, before it closed.",
    ),
    Rule(
        "refused",
        both(saw(ev.AccessRefused), never(_LOGGED_IN)),
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
        both(_LOCAL_CLOSED, no_session_open, last_session(by_signal=True)),
        "session.signal",
        Basis.OBSERVED,
        "The last session's process was ended by a signal, then the client's program closed.",
    ),
    Rule(
        "session-exited-then-closed",
        both(_LOCAL_CLOSED, no_session_open),
        "session.exit",
        Basis.OBSERVED,
        "The last session's process ended with an exit status, then the client's program closed.",
    ),
    Rule(
        "ssh-killed",
        both(_LOCAL_CLOSED, _LOGGED_IN, _SESSION),
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
        _LOCAL_CLOSED,
        "client.closed",
        Basis.OBSERVED,
        "The client's program closed before it had logged in.",
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
        both(saw(ev.PreviousRunDied, party=Party.SERVER), _CONTROL),
        "server.crashed",
        Basis.OBSERVED,
        "The server's next run found no clean stop.",
    ),
    Rule(
        "client-stream-ended",
        saw(ev.StreamEnded, peer=Party.CLIENT, how=_HARD),
        "client.vanished",
        Basis.INFERRED,
        "The client's stream ended at once and without a goodbye.",
    ),
    Rule(
        "client-stream-silent",
        saw(ev.StreamEnded, peer=Party.CLIENT, how=_SOFT),
        "client.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the client.",
    ),
    Rule(
        "agent-stream-ended",
        saw(ev.StreamEnded, peer=Party.AGENT, how=_HARD),
        "agent.vanished",
        Basis.INFERRED,
        "The agent's stream ended at once and without a goodbye.",
    ),
    Rule(
        "agent-frozen",
        both(saw(ev.StreamEnded, peer=Party.AGENT, how=StreamEnd.SILENT), _LIVELY),
        "agent.unresponsive",
        Basis.INFERRED,
        "The agent fell silent while its kernel still acknowledged data.",
    ),
    Rule(
        "agent-stream-silent",
        saw(ev.StreamEnded, peer=Party.AGENT, how=_SOFT),
        "agent.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the agent.",
    ),
    Rule(
        "server-stream-ended",
        saw(ev.StreamEnded, peer=Party.SERVER, how=_HARD),
        "server.vanished",
        Basis.INFERRED,
        "The server's stream ended at once and without a goodbye.",
    ),
    Rule(
        "server-stream-silent",
        saw(ev.StreamEnded, peer=Party.SERVER, how=_SOFT),
        "server.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the server.",
    ),
    Rule(
        "relay-stream-ended",
        saw(ev.StreamEnded, peer=Party.RELAY, how=_HARD),
        "relay.crashed",
        Basis.INFERRED,
        "The relay's stream ended at once and without a goodbye.",
    ),
    Rule(
        "relay-stream-silent",
        saw(ev.StreamEnded, peer=Party.RELAY, how=_SOFT),
        "relay.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the relay.",
    ),
    Rule(
        "relay-died-with-server",
        both(_SESSION, saw(ev.PreviousRunDied, party=Party.SERVER)),
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


_A2C, _S2A = ConnectType.AGENT_TO_CLIENT, ConnectType.SERVER_TO_AGENT
_IN = ev.Authenticated(vantage=Vantage.AGENT, at=0.5, user="alice", method="publickey")
_CLOSED = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=3.0)


def _exited(code: int | None, signal: str | None = None) -> ev.SessionEnded:
    return ev.SessionEnded(
        vantage=Vantage.AGENT, at=2.0, exit_code=code, exit_signal=signal, open_sessions=0
    )


def _ssh_bye(open_sessions: int, code: int = 11) -> ev.SshDisconnected:
    return ev.SshDisconnected(
        vantage=Vantage.AGENT, at=3.0, by=Party.CLIENT, code=code, open_sessions=open_sessions
    )


def _ended(peer: Party, how: StreamEnd, vantage: Vantage = Vantage.RELAY) -> ev.StreamEnded:
    return ev.StreamEnded(vantage=vantage, at=3.0, peer=peer, how=how)


def _died(party: Party, rebooted: bool = False) -> ev.PreviousRunDied:
    return ev.PreviousRunDied(
        vantage=Vantage(str(party)), at=9.0, party=party, host_rebooted=rebooted
    )


def _said(by: Party, cause: str) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=Vantage(str(by)), at=3.0, by=by, cause=cause)


def _backend(
    code: int | None = None, signal: str | None = None, oom_kills: int | None = 0
) -> ev.IdeBackendGone:
    return ev.IdeBackendGone(
        vantage=Vantage.AGENT,
        at=2.0,
        pid=4242,
        exit_code=code,
        exit_signal=signal,
        oom_kills=oom_kills,
    )


def _ide_closed(by: Party) -> ev.IdeChannelsClosed:
    return ev.IdeChannelsClosed(vantage=Vantage.AGENT, at=2.0, by=by, backend_running=True)


EXAMPLES: tuple[Case, ...] = (
    Case(
        _A2C,
        (
            _IN,
            ev.InternalFailure(vantage=Vantage.AGENT, at=2.0, party=Party.AGENT, what="KeyError"),
            _ended(Party.CLIENT, StreamEnd.EOF),
        ),
    ),
    Case(
        _S2A,
        (
            ev.Superseded(vantage=Vantage.SERVER, at=2.0, by_instance="i-2"),
            _said(Party.AGENT, "agent.shutdown"),
        ),
    ),
    Case(
        _A2C,
        (
            ev.ProtocolViolated(
                vantage=Vantage.AGENT, at=2.0, by=Party.CLIENT, what="bad SSH version"
            ),
            _ended(Party.CLIENT, StreamEnd.EOF),
        ),
    ),
    Case(_A2C, (_IN, _said(Party.AGENT, "agent.shutdown"), _ssh_bye(1))),
    Case(
        _A2C,
        (
            ev.AccessRefused(vantage=Vantage.AGENT, at=1.0, why=AccessRefusal.UNKNOWN_KEY),
            _CLOSED,
        ),
    ),
    Case(
        _A2C,
        (
            ev.HandshakeTimedOut(vantage=Vantage.AGENT, at=9.0, by=Party.CLIENT, after_s=30),
            _CLOSED,
        ),
    ),
    Case(
        _A2C,
        (
            _IN,
            ev.PolicyRefused(
                vantage=Vantage.AGENT, at=1.5, policy=Policy.BLOCK_FILE_TRANSFER, what="scp"
            ),
            _exited(BLOCKED_EXIT_CODE),
            _ssh_bye(0),
        ),
    ),
    Case(_A2C, (_backend(signal="KILL", oom_kills=1),)),
    Case(_A2C, (_backend(signal="TERM"),)),
    Case(_A2C, (_backend(0),)),
    Case(_A2C, (_backend(3),)),
    Case(_A2C, (_backend(oom_kills=None),)),
    Case(_A2C, (_ide_closed(Party.CLIENT),)),
    Case(_A2C, (_ide_closed(Party.AGENT),)),
    Case(_A2C, (_IN, _ssh_bye(1, code=2))),
    Case(
        _A2C,
        (
            _IN,
            ev.TerminalDetached(vantage=Vantage.AGENT, at=2.0, by=Party.CLIENT, open_sessions=0),
            _ssh_bye(0),
        ),
    ),
    Case(_A2C, (_IN, _exited(None, "TERM"), _ssh_bye(0))),
    Case(_A2C, (_IN, _exited(3), _ssh_bye(0))),
    Case(_A2C, (_IN, _ssh_bye(1))),
    Case(_A2C, (_IN, _exited(None, "KILL"), _CLOSED)),
    Case(_A2C, (_IN, _exited(0), _CLOSED)),
    Case(_A2C, (_IN, _CLOSED)),
    Case(ConnectType.CLIENT_TO_SERVER, (_said(Party.CLIENT, "client.closed"),)),
    Case(_A2C, (_CLOSED,)),
    Case(_A2C, (_died(Party.AGENT, rebooted=True), _ended(Party.AGENT, StreamEnd.SILENT))),
    Case(_A2C, (_died(Party.AGENT), _ended(Party.AGENT, StreamEnd.EOF))),
    Case(
        _S2A,
        (_died(Party.SERVER), _ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT)),
    ),
    Case(_A2C, (_IN, _ended(Party.CLIENT, StreamEnd.EOF))),
    Case(_A2C, (_IN, _ended(Party.CLIENT, StreamEnd.SILENT))),
    Case(_S2A, (_ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER),)),
    Case(
        _S2A,
        (
            _ended(Party.AGENT, StreamEnd.SILENT, Vantage.SERVER),
            ev.TcpCounters(
                vantage=Vantage.SERVER,
                at=3.0,
                peer=Party.AGENT,
                retransmits=0,
                probes=0,
                unacked=0,
                total_retrans=0,
                last_data_recv_ms=46_000,
                last_ack_recv_ms=900,
                pmtu=1500,
                rtt_us=400,
            ),
        ),
    ),
    Case(_S2A, (_ended(Party.AGENT, StreamEnd.SILENT, Vantage.SERVER),)),
    Case(_S2A, (_ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT),)),
    Case(_S2A, (_ended(Party.SERVER, StreamEnd.SILENT, Vantage.AGENT),)),
    Case(_A2C, (_IN, _ended(Party.RELAY, StreamEnd.EOF, Vantage.AGENT))),
    Case(_A2C, (_IN, _ended(Party.RELAY, StreamEnd.TIMED_OUT, Vantage.AGENT))),
    Case(
        _A2C,
        (
            _IN,
            _died(Party.SERVER),
            ev.NeverReturned(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT, waited_s=15),
        ),
    ),
    Case(
        _A2C,
        (
            _IN,
            ev.NeverReturned(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT, waited_s=15),
        ),
    ),
    Case(_A2C, (ev.ReportMissing(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT),)),
)
"""One case per rule, in the order of the table."""
