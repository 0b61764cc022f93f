"""What the owner of a workspace tells its agent, seen through the stock programs of Debian."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.stack import Stack, truth, wait_for

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH client"),
]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A workspace whose agent allows neither file transfer nor forwarding, and greets its users."""
    stack = Stack(tmp_path_factory.mktemp("strict"))
    try:
        stack.agent.stop()
        (stack.home / "project").mkdir()
        motd = stack.root / "motd"
        motd.write_text("Be kind.\n")
        script = stack.root / "stop.sh"
        script.write_text('#!/bin/sh\necho "$TETHER_STOP_CAUSE by $TETHER_STOP_ACTOR"\n')
        script.chmod(0o700)
        stack.agent = stack._start(
            "strict",
            [
                *("agent", "--server", stack.url, "--token-file", str(stack.agent_token)),
                *("--data-dir", str(stack.root / "agent"), "--log-format", "json"),
                *("--block-file-transfer", "--block-local-forwarding", "--block-remote-forwarding"),
                *("--directory", "~/project", "--motd-file", str(motd)),
                *("--stop-script", str(script)),
            ],
        )
        stack.agent.wait_event("agent ready")
        yield stack
    finally:
        stack.close()


@pytest.mark.parametrize("protocol", [["-O"], []], ids=["over a command", "over sftp"])
def test_a_blocked_scp_fails_and_the_record_names_the_policy(
    strict: Stack, tmp_path: Path, protocol: list[str]
) -> None:
    source = tmp_path / "file"
    source.write_text("content")
    with strict.one_new_row() as row:
        done = strict.run(
            "scp", *protocol, "-F", str(strict.ssh_config), str(source), f"{strict.host}:there"
        )
    assert done.returncode != 0
    assert not (strict.home / "project" / "there").exists()
    if protocol:
        assert "File transfer has been disabled." in done.stderr
    explained = strict.explain(row["id"])
    assert row["disconnect_cause"] == "policy.file_transfer_blocked", explained
    assert "transfer" in explained["sentence"]


def test_a_blocked_port_forward_is_refused_in_words(strict: Stack) -> None:
    with strict.one_new_row() as row:
        done = strict.run(*strict.ssh_argv("-o", "LogLevel=INFO", "-W", "127.0.0.1:1", strict.host))
    assert done.returncode == 255
    assert "local port forwarding is disabled" in done.stderr
    assert row["disconnect_cause"] == "policy.local_forwarding_blocked"


def test_commands_still_run_in_the_directory_that_was_set(strict: Stack) -> None:
    with strict.one_new_row() as row:
        done = strict.ssh('pwd; echo "$TETHER_URL"')
    assert done.stdout == f"{strict.home}/project\n{strict.url}\n"
    assert truth(row) == ("graceful", "client", True)


def test_a_login_shell_on_a_terminal_is_shown_the_message_of_the_day(strict: Stack) -> None:
    done = strict.run(*strict.ssh_argv("-tt", strict.host), input="exit\n")
    assert done.returncode == 0
    assert done.stdout.startswith("Be kind.\n\n")


def test_the_stop_script_runs_when_the_workspace_and_when_the_agent_stops(strict: Stack) -> None:
    told = strict.root / "agent" / "stop-script.log"
    strict.tether("workspace", "stop", "dev")
    wait_for("the script of the stop", lambda: told.exists() and told.read_text())
    assert told.read_text() == "workspace.stopped by user:admin\n"
    assert strict.agent.stop() == 0
    last = told.read_text().splitlines()[1:]
    assert [line.split(" from ")[0] for line in last] == ["agent.shutdown by signal:15"]
