"""TCP: addresses, opening a connection, keeping it watched by the kernel, and its counters as a fact.

Law: decides nothing but what the counters say of one stream. TCP_INFO (linux/tcp.h, `struct tcp_info`)
can be read after an error, too, while the descriptor is open (measured), so that protocols read it in
`connection_lost`. It is None on other systems and for sockets that are not TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from typing import Any
from urllib.parse import urlsplit

from tether.attribution.evidence import TcpCounters
from tether.attribution.vocabulary import Party, Vantage

SMALL_SEGMENT = 1024
"""Bytes of a segment that gets through wherever large packets vanish: what Linux itself begins with
where it looks for a path's limit (`net.ipv4.tcp_base_mss`). IPv6 promises 1220."""


class NoAddress(ValueError):
    """A text is no `HOST:PORT`; this one is a sentence that says how to write it."""


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[HOST]:PORT`; port 0 is any free port.

    Raises:
        NoAddress: it is neither.
    """
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.path or parts.username is not None:
        raise NoAddress(f"{text[:80]!r} is no address: write HOST:PORT, such as 127.0.0.1:7080")
    return host, port


def join_address(host: str, port: int) -> str:
    """The one form of an address that `split_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


_FORMAT = struct.Struct("=8B24I4Q3I")
_TCP_INFO = 11

KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 12, 1, 16
"""28 s until an idle connection is given up, by many probes: where a third of all packets is lost, every
second one goes unanswered, and three (a usual count) end half the idle connections within minutes."""

SILENT_AFTER_MS = 20_000
"""A stream with something outstanding whose peer has acknowledged nothing for this long is dead. Those
who watch look every 5 s and believe their second look: 30 s at most."""


def read_tcp_info(sock: Any) -> dict[str, int] | None:
    """The counters of `sock` by the names of `TcpCounters`; None where there are none."""
    if sock is None or not sys.platform.startswith("linux"):
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _FORMAT.size)
        fields = _FORMAT.unpack(raw.ljust(_FORMAT.size, b"\0"))
    except (OSError, AttributeError, struct.error):
        return None
    u32 = fields[8:]  # from the 25th on of kernel 4.6; zero on older ones
    return {
        "retransmits": fields[2],
        "probes": fields[3],
        "unacked": u32[4],
        "last_data_recv_ms": u32[11],
        "last_ack_recv_ms": u32[12],
        "pmtu": u32[13],
        "rtt_us": u32[15],
        "total_retrans": u32[23],
        "backoff": fields[4],
        "lost": u32[6],
        "snd_mss": u32[2],
        "notsent_bytes": u32[30],
    }


def plain_address(name: Any) -> str:
    """The host of a socket's name, an IPv4 one without its IPv6 form, as the kernel lists it."""
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else ""


def counters_fact(
    counters: dict[str, int] | None, *, vantage: Vantage, peer: Party, at: float
) -> TcpCounters | None:
    """`counters` as evidence."""
    return None if counters is None else TcpCounters(vantage=vantage, peer=peer, at=at, **counters)


def is_stalled(counters: dict[str, int] | None, after_ms: int = SILENT_AFTER_MS) -> bool:
    """Whether something waits for an acknowledgement that has not come for too long.

    A peer that only does not read, or is stopped, still acknowledges: its kernel does. Keepalive is
    on, so an idle path that lives always has a fresh acknowledgement.
    """
    return (
        counters is not None
        and (counters["unacked"] > 0 or counters["probes"] > 0)
        and counters["last_ack_recv_ms"] > after_ms
    )


STUCK_RETRANSMITS = 3
"""So often in a row one segment was sent when it is stuck, not only late."""


def is_lossy(counters: dict[str, int] | None, silence_s: float, resent_before: int) -> bool:
    """Whether a silence of the peer's program may be the path's, which loses segments and lives: since
    the peer was heard our kernel had to resend (`resent_before` times until then), the peer's kernel
    acknowledged within the silence, and what we send gets through in the end.

    The next segment in order holds up all that came after it, for seconds where it is lost thrice. A
    path that lost nothing meanwhile tells nothing: there, the peer's program is silent.
    """
    return (
        counters is not None
        and counters["total_retrans"] > resent_before
        and counters["retransmits"] < STUCK_RETRANSMITS
        and counters["last_ack_recv_ms"] < 750 * silence_s
    )


def set_keepalive(sock: Any) -> None:
    """Let the kernel notice a dead peer of an idle connection within 30 s."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
