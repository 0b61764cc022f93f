"""`tether connections`: the connection log as a table, JSON or CSV; and how one is ended.

Law: shows what the server recorded and decides nothing. Words come from the record; the local
catalogue only supplies the title of a cause.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from tether.attribution.causes.catalogue import CATALOGUE
from tether.cli.api import Api, segment
from tether.cli.log.filters import Query, filter_options
from tether.cli.output import (
    add_row,
    clean,
    is_narrow,
    json_option,
    local_time,
    moment,
    print_json,
    print_table,
    short_time,
    span,
    table,
    zone_of,
)
from tether.config import load

DEFAULT_LIMIT = 100
_PAGE = 500
"""Rows that the server gives at once."""


@click.group(invoke_without_command=True)
@filter_options
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help=f"At most N; {DEFAULT_LIMIT} if not told."
)
@click.option("--cursor", metavar="C", default="", help="Go on where an earlier list stopped.")
@click.option("--unfold", is_flag=True, help="Show clients' control links on lines of their own.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: all of them, or --limit.")
@json_option
@click.pass_context
def connections(
    context: click.Context,
    /,
    as_json: bool,
    as_csv: bool,
    unfold: bool,
    cursor: str,
    limit: int | None,
    filters: Query,
) -> None:
    """List connections, and why they ended.

    Newest first. The last column is empty while a connection lives, `ok` for an end that is part
    of normal operation, and `!` for one to look into: `tether explain ID` tells more. An IDE session
    has a line of its own, "on" the SSH connection that it began on. A client's control link is folded
    under what it carried, unless it ended of something else.

    A filter that is repeated means any of its values; with --not- before its name, all but these.
    Times are taken as the column TIME shows them, or as a span back from now.

    \b
    Examples:
      tether connections --workspace dev
      tether connections --expected false --since 24h
      tether connections --initiator network --initiator unknown --not-type control
      tether connections --ended-since "2026-11-23 03:57:12"
      tether connections --incident 5f1c7a0e9c4b4d0f9b7d6d0f3a2b1c00
      tether connections --json --status ongoing | jq length
      tether connections --csv --since 30d > connections.csv
    """
    if context.invoked_subcommand is not None:
        return
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude one another.")
    api = Api(load(os.environ))
    if as_csv:
        whole = [*filters, ("format", "csv"), ("limit", limit), ("cursor", cursor or None)]
        for piece in api.download("/log/export", whole):
            sys.stdout.buffer.write(piece)
        return
    rows, more = fetched(api, filters, limit or DEFAULT_LIMIT, cursor)
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("No such connections.", err=True)
    else:
        asked_for_control = ("type", "control") in filters
        draw(rows if unfold or asked_for_control else folded(rows))
    if more and (cursor or limit):
        click.echo(f"There are more: go on with --cursor {more}", err=True)
    elif more:
        click.echo(f"There are more: --limit N, or go on with --cursor {more}", err=True)


def fetched(api: Api, filters: Query, limit: int, cursor: str) -> tuple[list[dict[str, Any]], str]:
    """So many rows, in as many pages as that takes, and the cursor of those behind them."""
    rows: list[dict[str, Any]] = []
    while True:
        many = min(limit - len(rows), _PAGE)
        page = api.get("/log", [*filters, ("limit", many), ("cursor", cursor or None)])
        rows += page["rows"]
        cursor = page["next"]
        if not cursor or len(rows) >= limit:
            return rows, cursor


def draw(rows: list[dict[str, Any]]) -> None:
    """Print the table. Where columns are few, one that says the same in each row is said once."""
    began = [row.get("connected_at") or row.get("created_at") for row in rows]
    time = f"TIME ({zone_of(began)})"
    headings = ("ID", time, "WORKSPACE", "TYPE", "USER", "LASTED", "WHY", "")
    lines = [cells(row) for row in rows]
    shown = list(range(len(headings)))
    if is_narrow() and len(rows) > 1:
        same = {n for n in shown if headings[n] in ("WORKSPACE", "USER") and _is_one(lines, n)}
        shown = [n for n in shown if n not in same]
        for n in sorted(same):
            click.echo(f"{headings[n]}: {clean(lines[0][n])}")
    drawn = table(*(headings[n] for n in shown), whole=("ID", time, "LASTED", ""))
    for row, line in zip(rows, lines, strict=True):
        style = "yellow" if row.get("disconnect_expected") is False else ""
        add_row(drawn, *(line[n] for n in shown), style=style)
    print_table(drawn)


def _is_one(lines: list[tuple[object, ...]], column: int) -> bool:
    return len({line[column] for line in lines}) == 1 and bool(lines[0][column])


def folded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the clients' control links that tell nothing but what the row of something that they
    carried tells: it was asked for while the link was open, by the same user from the same address."""
    carried = [row for row in rows if row.get("connect_type") == "agent_to_client"]
    return [row for row in rows if not any(_is_told_by(row, other) for other in carried)]


def _is_told_by(row: dict[str, Any], carried: dict[str, Any]) -> bool:
    if row.get("connect_type") != "client_to_server" or row.get("type") != "control":
        return False
    if any(row.get(key) != carried.get(key) for key in ("user", "client_ip")):
        return False
    asked, until = str(carried.get("created_at")), row.get("disconnected_at")
    if not str(row.get("created_at")) <= asked or (until and asked > str(until)):
        return False
    unexpected = row.get("disconnect_expected") is False
    return not unexpected or row.get("disconnect_cause") == carried.get("disconnect_cause")


@connections.command()
@click.argument("connection_id", metavar="ID")
@click.option("--reason", metavar="TEXT", default="", help="A line for whoever is cut off.")
@json_option
def end(connection_id: str, reason: str, as_json: bool) -> None:
    """End one connection. The record says who did, and why.

    \b
    Example:
      tether connections end 5f1c7a0e --reason "the machine is needed"
    """
    row = Api(load(os.environ)).post(
        f"/connections/{segment(connection_id)}/end", {"reason": reason}
    )
    if as_json:
        print_json(row)
    else:
        over = "is over" if row.get("disconnected_at") else "is being ended"
        click.echo(f"Connection {str(row['id'])[:8]} {over}.", err=True)


def cells(row: dict[str, Any]) -> tuple[object, ...]:
    """One connection as the cells of the table."""
    ongoing = not row.get("disconnected_at")
    shown_time = short_time if is_narrow() else local_time
    return (
        str(row["id"])[:8],
        shown_time(row.get("connected_at") or row.get("created_at")),
        row.get("workspace"),
        kind_of(row),
        row.get("user"),
        state_of(row) if ongoing else span(row.get("duration_s")),
        "" if ongoing else why(row),
        "" if ongoing else "ok" if row.get("disconnect_expected") else "!",
    )


def state_of(row: dict[str, Any]) -> str:
    """Of a connection that is open: whether a way works now, or since when none does."""
    since, began = moment(row.get("detached_since")), moment(row.get("connected_at"))
    if since is None:
        return "ongoing"
    if began is None:
        return "detached"
    # both are the server's times, and so is the length: our own clock may be another one
    attached_s = (since - began).total_seconds()
    return f"detached {span(max(0.0, float(row.get('duration_s') or 0.0) - attached_s))}"


def kind_of(row: dict[str, Any]) -> str:
    """What ran over it, by which program; of an IDE session, over which connection."""
    kind, app, parent = row["type"], row.get("app"), row.get("parent_id")
    named = f"{kind} ({app})" if app and app != kind else str(kind)
    return f"{named} on {str(parent)[:8]}" if parent else named


def why(row: dict[str, Any]) -> str:
    """The title of the cause, with the exit status where a command had one to tell."""
    cause = str(row.get("disconnect_cause") or "")
    title = CATALOGUE[cause].title if cause in CATALOGUE else cause or "Not known"
    if row.get("exit_signal"):
        return f"{title} (signal {clean(row['exit_signal'])})"
    if row.get("exit_code"):
        return f"{title} (exit code {row['exit_code']})"
    return title
