"""`tether netcheck`: what the network between here and the server's relays is like.

Law: shows what `netcheck_run` found. Exits with 0 where server and relays can be reached, else with 1.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from tether.cli.output import add_row, clean, json_option, print_json, print_table, table
from tether.client.errors import EXIT_ERROR, set_up_logging
from tether.config import load

if TYPE_CHECKING:
    from tether.cli.network.netcheck_run import NetReport


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

    The nearest region becomes this machine's home region: tunnels are asked for there. It is kept
    until another one is clearly nearer.
    Exits with 1 if the server, or every relay, is out of reach.

    \b
    Examples:
      tether netcheck
      tether netcheck --json | jq -r .home_region
      HTTPS_PROXY=http://user:password@proxy:3128 tether netcheck
    """
    import asyncio
    from dataclasses import asdict

    from tether.cli.network.netcheck_run import check

    set_up_logging(os.environ)
    config = load(os.environ)
    report = asyncio.run(check(config, timeout=timeout, env=os.environ))
    if as_json:
        print_json(asdict(report))
    else:
        _print(report)
    good = report.reachable and (not report.regions or bool(report.home_region))
    return 0 if good else EXIT_ERROR


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
