"""The user's own terminal while a remote one is shown in it: raw, and given back as it was.

Law: `restore` may be called at any time and any number of times, and undoes both what the kernel was
told (raw mode) and what the remote program told the terminal (another screen, mouse, colours). It
writes no more than that: what is on the user's screen stays.
"""

from __future__ import annotations

import contextlib
import os
import re
import select

from tether.cli.terminal_modes import CANCEL, LEAVE_ALTERNATE, USUAL
from tether.net.host.platform import TerminalModes

_SWITCH = re.compile(rb"\x1b(?:\[\?(?:\d+;)*(?:47|1047|1049)(?:;\d+)*([hl])|c)")


class Gone(Exception):
    """The terminal has been closed."""


class LocalTerminal:
    """The terminal that the person sits at. Nothing is changed before `raw`."""

    def __init__(self, stdin: int = 0, stdout: int = 1) -> None:
        self.stdin = stdin
        self._stdout = stdout
        self._modes = TerminalModes(stdin)
        self._is_raw = False
        self._alternate = False
        self._fresh_line = True

    def size(self) -> tuple[int, int]:
        """Rows and columns; 24 by 80 where the terminal does not tell."""
        try:
            cols, rows = os.get_terminal_size(self._stdout)
        except OSError:
            cols, rows = 0, 0
        return rows or 24, cols or 80

    def raw(self) -> None:
        """Let every key through from now on."""
        if self._modes.remember():
            self._is_raw = True
            self._modes.raw()

    def read(self) -> bytes:
        """What was typed.

        Raises:
            Gone: nobody will type any more.
        """
        try:
            typed = os.read(self.stdin, 64 << 10)
        except BlockingIOError:
            return b""
        except OSError as wrong:
            raise Gone from wrong
        if not typed:
            raise Gone
        return typed

    def show(self, output: bytes) -> None:
        """Write what the remote terminal shows.

        Raises:
            Gone: nobody looks any more.
        """
        for switch in _SWITCH.finditer(output):
            self._alternate = switch[1] == b"h"
        if output:
            self._fresh_line = output.endswith(b"\n")
        self._write(output)

    def draw(self, drawing: bytes) -> None:
        """Write something of our own, that leaves the cursor where it was.

        Raises:
            Gone: nobody looks any more.
        """
        self._write(drawing)

    def restore(self) -> None:
        """Give the terminal back, with the cursor at the start of a line."""
        if not self._is_raw:
            return
        self._is_raw = False
        screen = LEAVE_ALTERNATE if self._alternate else b""
        with contextlib.suppress(Gone):
            self._write(CANCEL + screen + USUAL + (b"" if self._fresh_line else b"\r\n"))
        self._modes.restore()

    def _write(self, output: bytes) -> None:
        rest = memoryview(output)
        while rest:
            try:
                rest = rest[os.write(self._stdout, rest) :]
            except BlockingIOError:  # somebody shares it, and made it so
                select.select([], [self._stdout], [])
            except OSError as wrong:
                raise Gone from wrong
