"""The filters of the connection log in a query: the same words for pages, lists, counts and downloads.

Law: words become a `RowSearch`, or are refused in a sentence that names what was probably meant. A
name that nothing on file has is a mistake of whoever typed it, not an empty answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel, Field

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.sides import Side
from tether.attribution.vocabulary import (
    Basis,
    Confidence,
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Initiator,
    Reason,
)
from tether.server.api.models import Model
from tether.server.api.parts import Parts
from tether.server.connlog.filter import NONE, RowSearch, Values
from tether.server.db.tables.connections import ConnectionStatus
from tether.server.errors import Invalid, NotFound
from tether.server.identity import Identity
from tether.server.times import parse_when
from tether.text import did_you_mean

MAX_VALUES, MAX_VALUE = 50, 128
MAX_TEXT = 200

UNTOLD = "unknown"
"""The word for an initiator that could not be told."""

_ANY = "Any of these; `!` before a value: not that one; `none`: there is none."

Words = Annotated[
    list[Annotated[str, Field(max_length=MAX_VALUE)]],
    Field(default_factory=list, max_length=MAX_VALUES, description=_ANY),
]
Span = Annotated[str, Field(max_length=40)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]


class LogQuery(Model):
    """The filters. Those of different fields all have to match."""

    q: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """Words that each have to be in a row: in a name, an address, a detail, the beginning of an id,
    or the cause's title."""
    side: Words
    """Whose side the end lies on: `us`, `workspace`, `network`, `machine` or `unknown`."""
    cause: Words
    reason: Words
    initiator: Words
    expected: Words
    """`false`: those to investigate."""
    status: Words
    type: Words
    connect_type: Words
    app: Words
    workspace: Words
    user: Words
    agent: Words
    """The agent's host name."""
    client_ip: Words
    method: Words
    relay: Words
    basis: Words
    confidence: Words
    actor: Words
    rule: Words
    exit_code: Words
    exit_signal: Words
    incident: Words
    session: Words
    """A client's own name for what its connections are part of."""
    detached: bool | None = None
    since: Span = ""
    """Lived at this time or later. RFC 3339, or a span back from now: `15m`, `2h`, `3d`."""
    until: Span = ""
    """Begun before this time."""
    began_since: Span = ""
    began_until: Span = ""
    ended_since: Span = ""
    ended_until: Span = ""
    min_duration_s: Seconds | None = None
    max_duration_s: Seconds | None = None


def only_known(request: Request) -> None:
    """Refuse parameters of the query that the endpoint does not have: a typing error is not ignored.

    Raises:
        Invalid: there is one.
    """
    known = _parameters_of(request.scope["route"].dependant)
    for name in request.query_params:
        if name not in known:
            meant = did_you_mean(name, known)
            raise Invalid(
                "invalid_request", f"query parameter {name[:40]}: is not known here{meant}"
            )


def _parameters_of(dependant: Dependant) -> set[str]:
    found: set[str] = set()
    for parameter in dependant.query_params:
        kind = parameter.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= set(kind.model_fields)
        else:
            found.add(parameter.alias)
    return found.union(*map(_parameters_of, dependant.dependencies))


async def search_of(query: LogQuery, parts: Parts, viewer: Identity) -> RowSearch:
    """What a query asks for.

    Raises:
        Invalid: a word is none of its filter's, or no time.
        NotFound: the viewer sees no workspace or user of a name.
    """
    search = _read(query, parts.clock.now().wall)
    for subject in ("workspace", "user"):
        values = search.values.get(subject, Values())
        for name in (*values.wanted, *values.unwanted):
            if name == NONE or await parts.pages.is_on_file(subject, name, viewer):
                continue
            known = await parts.pages.names_of(subject, viewer)
            raise NotFound(
                f"{subject}_not_found",
                f"there is no {subject} {name[:40]!r} on file{did_you_mean(name, known)}",
            )
    return search


def _true_or_false(word: str) -> bool:
    return {"true": True, "false": False}[word]


def _initiator(word: str) -> str:
    return str(Initiator.UNTOLD if word == UNTOLD else Initiator(word))


_CLOSED: dict[str, type[StrEnum]] = {
    "reason": Reason,
    "status": ConnectionStatus,
    "type": ConnectionType,
    "connect_type": ConnectType,
    "method": ConnectionMethod,
    "basis": Basis,
    "confidence": Confidence,
    "side": Side,
}
"""Filter -> the only words that it knows."""

_WORDS: dict[str, Iterable[str]] = {
    **{name: [str(word) for word in words if word] for name, words in _CLOSED.items()},
    "initiator": [*(str(word) for word in Initiator if word), UNTOLD],
    "expected": ("true", "false"),
    "cause": CATALOGUE,
}
"""Filter -> what may be meant by a word that is none of it."""


def _one_of(words: type[StrEnum]) -> Callable[[str], Any]:
    return lambda word: str(words(word))


_VALUES: dict[str, Callable[[str], Any]] = {
    "cause": lambda code: CATALOGUE[code].code,
    "initiator": _initiator,
    "expected": _true_or_false,
    "exit_code": int,
    **{name: _one_of(words) for name, words in _CLOSED.items()},
    **dict.fromkeys(
        ("app", "workspace", "user", "agent", "client_ip", "relay", "actor", "rule"), str
    ),
    **dict.fromkeys(("exit_signal", "incident", "session"), str),
}


def _read(query: LogQuery, now: float) -> RowSearch:
    values = {
        name: _values(name, words, read)
        for name, read in _VALUES.items()
        if (words := getattr(query, name))
    }
    sides = values.pop("side", Values())
    moments = {
        f"{bound}": _moment(name, getattr(query, name), now)
        for name, bound in (
            ("since", "lived_since"),
            ("until", "lived_until"),
            *(
                (name, name)
                for name in ("began_since", "began_until", "ended_since", "ended_until")
            ),
        )
    }
    return RowSearch(
        values=values,
        sides=sides,
        text=query.q.strip(),
        detached=query.detached,
        min_duration_s=query.min_duration_s,
        max_duration_s=query.max_duration_s,
        **moments,
    )


def _values(name: str, words: list[str], read: Callable[[str], Any]) -> Values:
    wanted: list[Any] = []
    unwanted: list[Any] = []
    for word in words:
        bare = word.removeprefix("!")
        try:
            value = NONE if bare == NONE and name != "side" else read(bare)
        except (ValueError, KeyError):
            raise Invalid(
                "invalid_request", f"query parameter {name}: {_no_such(name, bare)}"
            ) from None
        (wanted if bare == word else unwanted).append(value)
    return Values(tuple(wanted), tuple(unwanted))


def _no_such(name: str, word: str) -> str:
    known = tuple(_WORDS.get(name, ()))
    if meant := did_you_mean(word, known):
        return f"there is no {word[:40]!r}{meant}"
    few = f": it is one of {', '.join(known)}" if 0 < len(known) <= 20 else ""
    return f"there is no {word[:40]!r}{few}"


def _moment(name: str, text: str, now: float) -> float | None:
    if not text:
        return None
    try:
        return parse_when(text, now)
    except ValueError as wrong:
        raise Invalid("invalid_request", f"query parameter {name}: {wrong}") from wrong
