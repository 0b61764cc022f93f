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

from tether.attribution.vocabulary import ConnectionType, Initiator, Reason
from tether.cli.api import Api
from tether.cli.output import clean, json_option, print_json, span
from tether.config import load

BAR = 30
"""Columns of the longest bar."""

GROUPS = ("cause", "workspace", "relay", "day")
ALL_GROUPS = (*GROUPS, "reason", "initiator", "user")

_INITIATORS = [*(str(i) for i in Initiator if i), "unknown"]


@click.command()
@click.option("--workspace", metavar="W", help="Only this workspace.")
@click.option("--user", metavar="U", help="Only this user.")
@click.option("--type", "kind", type=click.Choice([str(t) for t in ConnectionType]))
@click.option("--reason", type=click.Choice([str(r) for r in Reason]), metavar="R")
@click.option("--cause", metavar="C", help="Only this cause, such as agent.crashed.")
@click.option("--initiator", type=click.Choice(_INITIATORS), help="Who began the end.")
@click.option("--expected", type=click.Choice(["true", "false"]), help="false: investigate.")
@click.option("--since", metavar="T", help="15m, 2h, 3d, or 2026-11-23T03:57:12Z.")
@click.option("--until", metavar="T", help="As --since.")
@click.option("--incident", metavar="ID", help="Only the ends of this incident.")
@click.option("--by", "groups", type=click.Choice(ALL_GROUPS), multiple=True, help="Break down by.")
@click.option(
    "--rejudge", is_flag=True, help="Judge old ends by today's rules: show the difference."
)
@click.option("--write", is_flag=True, help="With --rejudge: append the difference as revisions.")
@json_option
def report(
    as_json: bool,
    kind: str | None,
    initiator: str | None,
    groups: tuple[str, ...],
    rejudge: bool,
    write: bool,
    **filters: Any,
) -> None:
    """Count how connections ended.

    Expected against unexpected ends, the share that nobody could explain, and what they were about:
    by cause, workspace, relay and day, or by what --by says.

    \b
    Examples:
      tether report --since 7d
      tether report --expected false --by cause --by user
      tether report --rejudge --since 30d
    """
    if write and not rejudge:
        raise click.UsageError("--write goes with --rejudge")
    if initiator is not None:
        filters["initiator"] = "" if initiator == "unknown" else initiator
    query = {name: value for name, value in {**filters, "type": kind}.items() if value is not None}
    api = Api(load(os.environ))
    if rejudge:
        query["write"] = "true" if write else "false"
        told = api.post(f"/report/rejudge?{urlencode(query)}")
        lines = differences(told)
    else:
        wanted = groups or GROUPS
        named = [*query.items(), *(("by", name) for name in wanted)]
        told = api.get(f"/report?{urlencode(named)}")
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
