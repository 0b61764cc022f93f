"""Which connections a command is about: the same options for lists, counts and downloads.

Law: words become a query and nothing is decided here; the server refuses what means nothing. Times are
taken as the tables print them, in the zone of whoever types them.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from tether.attribution.vocabulary import ConnectionType, Initiator, Reason

F = TypeVar("F", bound=Callable[..., Any])
Query = list[tuple[str, str]]

INITIATORS = [*(str(i) for i in Initiator if i), "unknown"]

_WORDS: dict[str, tuple[str | None, Sequence[str], str]] = {
    "workspace": ("W", (), "Of this workspace."),
    "user": ("U", (), "Of this user."),
    "type": (None, [str(t) for t in ConnectionType], "What ran over it."),
    "app": ("APP", (), "By which program, such as cursor."),
    "reason": ("R", [str(r) for r in Reason], "What happened, such as network_error."),
    "cause": ("C", (), "Which cause, such as agent.crashed."),
    "initiator": (None, INITIATORS, "Who began the end."),
    "incident": ("ID", (), "An end of this incident."),
}
"""Filter -> how its value is called (None: by its words), the only words that it knows, and its help."""

_TIMES = {
    "since": "Open at this time or later.",
    "until": "Begun before this time.",
    "ended_since": "Ended at this time or later.",
    "ended_until": "Ended before this time.",
}

_SPAN = re.compile(r"\d{1,9}[smhdw]")
_DAY = re.compile(r"\d{2}-\d{2}( .*)?")
_CLOCK = re.compile(r"\d{2}:\d{2}(:\d{2})?")
A_DAY = timedelta(days=1)


def filter_options(function: F) -> F:
    """The options; what they were given arrives as one argument `filters`, a query."""
    options: list[Callable[[F], F]] = []
    for name, (metavar, words, what) in _WORDS.items():
        kind = click.Choice(list(words)) if words else click.STRING
        options += [
            click.option(
                f"--{name}", f"only_{name}", type=kind, metavar=metavar, multiple=True, help=what
            ),
            click.option(
                f"--not-{name}",
                f"not_{name}",
                type=kind,
                metavar=metavar,
                multiple=True,
                hidden=True,
            ),
        ]
    options += [
        click.option(
            "--expected", type=click.Choice(["true", "false"]), help="false: investigate."
        ),
        click.option("--status", type=click.Choice(["ongoing", "closed"])),
    ]
    options += [
        click.option(f"--{name.replace('_', '-')}", name, metavar="T", help=what)
        for name, what in _TIMES.items()
    ]

    @functools.wraps(function)
    def gathering(*passed: Any, **given: Any) -> Any:
        return function(*passed, filters=_query(given), **given)

    decorated: Any = gathering
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def _query(given: dict[str, Any]) -> Query:
    """Take the filters out of what a command was given."""
    found: Query = []
    for name in _WORDS:
        found += [(name, word) for word in given.pop(f"only_{name}")]
        found += [(name, f"!{word}") for word in given.pop(f"not_{name}")]
    for name in ("expected", "status"):
        if (word := given.pop(name)) is not None:
            found.append((name, word))
    for name in _TIMES:
        if (text := given.pop(name)) is not None:
            found.append((name, when(text, option=f"--{name.replace('_', '-')}")))
    return found


def when(text: str, *, option: str, now: datetime | None = None) -> str:
    """A time as the API takes it, from one that somebody typed: `2h`, RFC 3339, or as a table prints it,
    which is local time. A time of day, or a day without a year, is the last one of that kind.

    Args:
        now: the present, in the zone of this machine; None: by its clock.

    Raises:
        click.UsageError: it is none of these.
    """
    text = text.strip()
    if _SPAN.fullmatch(text):
        return text
    now = _now() if now is None else now
    bare, _, zone = text.rpartition(" ")
    try:
        if zone == "UTC":
            moment = datetime.fromisoformat(bare).replace(tzinfo=UTC)
        else:
            moment = _moment(bare if zone and zone in time.tzname else text, now)
    except ValueError:
        raise click.UsageError(
            f"{option}: {text[:40]!r} is no time: write it as the tables print it"
            f" ({now:%Y-%m-%d %H:%M:%S}), or a span back from now such as 15m, 2h or 3d."
        ) from None
    return moment.isoformat()


def _moment(text: str, now: datetime) -> datetime:
    if _CLOCK.fullmatch(text):
        today = datetime.fromisoformat(f"{now:%Y-%m-%d} {text}").astimezone()
        return today if today <= now else (today.replace(tzinfo=None) - A_DAY).astimezone()
    if _DAY.fullmatch(text):
        found = datetime.fromisoformat(f"{now.year}-{text}").astimezone()
        return (
            found if found <= now else datetime.fromisoformat(f"{now.year - 1}-{text}").astimezone()
        )
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.astimezone()


def _now() -> datetime:
    from tether.net.clock import SystemClock  # only where somebody typed a time

    return datetime.fromtimestamp(SystemClock().now().wall).astimezone()
