"""The sftp subsystem: the machine's own sftp-server, or asyncssh's in a process of its own.

Law: never in the agent's process. asyncssh's SFTP server does blocking file I/O, which would stall
every other session in the loop. As a process over the channel's pipes it may block as it likes, and it
ends, is counted and is attributed like any other. Run as a module, this file is that process.

Version 3 of the protocol, which everybody speaks, has one word ("Failure") for a full disk, a quota and
a broken device. Both servers therefore write the system's own error to standard error, which ssh shows
to its user; `Complaints` shows each error once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import asyncssh
from asyncssh.logging import logger as asyncssh_logger
from asyncssh.sftp import MIN_SFTP_VERSION, run_sftp_server

SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
)
"""Where Debian, Alpine and Arch, Fedora, and BSDs keep theirs."""

MAX_LINE = 8 << 10
"""Bytes of one line of a server's standard error; the beginning of a longer one is lost."""

MAX_COMPLAINTS = 20
"""Lines that are shown of one server."""

_HAS_A_WORD = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST)
"""Errors that version 3 has words for, or that a client asks about and expects."""


def command() -> list[str]:
    """The program that serves sftp on its standard streams."""
    for path in SERVERS:
        if os.access(path, os.X_OK):
            return [path, "-e", "-l", "ERROR"]
    return [sys.executable, "-I", "-m", "tether.agent.ssh.sftp_subsystem"]


_PREFIX = re.compile(rb"process_\w+: ")
"""How OpenSSH's server begins a line: with the name of its function."""


class Complaints:
    """The standard error of an sftp server, as its user is shown it: each line once, a few at most.

    A client has dozens of writes under way when the disk is full; each of them fails.
    """

    def __init__(self, show: Callable[[bytes], None]) -> None:
        self._show = show
        self._shown: set[bytes] = set()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """The server wrote this."""
        *lines, self._rest = (self._rest + data)[-MAX_LINE:].split(b"\n")
        for line in lines:
            said = _PREFIX.sub(b"", line.strip(), count=1)
            if said and said not in self._shown and len(self._shown) < MAX_COMPLAINTS:
                self._shown.add(said)
                self._show(b"tether: sftp: " + said + b"\n")


class _Server(asyncssh.SFTPServer):
    """asyncssh's server, which also prints the system's error where the protocol has no word for it."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        with _errors_printed("open", path):
            return super().open(path, pflags, attrs)

    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        """Write all of it: a disk that is nearly full takes a part, which asyncssh counts as done."""
        with _errors_printed("write", file_obj.name):
            written = 0
            while written < len(data):
                taken = super().write(file_obj, offset + written, data[written:])
                written += cast(int, taken)
            return written

    def close(self, file_obj: Any) -> Any:
        with _errors_printed("close", file_obj.name):
            return super().close(file_obj)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> Any:
        with _errors_printed("mkdir", path):
            return super().mkdir(path, attrs)


@contextlib.contextmanager
def _errors_printed(what: str, path: str | bytes) -> Iterator[None]:
    try:
        yield
    except OSError as wrong:
        if wrong.errno not in _HAS_A_WORD:
            print(
                f'{what} "{os.fsdecode(path)!s:.200}": {wrong.strerror}',
                file=sys.stderr,
                flush=True,
            )
        raise


class _Standard:
    """Standard input and output in the shape of asyncssh's reader and writer, blocking."""

    logger = asyncssh_logger

    def __init__(self) -> None:
        self.channel = self

    async def readexactly(self, count: int) -> bytes:
        data = sys.stdin.buffer.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """The process ends right after."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        # Which order of SYMLINK's arguments the client means; nearly all mean OpenSSH's.
        return "SSH-2.0-OpenSSH" if name == "client_version" else default


def main() -> None:
    """Serve sftp on standard input and output until the input ends."""
    standard = cast(Any, _Standard())

    async def serve() -> None:
        server = _Server(standard)
        await run_sftp_server(server, standard, standard, MIN_SFTP_VERSION)

    with contextlib.suppress(EOFError, BrokenPipeError):  # the client has left
        asyncio.run(serve())


if __name__ == "__main__":
    main()
