"""Opens a TCP connection, on request one that sends and is sent small segments only.

Law: resolves, tries one address after the other, and gives up with the last one's error. The size of
segments is agreed on when a connection is made, for both directions, so that it is the dialler's choice.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

SMALL_SEGMENT = 1024
"""Bytes of a segment that gets through wherever large packets vanish: what Linux itself begins with
where it looks for a path's limit (`net.ipv4.tcp_base_mss`). IPv6 promises 1220."""


async def connect_tcp(host: str, port: int, *, small_segments: bool = False) -> socket.socket:
    """A connected, non-blocking socket.

    Raises:
        OSError: no address of `host` could be connected to; `socket.gaierror` where it has none.
    """
    loop = asyncio.get_running_loop()
    found: list[Any] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    wrong: OSError = socket.gaierror(f"no address of {host}")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        if small_segments:
            with contextlib.suppress(OSError):  # a system that has no say in it
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
        try:
            await loop.sock_connect(sock, address)
            return sock
        except OSError as failed:
            sock.close()
            wrong = failed
        except BaseException:
            sock.close()
            raise
    raise wrong
