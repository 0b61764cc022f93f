"""`tether ping NAME`: how long the way to a workspace takes, and which way it is.

Law: from this process to the agent's and back, over the very carrier that a session would use. Bounded
in number and time. Exits with 0 if an answer came (over a direct path, where that is waited for), with
1 if none did, with 255 if there is no connection.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from tether.cli.output import clean, json_option, print_json, wait_option
from tether.client.errors import EXIT_ERROR, set_up_logging
from tether.client.host_keys import workspace_name

if TYPE_CHECKING:
    from tether.client.probe import RoundTrip

_SECONDS = click.FloatRange(0.0, 3600.0)


@click.command()
@click.option(
    "-n", "count", type=click.IntRange(1, 100_000), default=5, show_default=True, metavar="COUNT"
)
@click.option("--interval", type=_SECONDS, default=1.0, show_default=True, metavar="S")
@click.option(
    "--timeout",
    type=click.FloatRange(0.01, 60.0),
    default=2.0,
    show_default=True,
    metavar="S",
    help="How long an answer may take.",
)
@click.option("--until-direct", is_flag=True, help="Stop as soon as the path is a direct one.")
@wait_option
@json_option
@click.argument("name")
def ping(
    name: str, count: int, interval: float, timeout: float, until_direct: bool, as_json: bool
) -> int:
    """Time the way to a workspace.

    Each line tells whether the path is direct, or which DERP region relays it.
    Exits with 1 if nothing came back, or no direct path with --until-direct; 255 without connection.

    \b
    Examples:
      tether ping dev
      tether ping dev -n 20 --interval 0.2
      tether ping dev --until-direct
      tether ping dev --json | jq .rtt_ms.avg
    """
    import asyncio

    from tether.client.errors import connecting
    from tether.client.probe import probing

    set_up_logging(os.environ)
    workspace = workspace_name(name)

    async def run() -> list[RoundTrip]:
        pongs: list[RoundTrip] = []
        async with probing(workspace, os.environ) as probe:
            while len(pongs) < count:
                if pongs:
                    await probe.pause(interval)
                pongs.append(await probe.ping(timeout))
                if not as_json:
                    click.echo(_line(workspace, pongs[-1]))
                if until_direct and _is_direct(pongs[-1]):
                    break
        return pongs

    with connecting():
        pongs = asyncio.run(run())
    summary = summarized(workspace, pongs)
    if as_json:
        print_json(summary)
    else:
        click.echo(_summary_line(summary))
    good = summary["answered"] > 0 and (not until_direct or _is_direct(pongs[-1]))
    return 0 if good else EXIT_ERROR


def summarized(workspace: str, pongs: list[RoundTrip]) -> dict[str, Any]:
    """The keys of `--json`."""
    times = [1000 * pong.rtt_s for pong in pongs if pong.rtt_s is not None]
    rtt: dict[str, float] | None = None
    if times:
        rtt = {
            "min": round(min(times), 3),
            "avg": round(sum(times) / len(times), 3),
            "max": round(max(times), 3),
        }
    return {
        "workspace": workspace,
        "sent": len(pongs),
        "answered": len(times),
        "loss": round(1 - len(times) / len(pongs), 4) if pongs else 0.0,
        "rtt_ms": rtt,
        "method": str(pongs[-1].method) if pongs else "",
        "where": pongs[-1].where if pongs else "",
        "probes": [
            {
                "rtt_ms": None if pong.rtt_s is None else round(1000 * pong.rtt_s, 3),
                "method": str(pong.method),
                "where": pong.where,
            }
            for pong in pongs
        ],
    }


def _is_direct(pong: RoundTrip) -> bool:
    return pong.rtt_s is not None and pong.method == "direct"


def path(method: str, where: str) -> str:
    """The way, for people."""
    if method == "direct":
        return f"direct to {where}"
    if method == "derp":
        return f"over derp region {where}" if where else "over the relay"
    return "no path"


def _line(workspace: str, pong: RoundTrip) -> str:
    way = clean(path(str(pong.method), pong.where))
    if pong.rtt_s is None:
        return f"no answer from {workspace} ({way})"
    return f"pong from {workspace} in {1000 * pong.rtt_s:.2f} ms ({way})"


def _summary_line(summary: dict[str, Any]) -> str:
    line = f"{summary['sent']} sent, {summary['answered']} answered, {100 * summary['loss']:.0f} % lost"
    rtt = summary["rtt_ms"]
    if rtt is None:
        return line
    return f"{line}; min/avg/max {rtt['min']:.2f}/{rtt['avg']:.2f}/{rtt['max']:.2f} ms"
