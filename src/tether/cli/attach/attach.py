"""`tether attach NAME`: a terminal in a workspace that survives its client.

Law: one sentence says how it ended, and the exit code agrees: the program's own where it ended, 0 for a
detach, 255 where the connection failed. The stock `ssh` carries it, so that whatever is true of
connections by `tether ssh` is true of these.
"""

from __future__ import annotations

import click

from tether.cli.output import json_option, wait_option
from tether.cli.ssh.ssh import arrange
from tether.client.errors import EXIT_CONNECTION_FAILED, Failure, os_failure
from tether.client.host_keys import workspace_name
from tether.config import ConfigError

_VALUES = {"--id": 1, "--name": 1, "--kill": 1, "--rename": 2, "--wait": 1}


class AttachCommand(click.Command):
    """Accepts options before and right after NAME; the rest is the remote command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, arrange(args, lambda word: _VALUES.get(word, 0)))


@click.command(cls=AttachCommand, context_settings={"allow_interspersed_args": False})
@click.option(
    "--id",
    "terminal_id",
    default="",
    metavar="ID",
    help="Attach to this terminal; it is made if there is none.",
)
@click.option("--name", "title", default="", metavar="TEXT", help="What a new terminal is called.")
@click.option("--list", "listing", is_flag=True, help="List the workspace's terminals.")
@click.option("--kill", default="", metavar="ID", help="End a terminal.")
@click.option(
    "--rename", nargs=2, default=None, metavar="ID TEXT", help="Call a terminal by another name."
)
@wait_option
@json_option
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def attach(
    name: str,
    command: tuple[str, ...],
    terminal_id: str,
    title: str,
    listing: bool,
    kill: str,
    rename: tuple[str, str] | None,
    as_json: bool,
) -> int:
    """Open a terminal that survives you, or return to it.

    Ctrl-\\ d detaches: the programs in it go on, and `tether attach NAME --id ID` shows the same
    screen again, from any machine and in several windows at once. It ends with its program, with
    --kill, or when nobody looked at it for as long as the agent allows.

    Exits with the program's exit code; 0 after a detach; 255 if the connection failed.

    \b
    Examples:
      tether attach dev
      tether attach dev --id work
      tether attach dev -- htop
      tether attach dev --list
    """
    chosen = sum((listing, bool(kill), rename is not None))
    if chosen > 1 or (chosen and (command or terminal_id or title)):
        raise click.UsageError("--list, --kill and --rename go alone.")
    from tether.cli.attach import run
    from tether.protocol.terminal.messages import Init

    try:
        host = workspace_name(name)
        if listing:
            return run.list_terminals(host, as_json)
        if kill:
            return run.end(host, kill)
        if rename is not None:
            return run.rename(host, *rename)
        wanted = Init(rows=1, cols=1, id=terminal_id, name=title, command=" ".join(command))
        return run.attach_to(host, wanted)
    except (ConfigError, OSError) as wrong:  # other codes may be the program's
        told = os_failure(wrong) if isinstance(wrong, OSError) else wrong
        raise Failure(str(told), EXIT_CONNECTION_FAILED) from wrong
