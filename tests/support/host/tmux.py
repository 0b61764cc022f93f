"""tmux as an independent terminal: what it shows after the same bytes."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.agent.terminals import screen_cells
from tether.agent.screen.ghostty import Emulator

# The pane writes the stream, then asks for the cursor: the answer says that all of it has been taken.
_PANE = """
import os, sys, termios, tty
tty.setraw(0)
data = open(sys.argv[1], "rb").read()
while data:
    data = data[os.write(1, data):]
os.write(1, b"\\x1b[5n")
seen = b""
while not seen.endswith(b"\\x1b[0n"):
    seen += os.read(0, 1)
open(sys.argv[1] + ".taken", "w").close()
os.execvp("tmux", ["tmux", "-L", sys.argv[2], "wait-for", "-L", "forever"])
"""
_FLAGS = [
    *("cursor_x", "cursor_y", "alternate_on", "cursor_flag", "insert_flag", "keypad_cursor_flag"),
    *("keypad_flag", "mouse_all_flag", "mouse_any_flag", "mouse_button_flag", "mouse_sgr_flag"),
    *("mouse_standard_flag", "origin_flag", "wrap_flag", "scroll_region_upper"),
    *("scroll_region_lower", "pane_title"),
]

available = shutil.which("tmux") is not None


class Tmux:
    """A tmux server of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._name = folder, f"tether-test-{uuid.uuid4().hex[:12]}"
        script = folder / "pane.py"
        script.write_text(_PANE)
        self._script = script

    def __enter__(self) -> Tmux:
        self._run("-f", "/dev/null", "new-session", "-d", "-s", "first", "cat")
        self._run("set", "-g", "status", "off")
        self._run("set", "-g", "history-limit", "5000")
        self._run("set", "-g", "allow-rename", "off")
        self._run("wait-for", "-L", "forever")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run("kill-server")

    def shows(self, stream: bytes, *, rows: int, cols: int) -> dict[str, Any]:
        """The screen with its colours, the other screen's text, the history, and the flags."""
        name = uuid.uuid4().hex[:8]
        source = self._folder / name
        source.write_bytes(stream)
        command = f"python3 {self._script} {source} {self._name}"
        size = ("-x", str(cols), "-y", str(rows))
        self._run("new-session", "-d", "-s", name, *size, command)
        taken = Path(f"{source}.taken")
        while not taken.exists():  # the pane says when; ends with the pane
            self._run("has-session", "-t", name)
        shown = {
            "screen": _cells(self._run("capture-pane", "-peN", "-t", name), rows, cols),
            "other": self._other(name),
            "history": self._run("capture-pane", "-p", "-J", "-S", "-", "-E", "-1", "-t", name)
            .strip("\n")
            .splitlines(),
            "flags": dict(zip(_FLAGS, self._flags(name), strict=True)),
        }
        self._run("kill-session", "-t", name)
        return shown

    def _other(self, name: str) -> list[str]:
        try:
            return self._run("capture-pane", "-p", "-a", "-q", "-t", name).splitlines()
        except subprocess.CalledProcessError:
            return []

    def _flags(self, name: str) -> list[str]:
        words = "\x1f".join(f"#{{{flag}}}" for flag in _FLAGS)
        return self._run("display-message", "-p", "-t", name, words).rstrip("\n").split("\x1f")

    def _run(self, *words: str) -> str:
        command = ["tmux", "-u", "-L", self._name, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _cells(captured: str, rows: int, cols: int) -> list[list[Any]]:
    """What tmux captured, cell by cell: there are many ways to write the same looks."""
    emulator = Emulator(rows=rows, cols=cols, history_bytes=0)
    emulator.feed(b"\x1b)0\x1b[?7l")
    for row, line in enumerate(captured.split("\n")[:rows], 1):
        emulator.feed(b"\x1b[%d;1H" % row + line.encode())
    return [[_seen(cell) for cell in row] for row in screen_cells(emulator)]


def _seen(cell: Any) -> Any:
    """tmux does not tell the background of a cell that was erased, so that of no blank counts."""
    return b" " if cell[0] == b" " else cell
