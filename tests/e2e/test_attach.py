"""`tether attach` with real programs: terminals that survive their clients, seen in tmux."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, children_of, truth, wait_for
from tests.support.e2e.window import Window

pytestmark = [
    pytest.mark.long,
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


Attach = Callable[..., Window]


@pytest.fixture
def windows() -> Iterator[list[Window]]:
    opened: list[Window] = []
    try:
        yield opened
    finally:
        for window in opened:
            window.close()


@pytest.fixture
def attach(stack: Stack, windows: list[Window]) -> Attach:
    """Open a window with `tether attach dev …`."""

    def opened(*words: str, **size: int) -> Window:
        windows.append(Window.attached(stack, *words, **size))
        return windows[-1]

    return opened


def test_an_agent_that_is_starting_is_waited_for_and_the_user_is_told(
    own_stack: Stack, windows: list[Window]
) -> None:
    own_stack.agent.stop()
    own_stack.env["TETHER_WAIT"] = str(DEADLINE_S)
    windows.append(window := Window.attached(own_stack))
    window.shows("tether: the agent of workspace dev is not connected", "waiting for it up to")
    own_stack.start_agent(wait=False)
    window.line("echo he''re")
    window.shows("here")


def terminals(stack: Stack) -> dict[str, dict[str, Any]]:
    rows = json.loads(stack.tether("attach", "dev", "--list", "--json").stdout)
    return {row["id"]: row for row in rows}


def ready(window: Window) -> None:
    """The shell of the window's terminal reads commands."""
    wait_for("a prompt", lambda: "".join(window.screen()).strip())
    window.line("PS1='rea''dy> '; clear")  # what is typed is not what is waited for
    window.shows("ready>")


def test_a_shell_ends_with_its_code_and_the_window_is_given_back(
    stack: Stack, attach: Attach
) -> None:
    with stack.one_new_row() as row:
        window = attach()
        ready(window)
        window.line("printf '\\033[?1000h\\033[31mred'; exit 7")
        window.shows("tether: the shell ended with exit code 7", "code=7", "given back")
        _, flags = window.look()
        assert flags.strip().endswith(",0,0,1")
    assert (row["type"], truth(row)) == ("reconnecting_pty", ("graceful", "client", True))
    assert (row["disconnect_cause"], row["exit_code"]) == ("session.exit", 7)


@pytest.mark.skipif(shutil.which("vim") is None, reason="vim is not installed")
def test_vim_is_the_same_after_a_detach_for_every_window(stack: Stack, attach: Attach) -> None:
    (stack.home / "program.py").write_text(
        "def f(x: int) -> str:\n    return 'ä漢字🙂' * x  # no\n"
    )
    with stack.one_new_row() as row:
        first = attach("--id", "edit")
        ready(first)
        first.line("vim -u NONE -c 'syntax on' -c 'set number mouse=a' program.py")
        first.shows("漢字", "~")
        first.keys("G", "o", "typed here", "Escape", "0")
        first.shows("3 typed here")
        before = wait_for("a still screen", lambda: still(first))
        first.keys("C-\\", "d")
        first.shows("detached; ", "code=0", "given back")
        first.shows("attach again with `tether attach dev --id edit`")
    assert truth(row) == ("client_closed", "client", True)
    assert (row["type"], row["disconnect_cause"]) == ("reconnecting_pty", "session.detached")
    assert terminals(stack)["edit"]["viewers"] == []

    second = attach("--id", "edit")
    wait_for("the same screen", lambda: second.look() == before)

    third = attach("--id", "edit", cols=80, rows=24)  # the smallest window decides
    third.shows("3 typed here")
    wait_for("both windows to show one screen", lambda: corner(second) == third.screen())
    assert terminals(stack)["edit"]["viewers"] == ["admin", "admin"]
    third.keys("O", "from the third", "Escape")
    third.shows("from the third")
    second.shows("from the third")
    third.keys("C-\\", "d")
    third.shows("detached")
    second.keys("u")
    wait_for("the first size, and the first screen but for the message", lambda: still_text(second))
    second.keys(":q!", "Enter")
    second.shows("ready>")
    second.line("exit")
    second.shows("the shell ended with exit code 0", "code=0")


def still(window: Window) -> tuple[list[str], str] | None:
    look = window.look()
    return look if look == window.look() else None


def corner(window: Window) -> list[str]:
    return [line[:80].rstrip() for line in window.screen()[:24]]


def still_text(window: Window) -> bool:
    lines = window.screen()
    return len(lines) == 30 and lines[2].split() == ["3", "typed", "here"] and "~" in lines[26]


def test_a_killed_client_loses_nothing(stack: Stack, attach: Attach) -> None:
    with stack.one_new_row() as row:
        first = attach("--id", "kept")
        ready(first)
        first.line("MINE=kept-in-memory")
        first.shows("ready> MINE=kept-in-memory")
        os.kill(first.client(), signal.SIGKILL)
        first.shows("code=137")
    assert truth(row) == ("client_closed", "client", True)
    assert (row["type"], row["disconnect_cause"]) == ("reconnecting_pty", "session.detached")
    second = attach("--id", "kept", cols=90, rows=20)
    second.shows("ready> MINE=kept-in-memory")
    second.line("echo $MINE-still; exit 3")
    second.shows("kept-in-memory-still", "code=3")


def test_a_window_that_is_closed_and_a_signal_are_detaches(stack: Stack, attach: Attach) -> None:
    with stack.one_new_row() as row:
        closed = attach("--id", "hup")
        ready(closed)
        closed.tmux("kill-server")
    assert (truth(row), row["type"]) == (("client_closed", "client", True), "reconnecting_pty")
    with stack.one_new_row() as row:
        stopped = attach("--id", "hup")
        stopped.shows("ready>")
        os.kill(stopped.client(), signal.SIGTERM)
        stopped.shows("detached; ", "attach again", "code=143", "given back")
    assert (truth(row), row["disconnect_cause"]) == (
        ("client_closed", "client", True),
        "session.detached",
    )
    assert stack.tether("attach", "dev", "--kill", "hup").stdout == "terminal hup is being ended\n"


def test_killing_ssh_is_a_lost_connection(stack: Stack, attach: Attach) -> None:
    with stack.one_new_row() as row:
        window = attach("--id", "cut")
        ready(window)
        (ssh,) = (pid for pid in children_of(window.client()))
        os.kill(ssh, signal.SIGKILL)
        window.shows(
            "lost; try to attach again with `tether attach dev --id cut`", "code=255", "given back"
        )
    assert (row["type"], row["disconnect_reason"] != "unknown") == ("reconnecting_pty", True)
    assert row["disconnect_initiator"] == "client"
    attach_end = stack.agent.events("terminal attach closed")[-1]
    assert attach_end["disconnect_cause"] == row["disconnect_cause"]
    again = attach("--id", "cut")
    again.shows("ready>")
    again.line("exit")
    again.shows("code=0")


@pytest.mark.parametrize("program", ["", "seq 1 200 | less"])
def test_a_gap_is_one_line_that_goes_away_and_leaves_the_screen_as_it_was(
    stack: Stack, attach: Attach, program: str
) -> None:
    window = attach()
    ready(window)
    window.line(program or "seq 1 60")
    window.shows("24" if program else "60")
    before = wait_for("a screen that stays", lambda: settled(window))
    stack.agent.process.send_signal(signal.SIGSTOP)
    try:
        window.keys("x")  # something to wait for
        window.shows("reconnecting… Ctrl-\\ d to detach")
        assert window.screen()[0].startswith("tether: connection to dev lost ")
        assert window.screen()[1:-1] == before[1:-1]
    finally:
        stack.agent.process.send_signal(signal.SIGCONT)
    window.shows("tether: resumed after ")
    wait_for("the whole screen", lambda: window.screen()[:-1] == before[:-1])
    window.keys("BSpace", "q")
    window.keys("C-\\", "d")
    window.shows("tether: detached; ", "attach again with", "given back")


def settled(window: Window) -> list[str] | None:
    first = window.screen()
    return first if first == window.screen() and first[-1].strip() else None


def test_a_connection_that_is_given_up_during_a_gap_says_why(stack: Stack, attach: Attach) -> None:
    window = attach()
    ready(window)
    stack.agent.process.send_signal(signal.SIGSTOP)
    try:
        window.keys("x")
        window.shows("reconnecting… Ctrl-\\ d to detach")
        window.keys("C-\\", "d")
        told = "try to attach again with `tether attach dev --id "
        window.shows(told, "code=255", "given back")
        assert "reconnecting" not in "".join(window.screen())
    finally:
        stack.agent.process.send_signal(signal.SIGCONT)


def test_a_runaway_program_is_stopped_at_once(attach: Attach) -> None:
    window = attach()
    ready(window)
    window.line("yes runaway")
    window.shows("runaway")
    window.keys("C-c")
    window.line("clear; echo sto''pped")
    window.shows("stopped")
    window.line("exit")
    window.shows("code=0")


def test_a_megabyte_is_pasted_whole(stack: Stack, attach: Attach) -> None:
    window = attach()
    ready(window)
    text = "".join(f"{number:09}\n" for number in range(100_000))
    paste = stack.root / "paste"
    paste.write_text(text)
    window.line("stty -icanon -icrnl -echo; echo go''es; head -c 1000000 | md5sum; exit")
    window.shows("goes")
    window.tmux("load-buffer", str(paste))
    window.tmux("paste-buffer", "-r", "-t", "t")
    window.shows(hashlib.md5(text.encode()).hexdigest(), "code=0")


def test_bytes_that_are_no_attach_end_it_and_nothing_else(stack: Stack, attach: Attach) -> None:
    window = attach()
    ready(window)
    with stack.one_new_row() as row:
        argv = stack.ssh_argv("-s", stack.host, "tether-pty")
        done = subprocess.run(
            argv, env=stack.env, input=b"no attach\n", capture_output=True, timeout=DEADLINE_S
        )
    assert done.returncode == 1
    assert b'"cause":"client.protocol_error"' in done.stdout
    assert (row["type"], truth(row)) == ("reconnecting_pty", ("protocol_error", "client", False))
    assert (row["exit_code"], row["disconnect_cause"]) == (1, "client.protocol_error")
    (line,) = stack.agent.events("terminal attach closed")[-1:]
    assert line["disconnect_cause"] == "client.protocol_error"
    assert "connection_id" not in line
    window.line("exit 5")
    window.shows("code=5")


def test_terminals_are_listed_renamed_and_ended(stack: Stack, attach: Attach) -> None:
    window = attach("--id", "box", "--name", "first", "--", "exec", "sleep", "1000")
    listed = wait_for("the terminal", lambda: terminals(stack).get("box"))
    assert {key: listed[key] for key in ("name", "command", "rows", "cols", "viewers")} == {
        "name": "first",
        "command": "exec sleep 1000",
        "rows": 30,
        "cols": 100,
        "viewers": ["admin"],
    }
    with stack.one_new_row() as row:
        stack.tether("attach", "--rename", "box", "second", "dev")
    assert (truth(row), row["type"]) == (("graceful", "client", True), "reconnecting_pty")
    assert terminals(stack)["box"]["name"] == "second"
    assert "second" in stack.tether("attach", "dev", "--list").stdout
    stack.tether("attach", "dev", "--kill", "box")
    window.shows("ended on request by admin", "code=1")

    def viewers_row() -> dict[str, object] | None:
        rows = stack.connections(workspace="dev", cause="session.killed")
        return rows[0] if rows else None

    killed = wait_for("the viewer's row", viewers_row)
    assert (truth(killed), killed["disconnect_actor"]) == (
        ("client_closed", "client", True),
        "user:admin",
    )
    missing = stack.tether("attach", "dev", "--kill", "box", check=False)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "tether: this workspace has no terminal 'box'\n"


def test_what_cannot_be_is_one_line(stack: Stack) -> None:
    no_terminal = stack.tether("attach", "dev", check=False)
    assert (no_terminal.returncode, no_terminal.stderr.count("\n")) == (1, 1)
    assert "needs one" in no_terminal.stderr
    nowhere = stack.tether("attach", "nosuch", "--list", check=False)
    assert (nowhere.returncode, nowhere.stdout, nowhere.stderr.count("\n")) == (255, "", 1)
    both = stack.tether("attach", "dev", "--list", "--kill", "x", check=False)
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)


def test_an_agent_that_stops_says_so_in_every_window(own_stack: Stack) -> None:
    opened: list[Window] = []
    try:
        with own_stack.one_new_row() as row:
            window = Window.attached(own_stack, "--id", "w")
            opened.append(window)
            ready(window)
            shell = children_of(own_stack.agent.pid)
            assert own_stack.agent.stop() == 0
            screen = window.shows("code=255", "given back")
        assert "tether: The workspace's agent was asked to stop" in "".join(screen)
        assert (row["type"], row["disconnect_cause"]) == ("reconnecting_pty", "agent.shutdown")
        for pid in shell:
            assert not os.path.exists(f"/proc/{pid}")
        ends = [
            line
            for line in own_stack.agent.events()
            if line.get("connection_id") == row["id"] and "disconnect_reason" in line
        ]
        assert [line["event"] for line in ends] == ["ssh connection closed"]
        ended = {
            line["event"]: line["disconnect_cause"]
            for line in own_stack.agent.events()
            if line["event"] in ("terminal attach closed", "terminal closed")
        }
        assert ended == {
            "terminal attach closed": "agent.shutdown",
            "terminal closed": "agent.shutdown",
        }
    finally:
        for window in opened:
            window.close()


def test_a_terminal_that_nobody_looks_at_is_ended_after_its_time(own_stack: Stack) -> None:
    own_stack.agent.stop()
    agent = own_stack._start(
        "agent",
        [
            *("agent", "--server", own_stack.url, "--token-file", str(own_stack.agent_token)),
            *("--data-dir", str(own_stack.root / "agent"), "--log-format", "json"),
            *("--terminal-idle", "1s"),
        ],
    )
    agent.wait_event("agent ready")
    window = Window.attached(own_stack, "--id", "w")
    try:
        ready(window)
        window.keys("C-\\", "d")
        window.shows("code=0")
    finally:
        window.close()
    end = agent.wait_event("terminal closed")
    assert (end["disconnect_cause"], end["disconnect_actor"]) == (
        "session.idle_expired",
        "policy:terminal-idle",
    )
    assert terminals(own_stack) == {}


def test_a_workspace_that_is_stopped_and_started_has_new_terminals(own_stack: Stack) -> None:
    opened: list[Window] = []
    try:
        with own_stack.one_new_row() as row:
            opened.append(Window.attached(own_stack, "--id", "w"))
            ready(opened[0])
            own_stack.tether("workspace", "stop", "dev")
            opened[0].shows("code=255", "given back")
        assert (row["type"], row["disconnect_reason"]) == ("reconnecting_pty", "workspace_stopped")
        own_stack.tether("workspace", "start", "dev")

        def started() -> bool:
            done = own_stack.tether("attach", "dev", "--list", "--json", check=False)
            return done.returncode == 0 and bool(json.loads(done.stdout) == [])

        wait_for("a workspace without terminals", started)
        opened.append(Window.attached(own_stack, "--id", "w"))
        ready(opened[1])
        opened[1].line("exit 4")
        opened[1].shows("code=4")
    finally:
        for window in opened:
            window.close()
