"""A pseudo-terminal: its size, its modes, and the path by which a process makes it its own.

Law: mechanism only. Our end is non-blocking; the process's end is kept open until the process has
opened it itself, because a terminal without a user forgets its modes. Closing our end hangs up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Mapping

_SPECIAL_CHARACTERS = {
    1: "VINTR",
    2: "VQUIT",
    3: "VERASE",
    4: "VKILL",
    5: "VEOF",
    6: "VEOL",
    7: "VEOL2",
    8: "VSTART",
    9: "VSTOP",
    10: "VSUSP",
    12: "VREPRINT",
    13: "VWERASE",
    14: "VLNEXT",
    16: "VSWTC",
    18: "VDISCARD",
}
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _ISPEED, _OSPEED, _CC = range(7)
_FLAGS: Mapping[int, tuple[int, str]] = {
    opcode: (group, name)
    for group, first, names in (
        (_IFLAG, 30, "IGNPAR PARMRK INPCK ISTRIP INLCR IGNCR ICRNL IUCLC IXON IXANY IXOFF IMAXBEL"),
        (_IFLAG, 42, "IUTF8"),
        (_LFLAG, 50, "ISIG ICANON XCASE ECHO ECHOE ECHOK ECHONL NOFLSH TOSTOP IEXTEN ECHOCTL"),
        (_LFLAG, 61, "ECHOKE PENDIN"),
        (_OFLAG, 70, "OPOST OLCUC ONLCR OCRNL ONOCR ONLRET"),
        (_CFLAG, 90, "CS7 CS8 PARENB PARODD"),
    )
    for opcode, name in enumerate(names.split(), first)
}
_MISSING_IN_PYTHON = {"IUTF8": 0o40000}
_DISABLED = 255
"""RFC 4254 section 8: this special character is switched off."""

REDRAW_S = 0.1
"""How long a terminal has another size, so that its program draws anew."""


class Terminal:
    """One pseudo-terminal; `path` is the name of the process's end."""

    def __init__(self, size: tuple[int, int, int, int], modes: Mapping[int, int]) -> None:
        """Open one. `size` is columns, rows and both in pixels; `modes` RFC 4254's opcodes.

        Raises:
            OSError: this machine has no (more) pseudo-terminals.
        """
        self._master, self._slave = os.openpty()
        try:
            self.path = os.ttyname(self._slave)
            os.set_blocking(self._master, False)
            self.resize(*size)
            _apply(self._slave, modes)
        except BaseException:
            self.close()
            raise

    def resize(self, columns: int, rows: int, pixels_x: int, pixels_y: int) -> None:
        """Tell the terminal its size; the kernel tells the foreground processes."""
        self._size = columns, rows, pixels_x, pixels_y
        self._tell(*self._size)

    def _tell(self, columns: int, rows: int, pixels_x: int, pixels_y: int) -> None:
        if self._master >= 0:
            size = (min(n, 0xFFFF) for n in (rows, columns, pixels_x, pixels_y))
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", *size))

    def redraw(self) -> None:
        """Have the program in the foreground draw its screen anew.

        Many look whether their size has really changed, so for a moment it has.
        """
        columns, rows, pixels_x, pixels_y = self._size
        self._tell(columns, rows - 1 if rows > 1 else rows + 1, pixels_x, pixels_y)
        asyncio.get_running_loop().call_later(REDRAW_S, lambda: self._tell(*self._size))

    def taken_over(self) -> tuple[int, int]:
        """The process has opened its end: close our descriptor of that end.

        Returns:
            Two descriptors of our end, to read from and to write to; whoever takes one closes it.
        """
        self._let_go_of_slave()
        return os.dup(self._master), os.dup(self._master)

    def close(self) -> None:
        """Hang up, once the descriptors of `taken_over` are closed too."""
        self._let_go_of_slave()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _let_go_of_slave(self) -> None:
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1


def _apply(slave: int, modes: Mapping[int, int]) -> None:
    """Set the modes of the client's terminal, as far as this system knows them."""
    settings = termios.tcgetattr(slave)
    for opcode, value in modes.items():
        if opcode in _SPECIAL_CHARACTERS:
            index = getattr(termios, _SPECIAL_CHARACTERS[opcode], None)
            if index is not None:
                settings[_CC][index] = bytes([0 if value == _DISABLED else value & 0xFF])
        elif opcode in _FLAGS:
            group, name = _FLAGS[opcode]
            bit = getattr(termios, name, _MISSING_IN_PYTHON.get(name, 0))
            settings[group] = settings[group] | bit if value else settings[group] & ~bit
    # Line speeds (128, 129) are left alone: they mean nothing here, and odd ones are refused.
    with contextlib.suppress(termios.error):
        termios.tcsetattr(slave, termios.TCSANOW, settings)
