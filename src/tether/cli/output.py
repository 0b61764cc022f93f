"""What commands print: JSON for scripts, tables and plain words for people.

Law: stdout carries the answer and nothing else. Text from elsewhere is cleaned of control characters
before a terminal sees it. `rich` is imported only where a table is drawn.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tether.text import duration, printable

if TYPE_CHECKING:
    from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """`--json`, for commands whose answer a script might read."""
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
    return option(function)


def wait_option(function: F) -> F:
    """`--wait`, for commands that need a workspace's agent."""
    option = click.option(
        *("--wait", "wait_s"),
        type=click.FloatRange(0.0),
        expose_value=False,
        metavar="S",
        help="Wait so long for an agent that is not connected. Default: 10 seconds.",
        callback=lambda _ctx, _option, seconds: _set_wait(seconds),
    )
    return option(function)


def _set_wait(seconds: float | None) -> None:
    if seconds is not None:  # also for the proxy of the `ssh` that is started
        os.environ["TETHER_WAIT"] = str(seconds)


def print_json(value: Any) -> None:
    """`value` as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def clean(value: object) -> str:
    """`value` as one line of text that cannot drive a terminal."""
    text = "" if value is None else str(value)
    return printable(text).strip()


def table(*headings: str) -> Table:
    """An empty table; add rows with `add_row`, then `print_table`."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    return drawn


def add_row(drawn: Table, *cells: object, style: str = "") -> None:
    """Cells are plain text: nothing in them is taken for markup."""
    from rich.text import Text

    drawn.add_row(*(Text(clean(cell)) for cell in cells), style=style or None)


def print_table(drawn: Table) -> None:
    """Draw on stdout, as wide as the terminal, or as the content where there is none."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False, soft_wrap=False).print(drawn)


def moment(value: object) -> datetime | None:
    """A time of the API, or None."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def local_time(value: object) -> str:
    """A time of the API in the user's zone, to the second."""
    when = moment(value)
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S") if when else ""


def span(seconds: object) -> str:
    """Seconds of the API in words, with tenths where they matter."""
    if not isinstance(seconds, (int, float)):
        return ""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def size(count: object) -> str:
    """Bytes in a readable unit."""
    if not isinstance(count, (int, float)):
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
