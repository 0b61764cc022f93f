"""`tether speedtest NAME`: how much a tunnel to a workspace carries, each way.

Law: measured where the bytes arrive, over the path that a session would use. Bounded in time. Exits
with 255 if there is no connection, or it ends meanwhile.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from tether.cli.network.ping import path
from tether.cli.output import (
    add_row,
    json_option,
    print_json,
    print_table,
    size,
    table,
    wait_option,
)
from tether.client.errors import set_up_logging
from tether.client.host_keys import workspace_name

if TYPE_CHECKING:
    from tether.protocol.messages.probe import ProbeResult


@click.command()
@click.option(
    "--time",
    "seconds",
    type=click.FloatRange(0.1, 60.0),
    default=5.0,
    show_default=True,
    metavar="S",
    help="How long each direction is measured.",
)
@click.option(
    "--direction",
    type=click.Choice(["up", "down", "both"]),
    default="both",
    show_default=True,
    help="Up is towards the workspace.",
)
@wait_option
@json_option
@click.argument("name")
def speedtest(name: str, seconds: float, direction: str, as_json: bool) -> int:
    """Measure how much a tunnel to a workspace carries.

    \b
    Examples:
      tether speedtest dev
      tether speedtest dev --direction down --time 10
      tether speedtest dev --json | jq '.results[].mbit_per_s'
    """
    import asyncio

    from tether.client.errors import connecting
    from tether.client.probe import probing

    set_up_logging(os.environ)
    workspace = workspace_name(name)

    async def run() -> list[dict[str, Any]]:
        results = []
        async with probing(workspace, os.environ) as probe:
            await probe.ping(2.0)  # the better path may need a moment more than the first
            await probe.pause(0.2)
            for way in ("up", "down") if direction == "both" else (direction,):
                measured = await (
                    probe.send_for(seconds) if way == "up" else probe.receive_for(seconds)
                )
                pong = await probe.ping(5.0)
                results.append(_row(way, measured, str(pong.method), pong.where))
        return results

    with connecting():
        results = asyncio.run(run())
    if as_json:
        print_json({"workspace": workspace, "results": results})
        return 0
    drawn = table("DIRECTION", "CARRIED", "TIME", "RATE", "PATH")
    for row in results:
        add_row(
            drawn,
            row["direction"],
            size(row["bytes"]),
            f"{row['seconds']:.1f} s",
            f"{row['mbit_per_s']:.0f} Mbit/s ({size(row['bytes'] / row['seconds'])}/s)",
            path(row["method"], row["where"]),
        )
    print_table(drawn)
    return 0


def _row(way: str, measured: ProbeResult, method: str, where: str) -> dict[str, Any]:
    seconds = max(measured.seconds, 1e-6)
    return {
        "direction": way,
        "bytes": measured.bytes,
        "seconds": round(seconds, 3),
        "mbit_per_s": round(8e-6 * measured.bytes / seconds, 2),
        "method": method,
        "where": where,
    }
