"""A terminal window of a user, in tmux, and what it shows."""

from __future__ import annotations

import os
import shlex

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, Stack, children_of, wait_for


class Window:
    """A terminal window of a user, 30 rows of 100 columns unless told, in a tmux of its own."""

    def __init__(self, stack: Stack, line: str, *, cols: int = 100, rows: int = 30) -> None:
        self._stack = stack
        self.socket = str(stack.root / f"tmux-{os.urandom(4).hex()}")
        then = "echo code=$?; stty -a | grep -qE '(^| )icanon' && echo given back; exec cat"
        self.tmux("new-session", "-d", "-s", "t", "-x", str(cols), "-y", str(rows), "exec cat")
        self.tmux("set-option", "-g", "status", "off")
        self.tmux("resize-window", "-t", "t", "-x", str(cols), "-y", str(rows))
        self.tmux("respawn-pane", "-k", "-t", "t", f"{line}; {then}")

    @classmethod
    def attached(cls, stack: Stack, *words: str, **size: int) -> Window:
        """A window in which `tether attach dev` runs."""
        argv = [*TETHER, "attach", "dev", *words]
        return cls(stack, shlex.join(argv), **size)

    def tmux(self, *words: str) -> str:
        done = self._stack.run("tmux", "-S", self.socket, "-f", "/dev/null", *words, check=True)
        return done.stdout

    def screen(self, *options: str) -> list[str]:
        return self.tmux("capture-pane", "-p", "-t", "t", *options).splitlines()

    def look(self) -> tuple[list[str], str]:
        """Characters and colours, where the cursor is, and which of the two screens shows."""
        told = "#{cursor_x},#{cursor_y},#{alternate_on},#{mouse_any_flag},#{cursor_flag}"
        return self.screen("-e"), self.tmux("display-message", "-p", "-t", "t", told)

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "t", *keys)

    def line(self, text: str) -> None:
        self.tmux("send-keys", "-t", "t", "-l", text)
        self.keys("Enter")

    def shows(self, *texts: str, seconds: float = DEADLINE_S) -> list[str]:
        """Wait for all of them, wherever a line is broken; the screen that shows them."""

        def check() -> list[str] | None:
            screen = self.screen()
            shown = "".join("".join(screen).split())
            return screen if all("".join(text.split()) in shown for text in texts) else None

        try:
            return wait_for(f"{texts} in the window", check, seconds)
        except AssertionError as wrong:
            raise AssertionError(f"{wrong}; it shows:\n" + "\n".join(self.screen())) from None

    def client(self) -> int:
        """The process of `tether attach`."""
        shell = int(self.tmux("display-message", "-p", "-t", "t", "#{pane_pid}"))
        return wait_for("the client", lambda: children_of(shell))[0]

    def close(self) -> None:
        self._stack.run("tmux", "-S", self.socket, "kill-server")
