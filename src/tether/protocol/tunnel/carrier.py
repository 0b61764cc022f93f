"""One carrier, as the machine of its tunnel has it: where it stands, and what waits to leave on it.

Law: no I/O and no clock. Where a carrier stands is one `CarrierPhase`, and this is the only place that
keeps it; whoever runs the carrier asks. Of each kind of control frame one waits at most, so that a peer
that floods pings and does not read has one answer waiting, not a thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.timestamp import Timestamp
from tether.protocol.tunnel.frames import (
    MOVED,
    CarrierPing,
    CarrierPong,
    Retired,
    encode_carrier_frame,
)
from tether.protocol.tunnel.join import TunnelKey
from tether.protocol.tunnel.mac import FrameTags

MAX_CARRIERS = 8
"""Carriers at once."""

JOIN_S = 10.0
"""How long a carrier may take to join."""

MAX_FORGED = 8
"""Carriers that may be left for a forged frame without any progress; then the tunnel ends."""

FORGED = "a frame that the other end of the tunnel did not send"
FORGED_CODE = 1002
"""The close code of a carrier that was left for a forged frame."""


class CarrierPhase(Enum):
    """Where a carrier stands. Which one is in use is the tunnel's to know, not the carrier's."""

    JOINING = auto()  # its ends have yet to prove themselves to one another
    UNWANTED = auto()  # it did not join before we gave it up: what comes is ignored
    JOINED = auto()  # it may be used, or is
    RETIRING = auto()  # we have moved away from it, and say so once the peer has followed
    RETIRED = auto()  # we said, or are about to say, that its end is no event: we close it then
    RELEASED = auto()  # the peer said that its end is no event: the peer closes it

    @property
    def is_up(self) -> bool:
        """Whether both ends have proven themselves."""
        return self is not CarrierPhase.JOINING and self is not CarrierPhase.UNWANTED


NEXT: Mapping[CarrierPhase, frozenset[CarrierPhase]] = {
    CarrierPhase.JOINING: frozenset({CarrierPhase.JOINED, CarrierPhase.UNWANTED}),
    CarrierPhase.UNWANTED: frozenset(),
    CarrierPhase.JOINED: frozenset(
        {CarrierPhase.RETIRING, CarrierPhase.RETIRED, CarrierPhase.RELEASED}
    ),
    CarrierPhase.RETIRING: frozenset(
        {CarrierPhase.JOINED, CarrierPhase.RETIRED, CarrierPhase.RELEASED}
    ),
    CarrierPhase.RETIRED: frozenset({CarrierPhase.JOINED}),  # used again, before it is closed
    CarrierPhase.RELEASED: frozenset({CarrierPhase.JOINED}),  # the same, seen from the other end
}
"""Which phase may follow which. Any of them may be the last."""


@dataclass(slots=True)
class CarrierState:
    """What `pending_…` holds waits to leave, in this order; `pending_retired` after all data."""

    opened_at: float
    stream_to: Party
    """Who is at the other end of the stream itself: a relay, or the tunnel's other end."""
    ours: FrameTags
    """Makes the tags of what leaves."""
    theirs: FrameTags
    """Checks the tags of what arrives."""
    phase: CarrierPhase = CarrierPhase.JOINING
    pending_opening: bytes = b""
    pending_switch: int = 0
    """The number of the switch to this carrier; 0 for none."""
    pending_pong: int | None = None
    pending_ping: int | None = None
    pending_retired: str = ""
    """The word of a `Retired` frame."""
    pinged: tuple[int, float] | None = None
    """Nonce and time of the last ping."""
    missed_s: float = 0.0
    """For how long the peer had had no carrier when it opened this one."""

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
    def is_up(self) -> bool:
        """Whether both ends have proven themselves."""
        return self.phase.is_up

    @property
    def ends_quietly(self) -> bool:
        """Whether its end is no event, because one end has said so, or is about to."""
        return self.phase in (CarrierPhase.RETIRED, CarrierPhase.RELEASED)

    @property
    def is_ours_to_close(self) -> bool:
        """Whether we do not need it any more, and have said so."""
        unneeded = self.phase in (CarrierPhase.RETIRED, CarrierPhase.UNWANTED)
        return unneeded and not self.pending_retired

    @property
    def late_at(self) -> float:
        """When it has taken too long to join."""
        return self.opened_at + JOIN_S

    def move_to(self, phase: CarrierPhase) -> None:
        """Enter `phase`; being there already is no move."""
        assert phase is self.phase or phase in NEXT[self.phase], (self.phase, phase)
        self.phase = phase

    def retire(self) -> None:
        """Have the peer told that the end of this carrier is no event."""
        if self.phase in (CarrierPhase.JOINING, CarrierPhase.JOINED, CarrierPhase.RETIRING):
            self.move_to(CarrierPhase.RETIRED if self.is_up else CarrierPhase.UNWANTED)
            self.pending_retired = MOVED

    def switch_to(self, sequence: int) -> None:
        """It is used from now on; have the peer told (0: the peer has told us)."""
        self.move_to(CarrierPhase.JOINED)
        self.pending_switch = sequence
        self.pending_retired = ""

    def ping(self, now: Timestamp) -> None:
        """Have a ping leave."""
        nonce = (self.pinged[0] if self.pinged else 0) + 1
        self.pinged = (nonce, now.mono)
        self.pending_ping = nonce

    def rtt_s(self, nonce: int, now: Timestamp) -> float | None:
        """The round trip that an answer with this nonce shows; None for a late or an invented one."""
        if self.pinged is None or self.pinged[0] != nonce:
            return None
        return now.mono - self.pinged[1]

    def tagged(self, head: bytes, body: bytes = b"") -> tuple[bytes, bytes]:
        """A frame that leaves now, with its tag."""
        return self.ours.tag(head, body) + head, body

    def take_ping_or_pong(self) -> bytes | None:
        """A ping or its answer, which go before any data."""
        if self.pending_pong is not None:
            pong, self.pending_pong = self.pending_pong, None
            return encode_carrier_frame(CarrierPong(pong))
        if self.pending_ping is not None:
            ping, self.pending_ping = self.pending_ping, None
            return encode_carrier_frame(CarrierPing(ping))
        return None

    def take_retired(self) -> bytes | None:
        """The word that its end is no event, which goes after all data."""
        if not self.pending_retired:
            return None
        word, self.pending_retired = self.pending_retired, ""
        return encode_carrier_frame(Retired(word))

    def forgery(self, vantage: Vantage, now: Timestamp) -> Evidence:
        """The fact of a forged frame. Where the stream leads to a relay, the relay has made or altered
        it; else nobody can say who did, and it is a stream that failed."""
        if self.stream_to is Party.RELAY:
            return ev.ProtocolViolated(vantage=vantage, at=now.wall, by=Party.RELAY, what=FORGED)
        return ev.StreamEnded(
            vantage=vantage,
            at=now.wall,
            peer=self.stream_to,
            how=StreamEnd.OTHER,
            errno="EBADMSG",
        )


@dataclass(slots=True)
class ForgeryCount:
    """How many carriers in a row were left for forged frames, without progress between them."""

    _count: int = 0
    _progress: int = -1

    def is_too_much(self, progress: int) -> bool:
        """Count one more; whether the tunnel, which has come so far, can go on like this no longer."""
        self._count = self._count + 1 if progress == self._progress else 1
        self._progress = progress
        return self._count >= MAX_FORGED
