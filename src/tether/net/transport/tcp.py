"""TCP: opening a connection by the address that answers first, its keepalive, its counters as a fact.

Law: decides nothing but what the counters say of one stream. TCP_INFO (linux/tcp.h, `struct tcp_info`)
can still be read after an error, as long as the descriptor is open (measured), so that protocols read it
in `connection_lost`. It is None on other systems and for sockets that are not TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import sys
from asyncio import CancelledError
from asyncio.staggered import staggered_race
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from typing import Any
from urllib.parse import urlsplit

from tether.attribution.evidence import TcpCounters
from tether.attribution.vocabulary import Party, Reach, Vantage

SMALL_SEGMENT = 1024
"""Bytes of a segment that gets through even where large packets vanish. Linux starts with it when it
looks for a path's limit (`net.ipv4.tcp_base_mss`); IPv6 guarantees 1220."""

ATTEMPT_DELAY_S = 0.25
"""How long an address is tried alone before the next one is tried beside it (RFC 8305, section 5)."""

MAX_REMEMBERED = 1024
"""Hosts whose family is remembered; an agent that forwards for a browser meets many."""

_worked: dict[str, socket.AddressFamily] = {}
"""The family of the address by which each host was reached last."""

_log = logging.getLogger("tether.dial")
"""The standard library's, because a client that has not configured ours may not print anything."""

KEEPALIVE_IDLE_S = 12
KEEPALIVE_INTERVAL_S = 1
KEEPALIVE_COUNT = 16
"""An idle connection is given up after 28 s and 16 unanswered probes. So many because where a third of
all packets is lost, every second probe goes unanswered: with the usual three, half of the idle
connections would end within minutes."""

SILENT_AFTER_MS = 20_000
"""A stream with something outstanding whose peer has acknowledged nothing for this long is dead. Whoever
watches looks every 5 s and believes the second look in a row, so that it is noticed within 30 s."""

STALLED_CHECKS = 2
"""So many checks in a row must find a stream stalled: one may hit the moment between a keepalive probe
and its answer."""

STUCK_RETRANSMITS = 3
"""A segment that was resent so often in a row is stuck, not only late."""

_TCP_INFO = 11
_FORMAT = struct.Struct("=8B24I4Q3I")


class NoAddress(ValueError):
    """A text is no `HOST:PORT`; the message of this exception says how to write one."""


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
    """`host` and `port` as `split_address` reads them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def connect_tcp(host: str, port: int, *, small_segments: bool = False) -> socket.socket:
    """A connected, non-blocking socket, by the address of `host` that answers first (RFC 8305).

    The addresses of both families are tried in turn, each a moment after the one before, so that a
    family which leads nowhere costs that moment and not the kernel's two minutes. The family that
    worked is the first one next time.

    Args:
        host: a name or an address.
        port: the port.
        small_segments: announce `SMALL_SEGMENT`, so that the peer sends no larger ones.

    Raises:
        OSError: no address of `host` could be connected to; `socket.gaierror` where it has none.
    """
    loop = asyncio.get_running_loop()
    found: list[Any] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = in_turn(found, first=_worked.get(host))
    if not addresses:
        raise socket.gaierror(f"no address of {host}")
    attempts = [partial(_attempt, each, small_segments) for each in addresses]
    sock: socket.socket | None
    sock, _, failures = await staggered_race(attempts, ATTEMPT_DELAY_S)
    if sock is None:
        raise _most_telling([each for each in failures if isinstance(each, OSError)])
    if len(_worked) >= MAX_REMEMBERED:
        _worked.clear()
    _worked[host] = sock.family
    for address, failure in zip(addresses, failures, strict=False):
        if failure is not None:
            why = "it did not answer in time" if isinstance(failure, CancelledError) else failure
            _log.log(logging.INFO, f"{host} was reached, but not at {address[4][0]}: {why}")
    return sock


def connect_tcp_blocking(
    address: tuple[str, int], timeout: float | None = None, *_: object
) -> socket.socket:
    """`connect_tcp` for programs without a loop, called as `socket.create_connection` is.

    Raises:
        OSError: as `connect_tcp`; `TimeoutError` after `timeout` seconds.
    """

    async def connect() -> socket.socket:
        async with asyncio.timeout(timeout):
            return await connect_tcp(*address)

    sock = asyncio.run(connect())
    sock.settimeout(timeout)
    return sock


async def family_of(host: str, port: int) -> socket.AddressFamily:
    """The family by which `host` is reached, for libraries that connect by themselves; AF_UNSPEC where
    it has one only. It costs a connection, once.

    Raises:
        OSError: as `connect_tcp`.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if len({family for family, *_ in found}) < 2:
        return socket.AF_UNSPEC
    if host not in _worked:
        (await connect_tcp(host, port)).close()
    return _worked[host]


def in_turn(found: Sequence[Any], *, first: socket.AddressFamily | None = None) -> list[Any]:
    """getaddrinfo(3)'s answers with the families in turn, beginning with `first` where there is such an
    address, and else with that of the first one (RFC 8305, section 4)."""
    families: dict[Any, list[Any]] = {} if first is None else {first: []}
    for each in found:
        families.setdefault(each[0], []).append(each)
    rounds = zip_longest(*(each for each in families.values() if each))
    return [each for one_round in rounds for each in one_round if each is not None]


async def _attempt(found: Any, small_segments: bool) -> socket.socket:
    family, kind, protocol, _, address = found
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if small_segments:
            with contextlib.suppress(OSError):  # not every system can do it
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _most_telling(failures: Sequence[OSError]) -> OSError:
    """A refusal says that the machine is there; of others, the last is as good as any."""
    return next((e for e in failures if isinstance(e, ConnectionRefusedError)), failures[-1])


def read_tcp_info(sock: Any) -> dict[str, int] | None:
    """The counters of `sock` by the names of `TcpCounters`; None where there are none."""
    if sock is None or not sys.platform.startswith("linux"):
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _FORMAT.size)
        fields = _FORMAT.unpack(raw.ljust(_FORMAT.size, b"\0"))
    except (OSError, AttributeError, struct.error):
        return None
    u32 = fields[8:]  # those from the 25th on are zero before Linux 4.6
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
    """The host of a socket's name as the kernel lists it: IPv4 not in its IPv6 form."""
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else ""


def counters_fact(
    counters: dict[str, int] | None,
    *,
    vantage: Vantage,
    peer: Party,
    at: float,
    reach: Reach = Reach.UNKNOWN,
) -> TcpCounters | None:
    """`counters` as evidence; `reach` says whose kernel they are about."""
    if counters is None:
        return None
    return TcpCounters(vantage=vantage, peer=peer, at=at, reach=reach, **counters)


def is_stalled(counters: dict[str, int] | None, after_ms: int = SILENT_AFTER_MS) -> bool:
    """Whether something has waited too long for an acknowledgement.

    The kernel of a peer that is stopped or does not read still acknowledges. As keepalive is on, an idle
    path that works always has a recent acknowledgement.
    """
    return (
        counters is not None
        and (counters["unacked"] > 0 or counters["probes"] > 0)
        and counters["last_ack_recv_ms"] > after_ms
    )


def is_lossy(counters: dict[str, int] | None, silence_s: float, resent_before: int) -> bool:
    """Whether a silence may come from a path that loses segments but works, not from the peer's program.

    That is so where our kernel had to resend since the peer was last heard, the peer's kernel
    acknowledged during the silence, and no segment is stuck. On such a path one lost segment holds up
    all that follows it, for seconds if it is lost three times. Where nothing was lost, the peer's
    program is silent.

    Args:
        counters: TCP_INFO now.
        silence_s: how long the peer has been silent.
        resent_before: how often our kernel had resent when the peer was last heard.
    """
    return (
        counters is not None
        and counters["total_retrans"] > resent_before
        and counters["retransmits"] < STUCK_RETRANSMITS
        and counters["last_ack_recv_ms"] < 750 * silence_s
    )


def set_keepalive(sock: Any) -> None:
    """Have the kernel notice within 30 s that the peer of an idle connection is gone."""
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
