"""A client that died is told of by the next one of the same user."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, children_of, wait_for

pytestmark = pytest.mark.real


def begun(journals: Path) -> list[Path]:
    """The journals that say whose they are: one that was only created tells nothing yet."""
    return [path for path in journals.glob("*.journal") if path.read_bytes().count(b"\n")]


def test_the_next_client_hands_in_what_a_dead_one_left(stack: Stack) -> None:
    journals = stack.root / "client" / "journal"
    with stack.one_new_row() as row:
        ssh = stack.spawn_ssh(stack.host, "echo up; exec sleep 600")
        assert ssh.stdout is not None and ssh.stdout.readline() == b"up\n"
        (left,) = wait_for("the journal", lambda: begun(journals))
        os.kill(children_of(ssh.pid)[0], signal.SIGKILL)
        ssh.wait(DEADLINE_S)
    for pipe in (ssh.stdin, ssh.stdout, ssh.stderr):
        if pipe is not None:
            pipe.close()

    heir = stack.spawn_ssh(stack.host, "echo up; exec sleep 600")
    try:
        wait_for("the journal to be handed in", lambda: not left.exists() or None)
    finally:
        heir.terminate()
        heir.wait(DEADLINE_S)
        for pipe in (heir.stdin, heir.stdout, heir.stderr):
            if pipe is not None:
                pipe.close()

    def told() -> dict[str, Any] | None:
        facts = stack.explain(row["id"])["evidence"]
        return next((f for f in facts if f["kind"] == "previous_run_died"), None)

    death = wait_for("the client's post-mortem", told)
    assert (death["vantage"], death["values"]["party"]) == ("client", "client")
    assert not death["values"]["host_rebooted"]
    wait_for("its own journal to be gone", lambda: not list(journals.glob("*.journal")) or None)
