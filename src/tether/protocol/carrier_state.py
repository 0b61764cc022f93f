"""What a tunnel's machine knows of one carrier: how far it has come, and the words that wait to leave.

Law: no I/O and no clock. Of each kind of word one waits at most: a peer that floods pings and does not
read has one answer waiting, not a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.protocol.carrier_frames import CarrierPing, CarrierPong, encode_carrier_frame
from tether.protocol.instant import Instant

ATTACH_S = 10.0
"""How long a carrier's opening may take."""


@dataclass(slots=True)
class CarrierState:
    """`first`, `turn`, `pong`, `ping` and `word` wait to leave; the last of them after all data."""

    opened_at: float
    up: bool = False
    first: bytes = b""
    turn: int = 0
    pong: int | None = None
    ping: int | None = None
    word: str = ""
    pinged: tuple[int, float] | None = None
    confirmed: bool = False
    """Client: the agent has followed our use of it."""
    retired: bool = False

    @property
    def late_at(self) -> float:
        """When its opening has taken too long."""
        return self.opened_at + ATTACH_S

    def ask(self, now: Instant) -> None:
        """Have a ping leave."""
        nonce = (self.pinged[0] if self.pinged else 0) + 1
        self.pinged, self.ping = (nonce, now.mono), nonce

    def rtt_s(self, nonce: int, now: Instant) -> float | None:
        """What the answer with this nonce tells; None for a late or an invented one."""
        if self.pinged is None or self.pinged[0] != nonce:
            return None
        return now.mono - self.pinged[1]

    def quick_word(self) -> bytes | None:
        """A ping or its answer, which go before any data."""
        if self.pong is not None:
            pong, self.pong = self.pong, None
            return encode_carrier_frame(CarrierPong(pong))
        if self.ping is not None:
            ping, self.ping = self.ping, None
            return encode_carrier_frame(CarrierPing(ping))
        return None
