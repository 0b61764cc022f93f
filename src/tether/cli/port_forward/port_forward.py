"""`tether port-forward NAME`: TCP and UDP ports of a workspace on this machine.

Law: several at once over one connection, which survives what carries it. Ctrl-C is the ordinary way to
end it and exits with 0; 255 means that the connection failed, and one sentence says why.
"""

from __future__ import annotations

import os
import sys

import click

from tether.cli.output import json_option, wait_option
from tether.cli.port_forward.specs import BadSpec, parse
from tether.client.errors import set_up_logging
from tether.client.host_keys import workspace_name


@click.command("port-forward")
@click.option(
    "--tcp", multiple=True, metavar="SPEC", help="A TCP port: [BIND:]PORT[:HOST:PORT]. Repeatable."
)
@click.option("--udp", multiple=True, metavar="SPEC", help="A UDP port, likewise.")
@wait_option
@json_option
@click.argument("name")
def port_forward(name: str, tcp: tuple[str, ...], udp: tuple[str, ...], as_json: bool) -> int:
    """Bring ports of a workspace to this machine.

    SPEC is PORT, LOCAL:REMOTE, LOCAL:HOST:REMOTE or BIND:LOCAL:HOST:REMOTE; HOST is looked up in
    the workspace. A port may be a range such as 8000-8005. An IPv6 address goes into brackets.

    At a terminal a table shows what passes; --json prints one object a line. Ctrl-C ends it.
    Exits with 255 if the connection failed.

    \b
    Examples:
      tether port-forward dev --tcp 8080
      tether port-forward dev --tcp 8080:80 --tcp 5432:db.internal:5432
      tether port-forward dev --udp 5353:53 --json
      tether port-forward dev --tcp 0.0.0.0:8000-8005:9000-9005
    """
    try:
        forwards = [f for spec in tcp for f in parse("tcp", spec)]
        forwards += [f for spec in udp for f in parse("udp", spec)]
    except BadSpec as wrong:
        raise click.UsageError(str(wrong)) from wrong
    if not forwards:
        raise click.UsageError("Nothing to forward: name a port with --tcp or --udp.")
    import asyncio

    from tether.cli.port_forward.run import Run
    from tether.client.errors import connecting
    from tether.net.signals import block

    block()
    set_up_logging(os.environ)
    workspace, live = workspace_name(name), sys.stdout.isatty() and not as_json

    async def run() -> int:
        return await Run(workspace, forwards, os.environ, as_json=as_json, live=live).run()

    with connecting():
        return asyncio.run(run())
