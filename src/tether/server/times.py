"""Times at the edge of the API: unix seconds inside, ISO-8601 in UTC outside.

Law: pure; the moment "now" is handed in.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_RELATIVE = re.compile(r"(\d{1,9})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def iso(at: float) -> str:
    """`at` as `2026-11-23T03:57:12.345Z`."""
    moment = datetime.fromtimestamp(math.floor(at * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def iso_or_none(at: float | None) -> str | None:
    """`at` as text; None stays None."""
    return None if at is None else iso(at)


def parse_when(text: str, now: float) -> float:
    """The moment that `text` names: RFC 3339, or a span before `now` such as `15m`, `2h`, `3d`.

    Raises:
        ValueError: it is neither. The text is one sentence for people.
    """
    if span := _RELATIVE.fullmatch(text):
        return now - int(span[1]) * _UNITS[span[2]]
    try:
        # in a query, `+02:00` that was not quoted arrives as ` 02:00`
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            f"{text[:40]!r} is no time: write 2026-11-23T03:57:12Z, or a span back from now such as"
            " 15m, 2h or 3d"
        )
    return moment.timestamp()
