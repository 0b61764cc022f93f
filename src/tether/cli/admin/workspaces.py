"""`tether workspace`: create, list, show, stop, start, delete, and new agent tokens."""

from __future__ import annotations

import os
from typing import Any

import click

from tether.cli.api import Api, segment
from tether.cli.output import (
    add_row,
    clean,
    json_option,
    local_time,
    print_json,
    print_table,
    table,
)
from tether.config import load

_REASONS = ("user", "autostop", "deleted", "evicted")
_AGENT_WORDS = {"never_connected": "never connected"}


@click.group()
def workspace() -> None:
    """Create, list, stop, start and delete workspaces.

    \b
    Examples:
      tether workspace create dev
      tether workspace list
      tether workspace stop dev
    """


@workspace.command()
@click.argument("name")
@json_option
def create(name: str, as_json: bool) -> None:
    """Create a workspace and print its agent's token, once.

    A name is made of a-z, 0-9 and hyphens, at most 32 characters.

    \b
    Examples:
      tether workspace create dev
      tether workspace create dev --json | jq -r .agent_token > agent-token
    """
    used = load(os.environ)
    made = Api(used).post("/workspaces", {"name": name})
    if as_json:
        print_json(made)
        return
    click.echo(f"Created workspace {clean(made['name'])}. Its agent's token, shown once:", err=True)
    click.echo(made["agent_token"])
    click.echo(
        "Save it in a file on the workspace's machine and run there:\n"
        f"  tether agent --server {used.url} --token-file FILE --data-dir DIR",
        err=True,
    )


@workspace.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the workspaces that you may use.

    \b
    Examples:
      tether workspace list
      tether workspace list --json
    """
    rows = Api(load(os.environ)).get("/workspaces")
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("No workspaces yet: `tether workspace create NAME` makes one.", err=True)
        return
    drawn = table("NAME", "STATE", "AGENT", "LAST SEEN", "HOST", "VERSION", "OWNER")
    for row in rows:
        agent = row.get("agent") or {}
        add_row(
            drawn,
            row["name"],
            row["state"],
            _agent_status(agent),
            local_time(agent.get("last_seen_at")),
            agent.get("hostname"),
            agent.get("version"),
            row.get("owner"),
        )
    print_table(drawn)


@workspace.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show one workspace.

    \b
    Example:
      tether workspace show dev --json
    """
    row = Api(load(os.environ)).get(f"/workspaces/{segment(name)}")
    if as_json:
        print_json(row)
        return
    agent = row.get("agent") or {}
    seen = local_time(agent.get("last_seen_at"))
    for label, value in (
        ("name", row["name"]),
        ("id", row.get("workspace_id")),
        ("owner", row.get("owner")),
        ("state", row["state"]),
        ("created", local_time(row.get("created_at"))),
        ("agent", _agent_status(agent) + (f", last seen {seen}" if seen else "")),
        ("agent's life", _life(agent)),
        ("agent host", agent.get("hostname")),
        ("agent version", agent.get("version")),
        ("home region", _home(agent)),
        ("host key", row.get("host_key")),
    ):
        if value:
            click.echo(f"{label:<14}{clean(value)}")


@workspace.command()
@click.argument("name")
@click.option(
    "--reason",
    type=click.Choice(_REASONS),
    default="user",
    show_default=True,
    help="Why; it becomes the cause that everybody cut off by it sees.",
)
@json_option
def stop(name: str, reason: str, as_json: bool) -> None:
    """Stop a workspace: its sessions end, and nobody may connect until it is started.

    \b
    Examples:
      tether workspace stop dev
      tether workspace stop dev --reason autostop
    """
    row = Api(load(os.environ)).post(f"/workspaces/{segment(name)}/stop", {"reason": reason})
    if as_json:
        print_json(row)
        return
    click.echo(f"Stopped {name}. `tether workspace start {name}` starts it again.")


@workspace.command()
@click.argument("name")
@json_option
def start(name: str, as_json: bool) -> None:
    """Start a stopped workspace: its agent may connect again.

    \b
    Example:
      tether workspace start dev
    """
    row = Api(load(os.environ)).post(f"/workspaces/{segment(name)}/start")
    if as_json:
        print_json(row)
        return
    click.echo(f"Started {name}.")


@workspace.command()
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def delete(name: str, yes: bool, as_json: bool) -> None:
    """Delete a workspace: its sessions end and its agent's token dies.

    Asks first when it is run by a person in a terminal.

    \b
    Examples:
      tether workspace delete dev
      tether workspace delete dev --yes
    """
    if not yes and os.isatty(0) and os.isatty(2):
        click.confirm(f"Delete workspace {name} and end its sessions?", abort=True, err=True)
    answer: Any = Api(load(os.environ)).delete(f"/workspaces/{segment(name)}")
    if as_json:
        print_json(answer if answer is not None else {"name": name, "deleted": True})
        return
    click.echo(f"Deleted {name}.")


@workspace.command()
@click.argument("name")
@click.option("--at-once", is_flag=True, help="Refuse the old token from now on, as after a leak.")
@json_option
def token(name: str, at_once: bool, as_json: bool) -> None:
    """Make a new token for a workspace's agent; the old one is good for ten minutes more.

    Write it where the agent reads its token. Sessions go on meanwhile.

    \b
    Example:
      tether workspace token dev > agent-token
    """
    made = Api(load(os.environ)).post(
        f"/workspaces/{segment(name)}/agent-token{'?at_once=true' if at_once else ''}"
    )
    if as_json:
        print_json(made)
        return
    left = "is dead" if at_once else "is good for ten minutes more"
    click.echo(f"The agent's new token, shown once (the old one {left}):", err=True)
    click.echo(made["agent_token"])


def _agent_status(agent: dict[str, Any]) -> str:
    status = str(agent.get("status") or "never_connected")
    shown = _AGENT_WORDS.get(status, status)
    state = str(agent.get("lifecycle") or "ready").replace("_", " ")
    return shown if state == "ready" else f"{shown} ({state})"


def _life(agent: dict[str, Any]) -> str:
    """The newest state of its life that the agent has told of."""
    state = str(agent.get("lifecycle") or "").replace("_", " ")
    since = local_time(agent.get("lifecycle_at"))
    return f"{state} since {since}" if state and since else state


def _home(agent: dict[str, Any]) -> str:
    """The agent's home region, and how far it is."""
    home, latency_ms = str(agent.get("home_region") or ""), agent.get("region_latency_ms") or {}
    return f"{home} ({latency_ms[home]:g} ms)" if home in latency_ms else home
