"""What commands print: JSON for scripts, tables and plain words for people.

Law: stdout carries the answer and nothing else. Text from elsewhere is cleaned of control characters
before a terminal sees it. `rich` is imported only where a table is drawn.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable
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


def table(*headings: str, whole: Collection[str] = ()) -> Table:
    """An empty table; add rows with `add_row`, then `print_table`. A row is one line: where the terminal
    is too narrow, the widest cells are cut, never those of the columns `whole`."""
    from rich import box
    from rich.table import Table

    gap = (0, 1, 0, 0) if is_narrow() else (0, 1)
    drawn = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False, padding=gap
    )
    for heading in headings:
        drawn.add_column(heading, overflow="ellipsis", no_wrap=heading in whole)
    return drawn


def add_row(drawn: Table, *cells: object, style: str = "") -> None:
    """Cells are plain text: nothing in them is taken for markup."""
    from rich.text import Text

    row = (Text(clean(cell), no_wrap=True, overflow="ellipsis") for cell in cells)
    drawn.add_row(*row, style=style or None)


def print_table(drawn: Table) -> None:
    """Draw on stdout, as wide as the terminal, or as the content where there is none."""
    from rich.console import Console

    Console(width=_width(), highlight=False, soft_wrap=False).print(drawn)


NARROW = 100
"""Columns of a terminal below which a table has to save some."""


def is_narrow() -> bool:
    """Whether stdout has too few columns for everything that could be told."""
    return _width() < NARROW


def _width() -> int:
    """The columns of the terminal; of a pipe what COLUMNS says, or no limit."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return 10_000
    return shutil.get_terminal_size().columns


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


def short_time(value: object) -> str:
    """As `local_time`, without the year."""
    return local_time(value)[5:]


def zone_of(values: Iterable[object]) -> str:
    """What the user's zone is called at these times of the API: `CET`, or `CET/CEST` in a year."""
    found = {when.astimezone().tzname() or "local" for value in values if (when := moment(value))}
    return "/".join(sorted(found)) or "local"


def zoned_time(value: object) -> str:
    """As `local_time`, with the name of the zone."""
    shown = local_time(value)
    return f"{shown} {zone_of([value])}" if shown else ""


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
