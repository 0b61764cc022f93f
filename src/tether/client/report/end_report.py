"""What this client has to say of the end of a tunnel: the facts that it saw, or its relay.

Law: no I/O. What the agent or the server saw is theirs to report.
"""

from __future__ import annotations

from typing import Protocol

from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Vantage
from tether.net.clock import Clock
from tether.protocol.messages.base import records_of
from tether.protocol.messages.reports import Ended

_OWN = (Vantage.CLIENT, Vantage.RELAY)


class Seen(Protocol):
    """What a report is made of: one end of a tunnel."""

    rx_bytes: int
    tx_bytes: int

    @property
    def cell(self) -> CloseCell: ...


def ended(connection_id: str, seen: Seen, clock: Clock) -> Ended:
    """The report of a tunnel's end."""
    own = tuple(fact for fact in seen.cell.facts if fact.vantage in _OWN)
    later = tuple(fact for fact in seen.cell.symptoms if fact.vantage in _OWN)
    return Ended(
        connection_id=connection_id,
        at=clock.now().wall,
        facts=records_of(own),
        symptoms=records_of(later),
        rx_bytes=seen.rx_bytes,
        tx_bytes=seen.tx_bytes,
    )
