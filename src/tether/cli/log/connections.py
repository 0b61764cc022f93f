"""`tether connections`: the connection log as a table, or as JSON for scripts; and how one is ended.

Law: shows what the server recorded and decides nothing. Words come from the record; the local
catalogue only supplies the title of a cause.
"""

from __future__ import annotations

import os
from typing import Any

import click

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.vocabulary import ConnectionType, Initiator, Reason
from tether.cli.api import Api, segment
from tether.cli.output import (
    add_row,
    clean,
    json_option,
    local_time,
    moment,
    print_json,
    print_table,
    span,
    table,
)
from tether.config import load

_INITIATORS = [*(str(i) for i in Initiator if i), "unknown"]


@click.group(invoke_without_command=True)
@click.option("--workspace", metavar="W", help="Only this workspace.")
@click.option("--user", metavar="U", help="Only this user.")
@click.option("--type", "kind", type=click.Choice([str(t) for t in ConnectionType]))
@click.option("--reason", type=click.Choice([str(r) for r in Reason]), metavar="R")
@click.option("--cause", metavar="C", help="Only this cause, such as agent.crashed.")
@click.option("--initiator", type=click.Choice(_INITIATORS), help="Who began the end.")
@click.option("--expected", type=click.Choice(["true", "false"]), help="false: investigate.")
@click.option("--status", type=click.Choice(["ongoing", "closed"]))
@click.option("--since", metavar="T", help="15m, 2h, 3d, or 2026-11-23T03:57:12Z.")
@click.option("--until", metavar="T", help="As --since.")
@click.option("--incident", metavar="ID", help="Only the ends of this incident.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), metavar="N", help="At most N; 100 if not told."
)
@json_option
@click.pass_context
def connections(
    context: click.Context,
    /,
    as_json: bool,
    kind: str | None,
    initiator: str | None,
    **filters: Any,
) -> None:
    """List connections, and why they ended.

    Newest first. The last column is empty while a connection lives, `ok` for an end that is part
    of normal operation, and `!` for one to look into: `tether explain ID` tells more. An IDE session
    has a line of its own, "on" the SSH connection that it began on.

    \b
    Examples:
      tether connections --workspace dev
      tether connections --expected false --since 24h
      tether connections --incident 5f1c7a0e9c4b4d0f9b7d6d0f3a2b1c00
      tether connections --json --status ongoing | jq length
    """
    if context.invoked_subcommand is not None:
        return
    if initiator is not None:
        filters["initiator"] = "" if initiator == "unknown" else initiator
    rows = Api(load(os.environ)).get("/connections", {**filters, "type": kind})
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("No such connections.", err=True)
        return
    drawn = table("ID", "TIME", "WORKSPACE", "TYPE", "USER", "LASTED", "WHY", "")
    for row in rows:
        add_row(
            drawn, *cells(row), style="yellow" if row.get("disconnect_expected") is False else ""
        )
    print_table(drawn)


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
    return (
        str(row["id"])[:8],
        local_time(row.get("connected_at") or row.get("created_at")),
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
