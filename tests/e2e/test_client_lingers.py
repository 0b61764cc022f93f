"""A client whose server is away lets its user go, and stays behind to tell how the connection ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, children_of, wait_for

pytestmark = [pytest.mark.real, pytest.mark.long]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = None
    try:
        made = Stack(tmp_path)
        yield made
    finally:
        if made is not None:
            made.close()


@dataclass
class Left:
    """A user's `ssh` that has ended, and the client behind it."""

    connection_id: str
    proxy: int

    @property
    def lives(self) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.proxy}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False


@contextlib.contextmanager
def left_while_the_server_is_away(stack: Stack) -> Iterator[Left]:
    """A session over a direct way; its server is killed, and then its user closes it."""
    before = stack.ids()
    ssh = stack.spawn_ssh(stack.host, "echo up; exec sleep 600")
    (proxy,) = wait_for("the client", lambda: children_of(ssh.pid) or None)
    try:
        assert ssh.stdout is not None and ssh.stdout.readline() == b"up\n"

        def direct() -> str | None:
            rows = [row for row in stack.connections() if row["id"] not in before]
            used = [row["id"] for row in rows if row["connection_method"] == "direct"]
            return str(used[0]) if used else None

        connection_id = wait_for("a direct way", direct)
        stack.server.stop(signal.SIGKILL)
        ssh.terminate()
        ssh.communicate(timeout=DEADLINE_S)  # nobody holds its pipes
        yield Left(connection_id, proxy)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(proxy, signal.SIGKILL)
        ssh.kill()
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
            ssh.communicate(timeout=DEADLINE_S)


def told_by_client(stack: Stack, connection_id: str) -> list[dict[str, Any]] | None:
    facts = stack.explain(connection_id)["evidence"]
    return [fact for fact in facts if fact["reporter"] == "client"] or None


def journals(stack: Stack) -> list[str]:
    return sorted(path.name for path in (stack.root / "client" / "journal").glob("*.journal"))


def test_a_client_lets_its_user_go_at_once_and_tells_the_server_when_it_is_back(
    stack: Stack,
) -> None:
    with left_while_the_server_is_away(stack) as left:
        assert left.lives
        assert len(journals(stack)) == 1, "what it waits to tell is safe on the disk"
        stack.start_server()
        wait_for("the client's word", lambda: told_by_client(stack, left.connection_id))
        wait_for("the client to end", lambda: not left.lives)
        assert journals(stack) == []


def test_a_client_that_stays_behind_ends_when_it_is_told_to_and_the_next_one_tells(
    stack: Stack,
) -> None:
    with left_while_the_server_is_away(stack) as left:
        os.kill(left.proxy, signal.SIGHUP)  # as ssh does when it leaves
        assert left.lives
        os.kill(left.proxy, signal.SIGTERM)
        wait_for("the client to end", lambda: not left.lives)
        (kept,) = journals(stack)
        stack.start_server()
        wait_for(
            "the agent to be back", lambda: stack.explain(left.connection_id)["disconnected_at"]
        )
        heir = stack.spawn_ssh(stack.host, "echo up; exec sleep 600")
        try:
            assert heir.stdout is not None and heir.stdout.readline() == b"up\n"
            wait_for("it to be handed in", lambda: kept not in journals(stack))
        finally:
            heir.terminate()
            heir.communicate(timeout=DEADLINE_S)
        assert told_by_client(stack, left.connection_id)
