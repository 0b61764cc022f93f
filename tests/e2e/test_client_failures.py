"""A client that fails by a bug of its own says so: its end is never one in good order."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, truth, wait_for

pytestmark = [pytest.mark.real, pytest.mark.long]

FAILED = ("client.internal_error", ("process_crashed", "client", False))

PROXY = """
import signal
import subprocess
import sys
from tether.cli.ssh import stdio
from tether.client import bridge

def fails(*_):
    raise RuntimeError("a bug")

{place} = fails
sys.exit(stdio.main(sys.argv[1:]))
"""
"""The client's own program, with a bug in one place."""


def connect(stack: Stack, place: str, directory: Path, code: int = 255) -> str:
    """Run a stock ssh over a client that fails at `place`; what it says."""
    program = directory / "proxy.py"
    program.write_text(PROXY.format(place=place))
    command = f"ProxyCommand={sys.executable} {program} %n"
    done = stack.run(*stack.ssh_argv("-o", command, stack.host, "true"))
    assert done.returncode == code
    return done.stderr


@pytest.mark.parametrize("place", ["bridge.FdWriter.write", "bridge.read_to_end"])
def test_a_client_that_fails_while_it_carries_bytes_ends_its_connection_as_failed(
    stack: Stack, tmp_path: Path, place: str
) -> None:
    with stack.one_new_row() as row:
        said = connect(stack, place, tmp_path)
    assert (row["disconnect_cause"], truth(row)) == FAILED
    assert "tether: The client's tether program failed internally" in said
    facts = stack.explain(row["id"])["evidence"]
    failures = [fact for fact in facts if fact["kind"] == "internal_failure"]
    want = ("client", {"party": "client", "what": "RuntimeError: a bug"})
    told = {fact["reporter"]: (fact["vantage"], fact["values"]) for fact in failures}
    assert told == {"client": want, "agent": want}, (
        "by itself, and by the agent to which it said so"
    )


def test_a_client_that_fails_before_there_is_a_connection_leaves_its_link_as_failed(
    stack: Stack, tmp_path: Path
) -> None:
    before = stack.ids()
    said = connect(stack, "stdio.trust_grant", tmp_path)
    assert "tether: internal error: RuntimeError: a bug" in said

    def links() -> list[tuple[str, tuple[str, str, bool]]]:
        rows = [row for row in stack.connections(type="control") if row["id"] not in before]
        return [(r["disconnect_cause"], truth(r)) for r in rows if r["disconnected_at"]]

    assert wait_for("the row of the link", links) == [FAILED]


def test_a_client_that_fails_after_its_connection_has_ended_is_not_why_that_ended(
    stack: Stack, tmp_path: Path
) -> None:
    before = stack.ids()
    with stack.one_new_row() as row:
        connect(stack, "stdio.judge", tmp_path, code=0)
    assert row["disconnect_cause"] == "session.exit"

    def link() -> str | None:
        rows = [one for one in stack.connections(type="control") if one["id"] not in before]
        return next((one["disconnect_cause"] for one in rows if one["disconnected_at"]), None)

    assert wait_for("the row of the link", link) == "client.internal_error"
    told = stack.explain(row["id"])
    assert row["disconnect_cause"] == told["disconnect_cause"]
    assert "internal_failure" in [fact["kind"] for fact in told["symptoms"]]


def test_a_server_that_does_not_answer_is_told_of_soon_and_named(own_stack: Stack) -> None:
    own_stack.server.process.send_signal(signal.SIGSTOP)
    ssh = own_stack.spawn_ssh(own_stack.host, "true", stdin=subprocess.DEVNULL)
    try:
        assert ssh.stderr is not None
        first = ssh.stderr.readline().decode()
        assert first == f"tether: waiting for the server at {own_stack.url} to answer\n"
        own_stack.server.process.send_signal(signal.SIGCONT)
        _, errors = ssh.communicate(timeout=DEADLINE_S)
    finally:
        own_stack.server.process.send_signal(signal.SIGCONT)
        ssh.kill()
        ssh.wait(DEADLINE_S)
    assert (ssh.returncode, errors) == (0, b"")
