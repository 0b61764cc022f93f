"""`tether netcheck`: what the network between here and the server's relays is like.

Law: bounded in time, whatever the network does; nothing is changed but the remembered home region.
Exits with 0 where the server and a relay can be reached, else with 1.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import click

from tether.cli.failure import EXIT_ERROR, Failure, set_up_logging
from tether.cli.output import add_row, clean, json_option, print_json, print_table, table
from tether.config import ClientConfig, client_files, load

MAP_WAIT_S = 1.0
"""How long the server may take to send its DERP map after its welcome."""


@dataclass(frozen=True, slots=True)
class Region:
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
    regions: list[Region] = field(default_factory=list)


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60.0),
    default=3.0,
    show_default=True,
    metavar="S",
    help="How long each relay may take to answer.",
)
@json_option
def netcheck(timeout: float, as_json: bool) -> int:
    """Check the way to the server and to each of its relays.

    The nearest region becomes this machine's home region: tunnels are asked for there.
    Exits with 1 if the server, or every relay, is out of reach.

    \b
    Examples:
      tether netcheck
      tether netcheck --json | jq -r .home_region
      HTTPS_PROXY=http://user:password@proxy:3128 tether netcheck
    """
    set_up_logging(os.environ)
    config = load(os.environ)
    report = asyncio.run(check(config, timeout=timeout, env=os.environ))
    if as_json:
        print_json(asdict(report))
    else:
        _print(report)
    good = report.reachable and (not report.regions or bool(report.home_region))
    return 0 if good else EXIT_ERROR


async def check(config: ClientConfig, *, timeout: float, env: Mapping[str, str]) -> NetReport:
    """Look at everything, at most a few seconds each."""
    from tether.cli.home_region import save_home
    from tether.net.clock import SystemClock
    from tether.net.regions import measure

    report = NetReport(config.url, proxy=_proxy_name(config.control_url))
    report.ipv4, report.ipv6 = own_address("192.0.2.1"), own_address("2001:db8::1")
    regions = await _ask_server(config, report)
    nodes = {region.name: [node.url for node in region.nodes] for region in regions}
    for found in await measure(nodes, timeout=timeout):
        latency_ms = None if found.latency_s is None else round(1000 * found.latency_s, 2)
        report.regions.append(Region(found.region, found.url, latency_ms, found.error))
    if report.regions and report.regions[0].latency_ms is not None:
        report.home_region = report.regions[0].name
        save_home(client_files(env), config.url, report.home_region, SystemClock().now().wall)
    return report


async def _ask_server(config: ClientConfig, report: NetReport) -> list[Any]:
    from tether.cli.control import Control, ControlWord
    from tether.net.clock import SystemClock
    from tether.net.streams import DialFailed
    from tether.net.ws_client import dial
    from tether.protocol.messages import MAX_CONTROL_MESSAGE, DerpMap

    told: asyncio.Future[DerpMap] = asyncio.get_running_loop().create_future()

    def heard(word: ControlWord) -> None:
        if isinstance(word, DerpMap) and not told.done():
            told.set_result(word)

    control = Control(
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
    from tether.net.streams import DialFailed
    from tether.net.ws_client import proxy_of

    try:
        given = proxy_of(url)
    except DialFailed as wrong:
        return str(wrong)
    scheme, _, rest = (given or "").partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if given else ""


def _print(report: NetReport) -> None:
    if report.reachable:
        rtt = "" if report.control_rtt_ms is None else f", {report.control_rtt_ms:g} ms away"
        server = f"reachable{rtt} (version {clean(report.server_version)})"
    else:
        server = f"not reachable: {clean(report.error)}"
    for label, value in (
        ("server", f"{report.server}: {server}"),
        ("proxy", report.proxy or "none"),
        ("IPv4", report.ipv4 or "no route"),
        ("IPv6", report.ipv6 or "no route"),
        ("home region", report.home_region or "none"),
    ):
        click.echo(f"{label:<13}{clean(value)}")
    if not report.regions:
        if report.reachable:
            click.echo("\nThe server has announced no DERP map.")
        return
    click.echo()
    drawn = table("REGION", "LATENCY", "RELAY", "")
    for region in report.regions:
        latency = "" if region.latency_ms is None else f"{region.latency_ms:g} ms"
        note = region.error or ("home" if region.name == report.home_region else "")
        add_row(drawn, region.name, latency, region.url, note)
    print_table(drawn)
