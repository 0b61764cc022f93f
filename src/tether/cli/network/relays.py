"""`tether relays`: the relays by region, what they carry, and how often they lost it.

Law: shows what the server counted, decides nothing.
"""

from __future__ import annotations

import os

import click

from tether.cli.api import Api
from tether.cli.output import add_row, json_option, print_json, print_table, table
from tether.config import load


@click.command()
@click.option(
    *("--hours", "hours"),
    type=click.FloatRange(1, 24 * 366),
    default=24.0,
    metavar="H",
    help="What they carried in the last H hours. Default: a day.",
)
@json_option
def relays(hours: float, as_json: bool) -> None:
    """List relays by region, and what they lost.

    For administrators. LOST counts the carriers that a relay lost in a thousand hours of tunnels; a
    tunnel may have gone on over another one.

    \b
    Examples:
      tether relays
      tether relays --hours 168 --json | jq '.[] | {region, cut_by_relay}'
    """
    found = Api(load(os.environ)).get("/relays", {"hours": hours})
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No relays.", err=True)
        return
    drawn = table("REGION", "RELAY", "STATUS", "OPEN", "ENDED", "CUT BY IT", "LOST/1000 H")
    for region in found:
        counts = [region["tunnels"], region["ended"], region["cut_by_relay"]]
        lost = region["lost_per_1000_h"]
        for node in region["nodes"] or [{"url": "", "status": "not on the map"}]:
            add_row(drawn, region["region"], node["url"], node["status"], *counts, lost)
    print_table(drawn)
