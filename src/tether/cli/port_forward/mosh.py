"""`tether mosh NAME`: the command. Law: imports what it needs only once it runs (`mosh_run`)."""

from __future__ import annotations

import os

import click

from tether.cli.output import wait_option
from tether.client.errors import connecting, set_up_logging
from tether.client.host_keys import workspace_name


@click.command("mosh", context_settings={"allow_interspersed_args": False})
@wait_option
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def mosh(name: str, command: tuple[str, ...]) -> int:
    """Open a mosh session in a workspace.

    mosh has to be installed on this machine and in the workspace. Exits with mosh-client's code; 255 if
    the connection failed.

    \b
    Examples:
      tether mosh dev
      tether mosh dev htop
    """
    import asyncio

    from tether.cli.port_forward.mosh_run import MoshSession
    from tether.net.signals import block

    block()
    set_up_logging(os.environ)

    async def run() -> int:
        return await MoshSession(workspace_name(name), os.environ).run(command)

    with connecting():
        return asyncio.run(run())
