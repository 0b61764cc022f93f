"""What the owner of a workspace tells its agent, seen through the stock programs of Debian."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, truth, wait_for

pytestmark = [
    pytest.mark.long,
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
                *("--stop-script", str(script), "--metrics-listen", "127.0.0.1:0"),
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


def test_metrics_and_state_are_told_on_this_machine_without_a_secret(strict: Stack) -> None:
    url = strict.agent.wait_event("metrics ready")["url"]
    assert strict.tether("ssh", "dev", "exit 4", check=False).returncode == 4

    def read(path: str) -> str:
        with urllib.request.urlopen(url.replace("/metrics", path), timeout=DEADLINE_S) as answer:
            return str(answer.read().decode())

    ended = 'tether_agent_sessions_total{app="ssh",pty="false",type="ssh"} '
    wait_for("a session that ended", lambda: ended + "0" not in read("/metrics") or None)
    assert 'tether_agent_connections_open{method="derp"} ' in read("/metrics")
    state = json.loads(read("/debug/state"))
    assert (state["workspace"], state["policy"]["block_file_transfer"]) == ("dev", True)
    assert "HOME" in state["variables"]
    told = read("/metrics") + read("/debug/state")
    for secret in (strict.agent_token.read_text().strip(), str(strict.home)):
        assert secret not in told
    with pytest.raises(urllib.error.HTTPError, match="404"):
        read("/debug/token")


def test_metrics_are_told_on_no_other_address(strict: Stack) -> None:
    done = strict.tether(
        *("agent", "--server", strict.url, "--token-file", str(strict.agent_token)),
        *("--data-dir", str(strict.root / "other"), "--metrics-listen", "0.0.0.0:0"),
        check=False,
    )
    assert done.returncode == 2
    assert "0.0.0.0 is no loopback address" in done.stderr


def test_the_stop_script_runs_when_the_workspace_and_when_the_agent_stops(strict: Stack) -> None:
    told = strict.root / "agent" / "stop-script.log"
    strict.tether("workspace", "stop", "dev")
    wait_for("the script of the stop", lambda: told.exists() and told.read_text())
    assert told.read_text() == "workspace.stopped by user:admin\n"
    assert strict.agent.stop() == 0
    last = told.read_text().splitlines()[1:]
    assert [line.split(" from ")[0] for line in last] == ["agent.shutdown by signal:15"]
