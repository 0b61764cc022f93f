"""Claims about the baselines: they say what such systems say, and are scored in the words they know."""

from __future__ import annotations

from typing import Any

import pytest

from tether_gauntlet.baselines import (
    GRACEFUL,
    NETWORK,
    UNKNOWN,
    Answer,
    errno,
    openssh,
    original,
)
from tether_gauntlet.scenario import Truth


def explained(
    *facts: dict[str, Any],
    connect_type: str = "agent_to_client",
    type: str = "ssh",
    exit_code: int | None = None,
    exit_signal: str | None = None,
) -> dict[str, Any]:
    return {
        "connect_type": connect_type,
        "type": type,
        "exit_code": exit_code,
        "exit_signal": exit_signal,
        "evidence": list(facts),
    }


def stopped(how: str) -> dict[str, Any]:
    return {"kind": "stream_ended", "vantage": "relay", "values": {"how": how, "peer": "client"}}


def said(by: str, cause: str) -> dict[str, Any]:
    return {"kind": "goodbye_said", "vantage": "agent", "values": {"by": by, "cause": cause}}


@pytest.mark.parametrize(
    ("how", "answer"),
    [("eof", Answer("graceful", "client", True)), ("reset", NETWORK), ("timed_out", NETWORK)],
)
def test_errno_takes_a_fin_for_grace_and_everything_else_for_the_network(
    how: str, answer: Answer
) -> None:
    assert errno(explained(stopped(how))) == answer


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (explained(exit_code=0), GRACEFUL),
        (explained(exit_code=3), Answer("process exited with error status: 3", "", False)),
        (
            explained(exit_signal="KILL"),
            Answer("process exited with error status: -1", "", False),
        ),
        (explained(stopped("eof")), Answer("process exited with error status: -1", "", False)),
        (explained(type="sftp", exit_code=0), UNKNOWN),
        (explained(stopped("reset"), type="reconnecting_pty"), GRACEFUL),
        (explained(said("agent", "agent.shutdown")), Answer("server_shutdown", "agent", True)),
        (
            explained(said("server", "workspace.stopped")),
            Answer("workspace_stopped", "server", True),
        ),
        (explained(said("server", "server.shutdown"), connect_type="server_to_agent"), NETWORK),
        (
            explained(said("agent", "agent.shutdown"), connect_type="server_to_agent"),
            Answer("server_shutdown", "agent", True),
        ),
        (
            explained(said("client", "client.closed"), connect_type="client_to_server"),
            Answer("graceful", "client", True),
        ),
        (explained(stopped("eof"), connect_type="client_to_server"), NETWORK),
    ],
)
def test_the_established_systems_rules(row: dict[str, Any], answer: Answer) -> None:
    assert original(row) == answer


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (
            "Received disconnect from 10.0.0.2 port 4:11: disconnected by user",
            Answer("client_closed", "client", True),
        ),
        ("Timeout, client not responding from user", Answer("network_error", "client", False)),
        ("Connection reset by 10.0.0.2 port 4", NETWORK),
        ("Exiting on signal 15", Answer("server_shutdown", "agent", True)),
        ("pam_unix(sshd:session): session closed for user root", UNKNOWN),
    ],
)
def test_sshds_log_is_read_for_what_it_says(line: str, answer: Answer) -> None:
    assert openssh(["Accepted publickey for root", line]) == answer


def test_a_baseline_is_scored_in_the_words_that_it_knows() -> None:
    truth = Truth(
        connect_type="agent_to_client",
        reason="client_suspended",
        initiator="network",
        expected=False,
        causes=frozenset({"client.suspended"}),
    )
    assert NETWORK.scored(truth)["correct"] is True
    assert UNKNOWN.scored(truth)["correct"] is False
