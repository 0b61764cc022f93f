"""`tether report`: how connections ended, counted and drawn; and old ends judged by today's rules.

Law: as `connections`: shows what the server counted, decides nothing. A bar is as long as its share of
the largest; what was unexpected is marked within it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import click

from tether.cli.api import Api
from tether.cli.log.filters import Query, filter_options
from tether.cli.output import clean, json_option, print_json, span
from tether.config import load

BAR = 30
"""Columns of the longest bar."""

GROUPS = ("cause", "workspace", "relay", "day")
ALL_GROUPS = (*GROUPS, "reason", "initiator", "user")


@click.command()
@filter_options
@click.option("--by", "groups", type=click.Choice(ALL_GROUPS), multiple=True, help="Break down by.")
@click.option(
    "--rejudge", is_flag=True, help="Judge old ends by today's rules: show the difference."
)
@click.option("--write", is_flag=True, help="With --rejudge: append the difference as revisions.")
@json_option
def report(
    as_json: bool,
    filters: Query,
    groups: tuple[str, ...],
    rejudge: bool,
    write: bool,
) -> None:
    """Count how connections ended.

    Expected against unexpected ends, the share that nobody could explain, and what they were about:
    by cause, workspace, relay and day, or by what --by says. Filters are those of `tether connections`:
    repeated, any of them; with --not- before the name, the rest.

    \b
    Examples:
      tether report --since 7d
      tether report --expected false --by cause --by user
      tether report --not-type control --not-type tunnel --since 2026-11-23
      tether report --rejudge --since 30d
    """
    if write and not rejudge:
        raise click.UsageError("--write goes with --rejudge")
    api = Api(load(os.environ))
    if rejudge:
        told = api.post(f"/report/rejudge?{urlencode([*filters, ('write', str(write).lower())])}")
        lines = differences(told)
    else:
        wanted = groups or GROUPS
        told = api.get("/report", [*filters, *(("by", name) for name in wanted)])
        lines = paragraphs(told, wanted)
    if as_json:
        print_json(told)
        return
    for line in lines:
        click.echo(line)


def paragraphs(told: dict[str, Any], groups: tuple[str, ...]) -> Iterator[str]:
    """The breakdown, line by line."""
    ends = told["ends"]
    if not ends:
        yield "No such ends."
        return
    yield (
        f"{ends} ends: {told['expected']} expected, {told['unexpected']} unexpected, "
        f"{told['unknown']} unexplained ({100 * told['unknown_rate']:.1f} %)"
    )
    found = told["incidents"]
    yield (
        f"{found} incident{'' if found == 1 else 's'};"
        f" a connection lived {span(told['mean_duration_s'])} on average"
    )
    for name in groups:
        found = told["by"].get(name) or []
        if not found:
            continue
        yield ""
        yield f"By {name}  (█ expected, ▒ unexpected)"
        widest = max(group["ends"] for group in found)
        label = max(len(_label(name, group)) for group in found)
        for group in found:
            yield f"  {_label(name, group):<{label}}  {bar(group, widest):<{BAR}}  {group['ends']}"


def bar(group: dict[str, Any], widest: int) -> str:
    """A bar of whole columns; what is there at all is seen."""
    length: int = max(1, round(BAR * group["ends"] / widest))
    marked: int = round(length * group["unexpected"] / group["ends"])
    if group["unexpected"] and not marked:
        marked = 1
    return "█" * (length - marked) + "▒" * marked


def _label(name: str, group: dict[str, Any]) -> str:
    missing = {"relay": "no relay", "initiator": "nobody can tell"}.get(name, "none")
    return clean(str(group["value"])) or missing


def _turned(change: dict[str, Any]) -> str:
    """What the change means for whoever is to look into unexpected ends."""
    if change["was_expected"] == change["now_expected"]:
        return ""
    return ", now expected" if change["now_expected"] else ", now unexpected"


def differences(told: dict[str, Any]) -> Iterator[str]:
    """What today's rules say otherwise, line by line."""
    for change in told["changes"]:
        yield (
            f"{clean(change['connection_id'])[:8]}  {clean(change['was'])} → {clean(change['now'])}"
            f"  (rule {clean(change['was_rule'])} → {clean(change['now_rule'])})"
            f"{_turned(change)}"
        )
    if told["changed"] > len(told["changes"]):
        yield f"… and {told['changed'] - len(told['changes'])} more"
    done = "written as revisions" if told["written"] else "nothing was written: add --write"
    yield f"{told['judged']} ends judged again, {told['changed']} judged otherwise; {done}"
