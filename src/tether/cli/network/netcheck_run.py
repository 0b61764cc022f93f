"""What `tether netcheck` looks at: the server, its relays, and the ways that this machine has.

Law: bounded in time, whatever the network does; nothing is changed but the remembered home region.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from tether.client.control.events import ControlWord
from tether.client.control.link import ClientControl
from tether.client.errors import Failure
from tether.client.home_region import load_home, save_home
from tether.config import ClientConfig, client_files
from tether.net.clock import SystemClock
from tether.net.derp.probe import measure
from tether.net.transport.streams import DialFailed
from tether.net.transport.ws_client import dial, proxy_of
from tether.protocol.derp.latency import RegionLatency, choose, usable
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE
from tether.protocol.messages.derp import DerpMap, DerpRegion

MAP_WAIT_S = 1.0
"""How long the server may take to send its DERP map after its welcome."""


@dataclass(frozen=True, slots=True)
class MeasuredRegion:
    """One region, nearest first."""

    name: str
    url: str
    latency_ms: float | None
    error: str = ""


@dataclass(slots=True)
class NetReport:
    """What was found; the keys of `--json`."""

    server: str
    reachable: bool = False
    error: str = ""
    control_rtt_ms: float | None = None
    server_version: str = ""
    proxy: str = ""
    ipv4: str = ""
    """The address that this machine would use, "" without a route."""
    ipv6: str = ""
    home_region: str = ""
    regions: list[MeasuredRegion] = field(default_factory=list)


async def check(config: ClientConfig, *, timeout: float, env: Mapping[str, str]) -> NetReport:
    """Look at everything, at most a few seconds each."""

    report = NetReport(config.url, proxy=_proxy_name(config.control_url))
    report.ipv4 = own_address("192.0.2.1")
    report.ipv6 = own_address("2001:db8::1")
    regions = await _ask_server(config, report)
    nodes = {region.name: [node.url for node in region.nodes] for region in regions}
    latency_s = {}
    for found in await measure(nodes, timeout=timeout):
        latency_ms = None
        if found.latency_s is not None:
            latency_s[found.region] = found.latency_s
            latency_ms = round(1000 * found.latency_s, 2)
        report.regions.append(MeasuredRegion(found.region, found.url, latency_ms, found.error))
    files, now = client_files(env), SystemClock().now().wall
    before = load_home(files, config.url, now).home
    report.home_region = choose(latency_s, usable(DerpMap(regions=regions)), before)
    if report.home_region:
        save_home(files, config.url, RegionLatency(report.home_region, latency_s), now)
    return report


async def _ask_server(config: ClientConfig, report: NetReport) -> list[DerpRegion]:

    told: asyncio.Future[DerpMap] = asyncio.get_running_loop().create_future()

    def heard(word: ControlWord) -> None:
        if isinstance(word, DerpMap) and not told.done():
            told.set_result(word)

    control = ClientControl(
        lambda: dial(config.control_url, token=config.token, max_size=MAX_CONTROL_MESSAGE),
        SystemClock(),
        on_word=heard,
    )
    try:
        await control.connect()
        report.server_version = (await control.greeted()).version
        report.reachable = True
        round_trips = [await control.round_trip() for _ in range(3)]
        report.control_rtt_ms = round(1000 * min(round_trips), 2)
        async with asyncio.timeout(MAP_WAIT_S):
            return list((await told).regions)
    except (DialFailed, Failure) as wrong:
        report.error = str(wrong)
    except TimeoutError:
        pass  # a server that has no map to send
    finally:
        await control.leave()
    return []


def own_address(towards: str) -> str:
    """The address that this machine would use; no packet is sent. "" without a route."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((towards, 9))
            return str(sock.getsockname()[0])
    except OSError:
        return ""


def _proxy_name(url: str) -> str:
    """The proxy in use, without its credentials."""

    try:
        given = proxy_of(url)
    except DialFailed as wrong:
        return str(wrong)
    if given is None:
        return ""
    scheme, _, rest = given.url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
