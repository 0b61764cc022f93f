"""What a tunnel's machine knows of one carrier: how far it has come, and the words that wait to leave.

Law: no I/O and no clock. Of each kind of word one waits at most: a peer that floods pings and does not
read has one answer waiting, not a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.timestamp import Timestamp
from tether.protocol.tunnel.frames import MOVED, CarrierPing, CarrierPong, encode_carrier_frame
from tether.protocol.tunnel.join import TunnelKey
from tether.protocol.tunnel.mac import FrameTags

MAX_CARRIERS = 8
"""Carriers at once."""

ATTACH_S = 10.0
"""How long a carrier's opening may take."""

MAX_SPOILT = 8
"""Carriers that may be left for a forged frame without any progress; then the tunnel ends."""

SPOILT = "a frame that the other end of the tunnel did not send"
SPOILT_CODE = 1002
AS_SPOILT = SPOILT_CODE, SPOILT
"""What is seen of it, the close code of a carrier that was left for it, and both."""


@dataclass(slots=True)
class CarrierState:
    """`first`, `turn`, `pong`, `ping` and `word` wait to leave; the last of them after all data."""

    opened_at: float
    stream_to: Party
    """Who is at the other end of the stream itself: a relay, or the tunnel's other end."""
    ours: FrameTags
    theirs: FrameTags
    """The tags of what leaves and of what arrives. A relay sees all of it, so all of it is covered."""
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

    @classmethod
    def open(
        cls,
        key: TunnelKey,
        connection_id: str,
        number: int,
        me: Party,
        stream_to: Party,
        now: Timestamp,
    ) -> CarrierState:
        """A carrier whose stream is there, and nothing more."""
        peer = Party.AGENT if me is Party.CLIENT else Party.CLIENT
        ours, theirs = (
            FrameTags(
                key.of_frames(party, connection_id, number), data_too=stream_to is Party.RELAY
            )
            for party in (me, peer)
        )
        return cls(now.mono, stream_to, ours, theirs)

    @property
    def late_at(self) -> float:
        """When its opening has taken too long."""
        return self.opened_at + ATTACH_S

    def ask(self, now: Timestamp) -> None:
        """Have a ping leave."""
        nonce = (self.pinged[0] if self.pinged else 0) + 1
        self.pinged, self.ping = (nonce, now.mono), nonce

    def rtt_s(self, nonce: int, now: Timestamp) -> float | None:
        """What the answer with this nonce tells; None for a late or an invented one."""
        if self.pinged is None or self.pinged[0] != nonce:
            return None
        return now.mono - self.pinged[1]

    def tagged(self, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        """A frame that leaves now, with its tag."""
        return self.ours.tag(head, body) + head, body

    def retire(self) -> None:
        """Have the peer told that the end of this carrier is no event."""
        self.retired, self.word = True, MOVED

    def spoilt(self, vantage: Vantage, now: Timestamp) -> Evidence:
        """Somebody on its way has made a frame, or altered one: a relay where it leads through one;
        else nobody can say who, and it is a stream that failed."""
        if self.stream_to is Party.RELAY:
            return ev.ProtocolViolated(vantage=vantage, at=now.wall, by=Party.RELAY, what=SPOILT)
        return ev.StreamEnded(
            vantage=vantage,
            at=now.wall,
            peer=self.stream_to,
            how=StreamEnd.OTHER,
            errno="EBADMSG",
        )

    def quick_word(self) -> bytes | None:
        """A ping or its answer, which go before any data."""
        if self.pong is not None:
            pong, self.pong = self.pong, None
            return encode_carrier_frame(CarrierPong(pong))
        if self.ping is not None:
            ping, self.ping = self.ping, None
            return encode_carrier_frame(CarrierPing(ping))
        return None


@dataclass(slots=True)
class SpoiltOnes:
    """How many carriers in a row were left for forged frames, without progress between them."""

    _many: int = 0
    _progress: int = -1

    def too_often(self, progress: int) -> bool:
        """One more, and how far the tunnel has come; whether it can go on like this no longer."""
        self._many = self._many + 1 if progress == self._progress else 1
        self._progress = progress
        return self._many >= MAX_SPOILT
