"""Claims about what policy blocks, how it looks to the user, and what the record says."""

from __future__ import annotations

import pytest

from tether.agent.commands.policy import PolicyRefusal, TransferPolicy, check_forward, check_session
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    Basis,
    ConnectType,
    Initiator,
    Party,
    Policy,
    Reason,
    Vantage,
)
from tether.protocol.messages.reports import ForwardKind

NO_FILES = TransferPolicy(block_file_transfer=True)
TEXT = b"\x02File transfer has been disabled.\n"


@pytest.mark.parametrize(
    "command",
    [
        "scp -t /tmp",
        "/usr/bin/scp -f x",
        "rsync --server . x",
        "nc -l 1234",
        "sftp host",
        "sudo -n rsync --server . x",
        "exec scp -t x",
        "sh -c 'scp -t x'",
        "LANG=C /opt/bin/rsync x",
        "busybox nc host 1",
    ],
)
def test_a_transfer_program_is_refused_as_its_user_expects(command: str) -> None:
    refusal = check_session(NO_FILES, command=command)
    assert refusal is not None
    assert (refusal.exit_code, refusal.output) == (65, TEXT)
    assert refusal.cause == "policy.file_transfer_blocked"


@pytest.mark.parametrize("asked", [{"subsystem": "sftp"}, {"command": "/usr/lib/sftp-server"}])
def test_an_sftp_client_is_refused_without_a_text(asked: dict[str, str]) -> None:
    assert check_session(NO_FILES, **asked) == PolicyRefusal(
        policy=Policy.BLOCK_FILE_TRANSFER, what="sftp", message="file transfer has been disabled"
    )


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "echo scp",
        "git upload-pack x",
        "scpx",
        "./rsync.sh",
        "cat scp",
        "",
        None,
        "scp-wrapper",
    ],
)
def test_everything_else_runs(command: str | None) -> None:
    assert check_session(NO_FILES, command=command) is None


def test_nothing_is_blocked_by_default() -> None:
    policy = TransferPolicy()
    assert check_session(policy, command="scp -t x") is None
    assert check_session(policy, subsystem="sftp") is None
    assert all(check_forward(policy, kind) is None for kind in ForwardKind)


@pytest.mark.parametrize(
    ("policy", "blocked", "cause"),
    [
        (
            TransferPolicy(block_local_forwarding=True),
            {ForwardKind.DIRECT_TCPIP, ForwardKind.DIRECT_STREAMLOCAL},
            "policy.local_forwarding_blocked",
        ),
        (
            TransferPolicy(block_remote_forwarding=True),
            {ForwardKind.FORWARDED_TCPIP, ForwardKind.FORWARDED_STREAMLOCAL},
            "policy.remote_forwarding_blocked",
        ),
        (NO_FILES, set(), ""),
    ],
)
def test_each_switch_blocks_its_kinds(
    policy: TransferPolicy, blocked: set[ForwardKind], cause: str
) -> None:
    refusals = {kind: check_forward(policy, kind) for kind in ForwardKind}
    assert {kind for kind, refusal in refusals.items() if refusal} == blocked
    assert {refusal.cause for refusal in refusals.values() if refusal} == ({cause} - {""})


def test_local_sockets_are_refused_in_upstreams_words() -> None:
    refusal = check_forward(
        TransferPolicy(block_local_forwarding=True), ForwardKind.DIRECT_STREAMLOCAL
    )
    assert refusal is not None
    assert refusal.message == "local port forwarding is disabled"


# -- the record -----------------------------------------------------------------------------------

IN = ev.Authenticated(vantage=Vantage.AGENT, at=0.5, user="alice", method="publickey")
BYE = ev.SshDisconnected(vantage=Vantage.AGENT, at=3.0, by=Party.CLIENT, code=11, open_sessions=0)
REFUSED = check_session(NO_FILES, command="scp -t x")
assert REFUSED is not None
FACT = REFUSED.fact(1.0)


def exited(code: int, at: float = 2.0) -> Evidence:
    return ev.SessionEnded(vantage=Vantage.AGENT, at=at, exit_code=code, open_sessions=0)


def judged(*facts: Evidence) -> tuple[str, str]:
    disconnect = classify(ConnectType.AGENT_TO_CLIENT, facts).disconnect
    return disconnect.cause, disconnect.actor


def test_a_refused_transfer_is_attributed_to_the_policy() -> None:
    disconnect = classify(ConnectType.AGENT_TO_CLIENT, (IN, FACT, exited(65), BYE)).disconnect
    assert (
        disconnect.cause,
        disconnect.reason,
        disconnect.initiator,
        disconnect.expected,
        disconnect.basis,
        disconnect.actor,
        disconnect.exit_code,
    ) == (
        "policy.file_transfer_blocked",
        Reason.ACCESS_REVOKED,
        Initiator.AGENT,
        True,
        Basis.OBSERVED,
        "policy:block_file_transfer",
        65,
    )


def test_a_client_that_also_worked_left_as_it_would_have() -> None:
    assert judged(IN, FACT, exited(65), exited(0, 2.5), BYE) == ("session.exit", "")


def test_a_refused_forward_is_why_a_client_that_got_nothing_left() -> None:
    refusal = check_forward(TransferPolicy(block_local_forwarding=True), ForwardKind.DIRECT_TCPIP)
    assert refusal is not None
    assert judged(IN, refusal.fact(1.0), BYE) == (
        "policy.local_forwarding_blocked",
        "policy:block_local_forwarding",
    )


def test_a_client_that_had_other_forwards_left_by_itself() -> None:
    refusal = check_forward(
        TransferPolicy(block_remote_forwarding=True), ForwardKind.FORWARDED_TCPIP
    )
    assert refusal is not None
    served = ev.ForwardServed(vantage=Vantage.AGENT, at=1.5, what="direct_tcpip")
    assert judged(IN, refusal.fact(1.0), served, BYE) == ("client.closed", "")


def test_a_command_that_exits_65_by_itself_is_no_refusal() -> None:
    assert judged(IN, exited(65), BYE) == ("session.exit", "")


def test_a_client_that_left_a_session_open_had_got_something() -> None:
    left = ev.SshDisconnected(
        vantage=Vantage.AGENT, at=3.0, by=Party.CLIENT, code=11, open_sessions=1
    )
    assert judged(IN, FACT, left) == ("client.closed", "")
