"""The value that says why a connection ended, and the cell in which the first cause wins.

Law: a `Disconnect` has no reason, initiator or expected of its own: they follow from its cause. A
`CloseCell` is offered the cause *before* the first close, abort, cancel or kill; what is offered
later is a symptom and never becomes the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tether.attribution.causes.catalogue import cause_of
from tether.attribution.causes.cause import Cause
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Basis, ConnectType, Initiator, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """One end of one connection, judged."""

    connect_type: ConnectType
    cause: str
    basis: Basis
    actor: str = ""
    detail: str = ""
    exit_code: int | None = None
    exit_signal: str | None = None

    @property
    def row(self) -> Cause:
        """The catalogue's row of this cause."""
        return cause_of(self.cause)

    @property
    def reason(self) -> Reason:
        return self.row.reason

    @property
    def initiator(self) -> Initiator:
        return self.row.initiator

    @property
    def expected(self) -> bool:
        return self.row.expected

    def fields(self) -> dict[str, Any]:
        """The fields of logs and rows (docs/vocabulary.md, "Fields") as plain data."""
        fields: dict[str, Any] = {
            "connect_type": str(self.connect_type),
            "disconnect_reason": str(self.reason),
            "disconnect_expected": self.expected,
            "disconnect_initiator": str(self.initiator),
            "disconnect_detail": self.detail,
            "disconnect_cause": self.cause,
            "disconnect_basis": str(self.basis),
            "disconnect_actor": self.actor,
        }
        if self.exit_code is not None:
            fields["exit_code"] = self.exit_code
        if self.exit_signal is not None:
            fields["exit_signal"] = self.exit_signal
        return fields


KEPT_OF_A_KIND = 64


class CloseCell:
    """What one party knows about the end of one connection.

    `note` adds a fact that does not end the connection (a session's exit, counters, a signal);
    `offer` adds one that does. After the first offer everything is a symptom. Who knows what is worth
    telling only at the end is asked then (`last_words`).
    """

    def __init__(self) -> None:
        self._facts: list[Evidence] = []  # up to and including the first cause
        self._symptoms: list[Evidence] = []  # what came later
        self._ended = False  # whether a cause was offered
        self.last_words: Callable[[], Iterable[Evidence]] = tuple
        """Asked just before the first cause for facts that belong before it."""

    @property
    def ended(self) -> bool:
        """Whether a cause has been offered."""
        return self._ended

    @property
    def facts(self) -> tuple[Evidence, ...]:
        """What was known up to and including the first cause, in order."""
        return tuple(self._facts)

    @property
    def symptoms(self) -> tuple[Evidence, ...]:
        """What came after the first cause, in order."""
        return tuple(self._symptoms)

    def note(self, fact: Evidence) -> None:
        """Keep a fact that does not end the connection.

        Of one kind only the latest `KEPT_OF_A_KIND` are kept: thousands of sessions may end on one
        connection, and what is known must still fit one message.
        """
        kept = self._symptoms if self._ended else self._facts
        alike = [known for known in kept if type(known) is type(fact)]
        if len(alike) >= KEPT_OF_A_KIND:
            kept.remove(alike[0])
        kept.append(fact)

    def offer(self, fact: Evidence) -> bool:
        """Keep a fact that ends the connection; True if it is the first such fact.

        The same fact may be offered by everyone on its way down: it is kept once.
        """
        if any(known is fact for known in (*self._facts, *self._symptoms)):
            return False
        first = not self._ended
        if first:
            for told in self.last_words():
                self.note(told)
        self.note(fact)
        self._ended = True
        return first
