"""The sftp subsystem: the machine's own sftp-server, or asyncssh's in a process of its own.

Law: never in the agent's process. asyncssh's SFTP server does blocking file I/O, which would stall
every other session in the loop; as a process over the channel's pipes it may block as it likes, and
ends, is counted and attributed like any other. Run as a module, this file is that process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
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


def command() -> list[str]:
    """The program that serves sftp on its standard streams."""
    for path in SERVERS:
        if os.access(path, os.X_OK):
            return [path]
    return [sys.executable, "-I", "-m", "tether.agent.sftp"]


def is_sftp(command_line: str) -> bool:
    """Whether a client that names its own sftp-server (`sftp -s PATH`) asked for this command."""
    words = command_line.split(maxsplit=1)
    return bool(words) and os.path.basename(words[0]) == "sftp-server"


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
        server: asyncssh.SFTPServer = asyncssh.SFTPServer(standard)
        await run_sftp_server(server, standard, standard, MIN_SFTP_VERSION)

    with contextlib.suppress(EOFError, BrokenPipeError):  # the client has left
        asyncio.run(serve())


if __name__ == "__main__":
    main()
