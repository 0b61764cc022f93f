"""`tether token`: the caller's own tokens."""

from __future__ import annotations

import os
import re

import click

from tether.cli.api import Api, segment
from tether.cli.output import add_row, json_option, local_time, print_json, print_table, table
from tether.config import load

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Span(click.ParamType[int]):
    """A length of time such as 30d, in seconds."""

    name = "span"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        read = re.fullmatch(r"(\d{1,9})([smhdw])", str(value))
        if read is None or int(read[1]) == 0:
            self.fail(f"{value!r} is no span of time: write 12h, 30d or 8w.", param, ctx)
        return int(read[1]) * _UNITS[read[2]]


@click.group()
def token() -> None:
    """Create, list and delete your tokens.

    \b
    Examples:
      tether token create laptop --expires-in 30d
      tether token list
      tether token delete 3f2a…
    """


@token.command()
@click.argument("name")
@click.option("--expires-in", type=Span(), metavar="SPAN", help="Such as 12h, 30d or 8w.")
@click.option("--relay", is_flag=True, help="For a `tether relay` (administrators).")
@json_option
def create(name: str, expires_in: int | None, relay: bool, as_json: bool) -> None:
    """Create a token for yourself, or for a relay, and print it, once.

    \b
    Examples:
      tether token create laptop
      tether token create ci --expires-in 30d --json
      tether token create derp-fra --relay > relay-token
    """
    body: dict[str, object] = {"name": name}
    if expires_in is not None:
        body["expires_in_s"] = expires_in
    if relay:
        body["kind"] = "relay"
    made = Api(load(os.environ)).post("/tokens", body)
    if as_json:
        print_json(made)
        return
    click.echo(f"Created token {made['token_id']}. Shown once:", err=True)
    click.echo(made["token"])


@token.command("list")
@click.option("--relay", is_flag=True, help="Only those of relays (administrators).")
@json_option
def list_(relay: bool, as_json: bool) -> None:
    """List your tokens, and to administrators those of relays.

    The tokens themselves are never shown again.

    \b
    Example:
      tether token list --json
    """
    api = Api(load(os.environ))
    rows = [] if relay else [{**row, "kind": "user"} for row in api.get("/tokens")]
    if relay or api.get("/whoami")["role"] == "admin":
        rows += [{**row, "kind": "relay"} for row in api.get("/tokens", {"kind": "relay"})]
    if as_json:
        print_json(rows)
        return
    drawn = table("ID", "KIND", "NAME", "CREATED", "EXPIRES", "LAST USED")
    for row in rows:
        add_row(
            drawn,
            row["token_id"],
            row["kind"],
            row.get("name"),
            local_time(row.get("created_at")),
            local_time(row.get("expires_at")) or "never",
            local_time(row.get("last_used_at")),
        )
    print_table(drawn)


@token.command()
@click.argument("token_id")
def delete(token_id: str) -> None:
    """End a token at once.

    \b
    Example:
      tether token delete 3f2a…
    """
    Api(load(os.environ)).delete(f"/tokens/{segment(token_id)}")
    click.echo(f"Deleted token {token_id}.")
