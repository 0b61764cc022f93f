"""The latency of the regions of a DERP map: a small HTTP request to each, timed on an open connection.

Law: measures, concludes nothing; bounded in time and in number. Requests go through the environment's
proxies, as a carrier would. Any answer counts, even a refusal, for only its time is wanted.
`http.client` in a thread does it, because it knows TLS and CONNECT and is in the standard library; the
thread is a daemon, so that a name server or a relay that hangs does not hold up a program that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import math
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from tether.net.transport.streams import DialFailed
from tether.net.transport.tcp import connect_tcp_blocking
from tether.net.transport.trust import client_context
from tether.net.transport.ws_client import dial_failed, proxy_failed, proxy_of

TIMEOUT_S = 3.0
"""How long connecting and each answer may take."""

SAMPLES = 3
"""Round trips of one region, of which the best counts."""

AT_ONCE = 8
"""Regions that are measured at the same time."""

MEASURED_REGIONS = 64
"""Regions that are measured at most; the rest are left out."""

Nodes = Mapping[str, Sequence[str]]
"""The URLs of each region's relays, the one to use first."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One region."""

    region: str
    url: str
    """The relay that was asked."""
    latency_s: float | None = None
    """The best of a few round trips; None where it was not reached."""
    error: str = ""
    """Why it was not reached."""


async def measure(nodes: Nodes, *, timeout: float = TIMEOUT_S) -> list[Measured]:
    """Measure every region's first relay, a few at a time. Returns the nearest first."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(region: str, url: str) -> Measured:
        async with gate:
            try:
                return await _in_thread(partial(_measure, region, url, timeout))
            except RuntimeError as wrong:  # no thread can be started
                return Measured(region, url, error=str(wrong))

    wanted = [(region, urls[0]) for region, urls in nodes.items() if urls][:MEASURED_REGIONS]
    found = await asyncio.gather(*(one(region, url) for region, url in wanted))
    return sorted(found, key=lambda m: (m.latency_s is None, m.latency_s or 0.0, m.region))


async def _in_thread(work: Callable[[], Measured]) -> Measured:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Measured] = loop.create_future()

    def settle(found: Measured | Exception) -> None:
        if isinstance(found, Measured) and not done.done():
            done.set_result(found)
        elif isinstance(found, Exception) and not done.done():
            done.set_exception(found)

    def run() -> None:
        found: Measured | Exception
        try:
            found = work()
        except Exception as wrong:
            found = wrong
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=run, name="measure", daemon=True).start()
    return await done


def _measure(region: str, url: str, timeout: float) -> Measured:
    parts = urlsplit(url)
    try:
        return Measured(region, url, latency_s=_round_trip(url, timeout))
    except DialFailed as failed:
        return Measured(region, url, error=str(failed))
    except (OSError, http.client.HTTPException, ValueError) as wrong:
        if isinstance(wrong, OSError):
            return Measured(region, url, error=str(dial_failed(wrong, parts.netloc)))
        return Measured(region, url, error=f"{parts.netloc} does not answer as a relay")


def _round_trip(url: str, timeout: float) -> float:
    connection = _connection(url, timeout)
    try:
        best = math.inf
        for _ in range(SAMPLES):
            if connection.sock is None:
                connection.connect()
            began = time.perf_counter()
            connection.request("GET", "/healthz", headers={"User-Agent": "tether"})
            answer = connection.getresponse()
            best = min(best, time.perf_counter() - began)
            answer.read(1 << 16)
        return best
    finally:
        connection.close()


def _connection(url: str, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    secure = parts.scheme in ("wss", "https")
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    given = proxy_of(url)
    if given is None:
        return _to(host, port, timeout, secure=secure)
    from websockets.proxy import parse_proxy

    proxy = parse_proxy(given.url)
    if proxy.scheme != "http":
        raise DialFailed(f"no round trip is measured through a {proxy.scheme} proxy")
    headers = {}
    if proxy.username is not None:
        pair = b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {pair}"
    connection = _to(proxy.host, proxy.port, timeout, secure=secure)
    connection.set_tunnel(host, port, headers=headers)
    try:
        connection.connect()
    except OSError as wrong:
        connection.close()
        failed = proxy_failed(wrong, parts.netloc, given)
        if "407" in str(wrong) or failed is None:
            raise DialFailed(f"the proxy {proxy.host}:{proxy.port} refused: {wrong}") from wrong
        raise failed from wrong
    return connection


def _to(host: str, port: int, timeout: float, *, secure: bool) -> http.client.HTTPConnection:
    made: http.client.HTTPConnection
    if secure:
        made = http.client.HTTPSConnection(host, port, timeout=timeout, context=client_context())
    else:
        made = http.client.HTTPConnection(host, port, timeout=timeout)
    made._create_connection = connect_tcp_blocking  # type: ignore[attr-defined]
    return made
