"""`tether user`: who may use this server (administrators only)."""

from __future__ import annotations

import os

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


@click.group()
def user() -> None:
    """Create, list and delete users.

    \b
    Examples:
      tether user create alice
      tether user list
      tether user delete alice
    """


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["member", "admin"]), default="member", show_default=True)
@json_option
def create(name: str, role: str, as_json: bool) -> None:
    """Create a user and print a token for them.

    The token is shown once. Its owner runs `tether login` with it.

    \b
    Examples:
      tether user create alice
      tether user create bob --role admin --json
    """
    made = Api(load(os.environ)).post("/users", {"name": name, "role": role})
    if as_json:
        print_json(made)
        return
    click.echo(f"Created {clean(made['name'])} ({clean(made['role'])}).", err=True)
    click.echo("The token, shown once:", err=True)
    click.echo(made["token"])


@user.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the users.

    \b
    Example:
      tether user list --json
    """
    rows = Api(load(os.environ)).get("/users")
    if as_json:
        print_json(rows)
        return
    drawn = table("NAME", "ROLE", "CREATED")
    for row in rows:
        add_row(drawn, row["name"], row["role"], local_time(row.get("created_at")))
    print_table(drawn)


@user.command()
@click.argument("name")
def delete(name: str) -> None:
    """Withdraw a user's access: tokens die and live connections end at once.

    \b
    Example:
      tether user delete alice
    """
    Api(load(os.environ)).delete(f"/users/{segment(name)}")
    click.echo(f"Deleted {name}: their tokens are dead and their connections ended.")
