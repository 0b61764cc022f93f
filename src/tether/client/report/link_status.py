"""What this client has to tell of its own control links that were lost.

Law: no I/O. A link that stopped without a goodbye is told once another one is up, with what the dials
in between met, under a journal of its own; it is told again until the server has committed it. So is
one that we left with a goodbye which nobody acknowledged: the server may have seen no more than silence.
A link whose goodbye was heard needs no account. What is to be told, and which link is up, is noted where
a later process finds it (`keep`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import DialStage, Party, Vantage
from tether.net.clock import Clock
from tether.net.transport.streams import DialFailed
from tether.protocol.messages.base import records_of
from tether.protocol.messages.reports import Ended, Report

MOST = 16
"""Ends that wait to be told; more of them are of one outage, and the last ones tell of it."""


class LinkStatus(StrEnum):
    """How it is with a link of whose end there is nothing to tell."""

    UP = "up"
    SETTLED = "settled"


LinkState: TypeAlias = LinkStatus | Ended
"""A link's standing, or what there is to tell of its end."""

LinkNote: TypeAlias = Callable[[str, LinkState], None]
"""Notes what became of the link with this connection id."""


@dataclass(slots=True)
class _Untold:
    at: float
    facts: tuple[Evidence, ...]
    symptoms: tuple[Evidence, ...]
    redials: dict[DialStage, Evidence] = field(default_factory=dict)


class LinkEnds:
    """Collects how control links ended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._untold: dict[str, _Untold] = {}
        self._missed = self._up = ""
        self._note: LinkNote = lambda connection_id, state: None

    def keep(self, note: LinkNote) -> None:
        """From now on, note what changes with `note`; first, how it is now."""
        self._note = note
        for connection_id in self._untold:
            note(connection_id, self._account(connection_id))
        if self._up:
            note(self._up, LinkStatus.UP)

    def begun(self, connection_id: str) -> None:
        """A link is welcomed."""
        self._up = connection_id
        self._note(connection_id, LinkStatus.UP)

    def ended(self, connection_id: str, cell: CloseCell, *, unheard: bool = False) -> None:
        """A welcomed link is over; `unheard`: we left it, and nobody acknowledged our goodbye."""
        self._missed = self._up = ""
        if not unheard and not any(isinstance(fact, ev.StreamEnded) for fact in cell.facts):
            self._note(connection_id, LinkStatus.SETTLED)
            return
        own = tuple(fact for fact in cell.facts if fact.vantage is Vantage.CLIENT)
        later = tuple(fact for fact in cell.symptoms if fact.vantage is Vantage.CLIENT)
        self._untold[connection_id] = _Untold(self._clock.now().wall, own, later)
        self._missed = connection_id
        self._note(connection_id, self._account(connection_id))
        while len(self._untold) > MOST:
            self.committed(next(iter(self._untold)))

    def redial_failed(self, failed: DialFailed) -> None:
        """A name that does not resolve, a proxy in the way: that tells of the loss before it, too."""
        untold = self._untold.get(self._missed)
        if untold is None or failed.stage is DialStage.TCP or failed.stage in untold.redials:
            return
        untold.redials[failed.stage] = ev.RedialFailed(
            vantage=Vantage.CLIENT,
            at=self._clock.now().wall,
            party=Party.CLIENT,
            peer=Party.SERVER,
            stage=failed.stage,
            error=str(failed)[:200],
            status=failed.status,
        )
        self._note(self._missed, self._account(self._missed))

    def reports(self) -> list[Report]:
        """What to send on a new link."""
        self._missed = ""
        return [
            Report(journal_id=connection_id, first_seq=1, items=[self._account(connection_id)])
            for connection_id in self._untold
        ]

    def committed(self, journal_id: str) -> None:
        """The server has it, or nobody need be told any more."""
        if self._untold.pop(journal_id, None) is not None:
            self._note(journal_id, LinkStatus.SETTLED)

    def _account(self, connection_id: str) -> Ended:
        untold = self._untold[connection_id]
        return Ended(
            connection_id=connection_id,
            at=untold.at,
            facts=records_of((*untold.facts, *untold.redials.values())),
            symptoms=records_of(untold.symptoms),
        )
