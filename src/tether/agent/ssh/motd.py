"""What a login shell on a terminal is greeted with: the announcement, then the message of the day.

Law: as with sshd, `~/.hushlogin` silences the message of the day; it never silences the announcement. A
file that is missing or cannot be read is no error. Nothing here may block on what is no regular file,
and what is read is bounded.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_BYTES = 64 << 10


def greeting(motd: Path | None, announcement: Path | None, *, home: str) -> bytes:
    """The bytes for the terminal; every line ends with CR LF."""
    shown = [_text(announcement)]
    if not os.path.exists(os.path.join(home, ".hushlogin")):
        shown.append(_text(motd))
    said = b"".join(text + b"\n" for text in shown if text)
    return said.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _text(path: Path | None) -> bytes:
    """A file's text, trimmed, and one newline."""
    if path is None:
        return b""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        text = os.read(descriptor, MAX_BYTES).strip()
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return text + b"\n" if text else b""
