"""`tether incidents`: what ended together, and whom it hit.

Law: as `connections`: shows what the server found, decides nothing.
"""

from __future__ import annotations

import os
from typing import Any

import click

from tether.cli.api import Api, segment
from tether.cli.log.connections import draw
from tether.cli.output import (
    add_row,
    clean,
    is_narrow,
    json_option,
    local_time,
    print_json,
    print_table,
    short_time,
    table,
    zone_of,
    zoned_time,
)
from tether.config import load


@click.command()
@click.argument("incident_id", metavar="[ID]", required=False)
@click.option(
    *("--hours", "hours"),
    type=click.FloatRange(1, 24 * 366),
    default=24.0 * 7,
    metavar="H",
    help="How far back, in hours. Default: a week.",
)
@json_option
def incidents(incident_id: str | None, hours: float, as_json: bool) -> None:
    """List what ended together, and whom it hit.

    An incident is ends that share a relay, a machine, a network or the server. Newest first.
    With the ID of one, who was hit by it.

    \b
    Examples:
      tether incidents
      tether incidents --hours 24 --json | jq '.[].cause'
      tether incidents 5f1c7a0e9c4b4d0f9b7d6d0f3a2b1c00
    """
    api = Api(load(os.environ))
    if incident_id is not None:
        told = api.get(f"/incidents/{segment(incident_id)}")
        print_json(told) if as_json else show(told)
        return
    found = api.get("/incidents", {"hours": hours})
    if as_json:
        print_json(found)
    elif not found:
        click.echo("No incidents.", err=True)
    else:
        listed(found)


def listed(found: list[dict[str, Any]]) -> None:
    """Print the table of incidents."""
    time = f"TIME ({zone_of(one['began_at'] for one in found)})"
    narrow = is_narrow()
    headings = ("ID", time, "ENDS", "PEOPLE", *(() if narrow else ("ELEMENT",)), "WHY")
    drawn = table(*headings, whole=("ID", time, "ENDS", "PEOPLE"))
    for one in found:
        began = (short_time if narrow else local_time)(one["began_at"])
        element = () if narrow else (f"{one['element']} {one['name']}".strip(),)
        add_row(
            drawn, one["incident_id"], began, one["ends"], one["people"], *element, one["title"]
        )
    print_table(drawn)


def show(told: dict[str, Any]) -> None:
    """Print one incident, and the ends of it."""
    click.echo(f"{clean(told['title'])} ({clean(told['cause'])})")
    click.echo(f"  element     {clean(told['element'])} {clean(told['name'])}".rstrip())
    click.echo(f"  began       {zoned_time(told['began_at'])}")
    click.echo(f"  until       {zoned_time(told['until'])}")
    click.echo(f"  hit         {told['people']} people, {told['ends']} ends")
    if told.get("acknowledged_by"):
        click.echo(f"  seen by     {clean(told['acknowledged_by'])}")
    if told["hit"]:
        click.echo("")
        draw(told["hit"])
