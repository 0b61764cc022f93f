"""A person at a terminal, with tmux as the terminal: full-screen programs, resizing, pasting, wide
characters, and the keys that people press when something runs away.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, Stack, children_of, truth, wait_for

pytestmark = pytest.mark.real
PROMPT = "tether-prompt:"


class Screen:
    """A tmux window of its own server, in which one command runs."""

    def __init__(self, stack: Stack, command: list[str], socket: Path) -> None:
        self._tmux = ["tmux", "-u", "-S", str(socket), "-f", "/dev/null"]
        self._env = {**stack.env, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        self("new-session", "-d", "-x", "100", "-y", "30", shlex.join(command))

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [*self._tmux, *words], env=self._env, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def type(self, text: str) -> None:
        self("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        self("send-keys", *keys)

    def paste(self, text: Path, *, bracketed: bool) -> None:
        """Paste a file. tmux keeps the marks away from programs that did not ask for them."""
        self("load-buffer", str(text))
        self("paste-buffer", "-r", *(["-p"] if bracketed else []))

    @property
    def text(self) -> str:
        """What the window shows."""
        return self("capture-pane", "-p")

    @property
    def pid(self) -> int:
        """The command in the window."""
        return int(self("display-message", "-p", "#{pane_pid}"))

    def modes(self) -> dict[str, str]:
        """What programs have told the terminal."""
        names = ("alternate_on", "mouse_any_flag", "cursor_flag")
        told = self("display-message", "-p", " ".join(f"#{{{name}}}" for name in names))
        return dict(zip(names, told.split(), strict=True))

    def ssh(self) -> int:
        """The `ssh` of the `tether ssh` that runs in the window's shell; 0 while there is none."""
        for tether in children_of(self.pid):
            for ssh in children_of(tether):
                return ssh
        return 0

    def proxies(self) -> list[int]:
        """The ProxyCommand of that, once it runs."""
        return children_of(self.ssh()) if self.ssh() else []

    def expect(self, text: str, seconds: float = DEADLINE_S) -> None:
        seen = ""

        def check() -> bool:
            nonlocal seen
            seen = self.text
            return text in seen

        try:
            wait_for(f"{text!r} on the screen", check, seconds)
        except AssertionError as failed:
            raise AssertionError(f"{failed}:\n{seen}") from None

    def close(self) -> None:
        subprocess.run(
            [*self._tmux, "kill-server"], env=self._env, capture_output=True, timeout=DEADLINE_S
        )


@pytest.fixture
def screen(stack: Stack, tmp_path: Path) -> Iterator[Screen]:
    """A terminal with a shell in the workspace."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    opened = Screen(stack, stack.ssh_argv("-tt", stack.host), tmp_path / "tmux")
    try:
        at_prompt(opened)
        yield opened
    finally:
        opened.close()


def at_prompt(screen: Screen) -> None:
    """A shell that says who it is, without line editing that would redraw what is typed."""
    screen.type("exec bash --norc --noprofile\n")
    screen.type(f"PS1={PROMPT[:4]}''{PROMPT[4:]}; export LC_ALL=C.UTF-8; clear\n")
    screen.expect(f"{PROMPT}\n")


def fresh(screen: Screen, command: str) -> None:
    screen.type(f"clear; {command}\n")


# -- full-screen programs -----------------------------------------------------------------------


def test_vim_edits_and_saves(stack: Stack, screen: Screen) -> None:
    vim = shutil.which("vim") or shutil.which("vi")
    if vim is None:
        pytest.skip("vim is not installed")
    file = stack.home / "edited.txt"
    file.write_text("first\nlast\n")
    screen.type(f"{vim} -u NONE -N --not-a-term {file}\n")
    screen.expect("~\n~\n")
    screen.type("o")
    screen.type("between: ünï 字")
    screen.expect("between: ünï 字")
    screen.press("Escape")
    screen.type(":wq\n")
    screen.expect(PROMPT)
    assert file.read_text() == "first\nbetween: ünï 字\nlast\n"


def test_a_process_monitor_draws_and_quits(screen: Screen) -> None:
    program = "htop" if shutil.which("htop") else "top"
    if shutil.which(program) is None:
        pytest.skip("neither htop nor top is installed")
    screen.type(f"{program}\n")
    screen.expect("PID")
    screen.press("q")
    screen.expect(PROMPT)


def test_a_resize_to_500_columns_reaches_the_program(screen: Screen) -> None:
    screen("resize-window", "-x", "500", "-y", "120")
    wait_for(
        "the window to be wide",
        lambda: screen("display-message", "-p", "#{pane_width}x#{pane_height}") == "500x120\n",
    )
    fresh(screen, "until [ \"$(stty size)\" = '120 500' ]; do sleep 0.05; done; echo si''zed")
    screen.expect("sized")
    fresh(screen, "printf '%0500d' 0; echo en''d")
    screen.expect("0" * 500)  # on one line
    screen("resize-window", "-x", "20", "-y", "5")
    fresh(screen, "until [ \"$(stty size)\" = '5 20' ]; do sleep 0.05; done; echo sma''ll")
    screen.expect("small")


# -- pasting ------------------------------------------------------------------------------------

RAW_READER = r"""
import hashlib, os, sys, tty
tty.setraw(0)
os.write(1, b"\x1b[?2004hready")
seen = b""
while not seen.endswith(b"\x1b[201~"):
    seen += os.read(0, 65536)
os.write(1, b"\x1b[?2004l")
body = seen.removeprefix(b"\x1b[200~").removesuffix(b"\x1b[201~")
open(sys.argv[1], "w").write(f"{len(seen) - len(body)} {hashlib.sha256(body).hexdigest()}")
os.system("stty sane")
"""


def pasted(path: Path) -> tuple[Path, bytes]:
    """One megabyte of lines, none of them longer than a terminal takes."""
    lines = [f"{n:06d} {'ünï 字 ' * 5}{os.urandom(20).hex()}" for n in range(12_000)]
    text = ("\n".join(lines) + "\n").encode()
    assert 1_000_000 < len(text) < 1_500_000
    path.write_bytes(text)
    return path, text


def test_a_megabyte_pasted_into_a_cooked_terminal_arrives_whole(
    stack: Stack, screen: Screen, tmp_path: Path
) -> None:
    source, text = pasted(tmp_path / "paste")
    there = stack.home / "pasted"
    fresh(screen, f"stty -echo; echo rea''dy; cat >{there}; stty sane; echo do''ne")
    screen.expect("ready")
    screen.paste(source, bracketed=False)
    wait_for("the paste", lambda: there.stat().st_size >= len(text) or None)
    screen.press("C-d")
    screen.expect("done")
    assert there.read_bytes() == text


def test_a_megabyte_pasted_with_brackets_arrives_whole_between_them(
    stack: Stack, screen: Screen, tmp_path: Path
) -> None:
    source, text = pasted(tmp_path / "paste")
    reader, there = stack.home / "reader.py", stack.home / "digest"
    reader.write_text(RAW_READER)
    fresh(screen, f"python3 {reader} {there}; echo do''ne")
    screen.expect("ready")
    screen.paste(source, bracketed=True)
    screen.expect("done")
    assert there.read_text() == f"12 {hashlib.sha256(text).hexdigest()}"


# -- characters ---------------------------------------------------------------------------------


def test_wide_and_combining_characters_go_there_and_back(stack: Stack, screen: Screen) -> None:
    words = "ünïcode 漢字 한글 🦀 e\u0301 Ωmega"
    fresh(screen, f'read -r line; echo "<$line>"; printf %s "$line" >{stack.home}/typed')
    screen.type(f"{words}\n")
    screen.expect(f"<{words}>")
    assert (stack.home / "typed").read_text() == words


# -- keys for when something runs away ------------------------------------------------------------


def test_control_c_stops_a_runaway_yes(screen: Screen) -> None:
    screen.type("clear; yes runaway\n")
    screen.expect("runaway\nrunaway\nrunaway")
    screen.press("C-c")
    screen.expect(PROMPT)
    fresh(screen, "echo still he''re")
    screen.expect("still here")


def test_a_client_that_is_stopped_for_a_while_keeps_its_session(
    stack: Stack, tmp_path: Path
) -> None:
    """`~^Z`, its proxy stopped as well (a closed lid), and `fg` after longer than a beat."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    local = Screen(stack, ["bash", "--norc", "--noprofile"], tmp_path / "tmux")
    try:
        local.type("PS1=loc''al:; clear\n")
        local.expect("local:")
        with stack.one_new_row() as row:
            local.type(f"{shlex.join(stack.ssh_argv('-tt', stack.host))}\n")
            at_prompt(local)
            ssh = wait_for("ssh", lambda: next(iter(children_of(local.pid)), None))
            proxy = wait_for("its proxy", lambda: next(iter(children_of(ssh)), None))
            fresh(local, f"(for n in $(seq 60); do echo $n; sleep 0.1; done >{stack.home}/ticks) &")
            local.expect(PROMPT)
            local.press("Enter")
            local.type("~")
            local.press("C-z")
            local.expect("Stopped")
            os.kill(proxy, signal.SIGSTOP)
            try:
                ticks = stack.home / "ticks"
                wait_for("five seconds to pass", lambda: "\n55\n" in ticks.read_text())
            finally:
                os.kill(proxy, signal.SIGCONT)
            local.type("fg\n")
            fresh(local, "echo still he''re")
            local.expect("still here")
            local.type("exit 0\n")
            local.expect("local:")
        assert (truth(row), row["exit_code"]) == (("graceful", "client", True), 0)
        assert row["duration_s"] > 5
    finally:
        local.close()


@pytest.mark.parametrize("ended", ["the connection", "ssh"])
def test_a_terminal_is_given_back_when_something_ends_at_once(
    own_stack: Stack, tmp_path: Path, ended: str
) -> None:
    """A full-screen program had it; nobody is left to tell it that the program is gone."""
    screen = Screen(own_stack, ["sh"], tmp_path / "tmux")
    try:
        screen.type(f"echo before; {shlex.join(TETHER)} ssh dev; echo code $?\n")
        wait_for("the proxy", lambda: screen.proxies())
        screen.type("printf '\\033[?1049h\\033[?1000h\\033[?25l'; echo full''screen; sleep 99\n")
        screen.expect("fullscreen")
        assert screen.modes() == {"alternate_on": "1", "mouse_any_flag": "1", "cursor_flag": "0"}
        if ended == "ssh":
            os.kill(screen.ssh(), signal.SIGKILL)
            screen.expect("code 137")
        else:
            own_stack.agent.stop()
            screen.expect("was asked to stop")
            screen.expect("code 255")
        assert "before" in screen.text
        assert screen.modes() == {"alternate_on": "0", "mouse_any_flag": "0", "cursor_flag": "1"}
        screen.type("echo ty''ped\n")  # the kernel's half of the terminal is as it was, too
        screen.expect("typed")
    finally:
        screen.close()


def test_nothing_of_all_this_was_recorded_as_a_fault(stack: Stack) -> None:
    rows = [r for r in stack.connections(limit=100) if r["connect_type"] == "agent_to_client"]
    wrong = [r for r in rows if r["disconnected_at"] and r["disconnect_initiator"] != "client"]
    assert wrong == []
