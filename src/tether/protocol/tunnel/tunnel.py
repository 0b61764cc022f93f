"""One end of a tunnel: a numbered stream of frames over carriers that come and go.

Law: no I/O and no clock. Frames of carriers, their ends, frames to send and `Timestamp`s go in; commands
come out. What is to be written on a carrier is *pulled* (`outgoing`) whenever the carrier has room for
it, so that the only queue is what the peer has not acknowledged, and that is bounded. A frame is
acknowledged when it was consumed (`consumed`), so that the same bound holds for what is received.

A carrier that has not proven itself can neither harm nor learn anything. One that brings a frame that
the peer did not send is left, and the tunnel goes on without it. `GaveUp` or `PeerLeft` comes at most
once, last.

The client decides which carrier is in use, and the agent follows. Both send what the other one has not
acknowledged on the carrier in use, in order, from the beginning of it; what comes twice is dropped.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, Vantage
from tether.protocol.messages.base import Garbage
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME
from tether.protocol.timestamp import Timestamp
from tether.protocol.tunnel.buffers import WINDOW, ReceiveBuffer, SendBuffer
from tether.protocol.tunnel.carrier import (
    FORGED,
    FORGED_CODE,
    MAX_CARRIERS,
    CarrierPhase,
    CarrierState,
    ForgeryCount,
)
from tether.protocol.tunnel.events import (
    Answered,
    CarrierLost,
    CarrierRefused,
    CarrierUp,
    CloseCarrier,
    Command,
    DeliverFrame,
    Detached,
    GaveUp,
    PeerLeft,
    Resumed,
    Used,
)
from tether.protocol.tunnel.frames import (
    MOVED,
    OVER,
    Acked,
    CarrierFrame,
    CarrierPing,
    CarrierPong,
    Numbered,
    Retired,
    SwitchTo,
    encode_carrier_frame,
    encode_opening,
    numbered_head,
    parse_carrier_frame,
)
from tether.protocol.tunnel.join import (
    BAD_PROOF,
    CARRIER_USED,
    NOT_JOINED,
    TOO_MANY,
    TUNNEL_OVER,
    Join,
    JoinRefused,
    TunnelKey,
    UsedNumbers,
    check_join,
    said_by,
)
from tether.protocol.tunnel.mac import TAG_BYTES
from tether.protocol.tunnel.resume_policy import (
    Waits,
    ends_with_its_link,
    not_resumed,
    shows_the_peers_end,
    wait_s,
)

MAX_FRAME = MAX_TUNNEL_FRAME - 17 - TAG_BYTES
"""Bytes of a frame of the layer above: with its head and tag it must fit into a carrier's."""


class Tunnel:
    """One end of a tunnel. After every call, pull `outgoing` and re-arm the timer."""

    def __init__(
        self,
        *,
        me: Party,
        connection_id: str,
        key: TunnelKey,
        waits: Waits | None = None,
        window: int = WINDOW,
    ) -> None:
        """
        Args:
            me: this end, the client or the agent.
            connection_id: the tunnel's.
            key: what both ends prove on each carrier.
            waits: how long to wait for a peer without a carrier.
            window: bytes that each end keeps for the other one.
        """
        self.me = me
        self.peer = Party.AGENT if me is Party.CLIENT else Party.CLIENT
        self.connection_id = connection_id
        self.over = False
        self.in_use = 0  # the number of the carrier in use; 0 for none
        self.detached_at: float | None = None  # since when none is, after one was
        self._silent_s = 0.0  # for how long the last one had been silent when it was given up
        self._key = key
        self._waits = waits or Waits()
        self._vantage = Vantage(str(me))
        self._send_buffer = SendBuffer(window)
        self._receive_buffer = ReceiveBuffer(window)
        self._carriers: dict[int, CarrierState] = {}
        self._used_numbers = UsedNumbers()
        self._forgeries = ForgeryCount()
        self._switches = 0  # how often the carrier in use was switched, by the client's count
        self._peer_followed = True  # client: whether the agent sends on the carrier in use
        self._give_up: tuple[float, Evidence] | None = (
            None  # when, and the fact that is the end then
        )
        # How a carrier showed that the peer has ended; None where the peer was heard on another since.
        self._peer_end: Evidence | None = None

    # -- what can be asked ---------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether `send` may be called."""
        return self._send_buffer.writable

    @property
    def unacked_bytes(self) -> int:
        """Bytes that are kept for the peer, with what frames cost."""
        return self._send_buffer.unacked_bytes

    @property
    def unsent_bytes(self) -> int:
        """Bytes of them that no carrier has taken yet."""
        return self._send_buffer.unsent_bytes

    @property
    def flushed(self) -> bool:
        """Whether all that was sent has been written on the carrier in use."""
        return self._send_buffer.flushed

    @property
    def carriers(self) -> dict[int, CarrierPhase]:
        """The carriers that are here, and where each stands."""
        return {number: carrier.phase for number, carrier in self._carriers.items()}

    @property
    def ours_to_close(self) -> list[int]:
        """The carriers that we do not need any more, once the peer was told so."""
        return [
            number
            for number, carrier in self._carriers.items()
            if number != self.in_use and carrier.is_ours_to_close
        ]

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick` next; None for never."""
        if self.over:
            return None
        due = [c.late_at for c in self._carriers.values() if not c.is_up]
        if self._give_up is not None:
            due.append(self._give_up[0])
        if self._receive_buffer.ack_at is not None and self.in_use:
            due.append(self._receive_buffer.ack_at)
        return min(due, default=None)

    def check_join(self, join: Join) -> JoinRefused | None:
        """What would be answered to `join` on a stream that nobody knows yet; None: it may join.

        An agent asks before it lets a stream that was dialled to it any further.
        """
        code = self._objection(join, self._used_numbers)
        if not code and join.carrier in self._carriers:
            code = CARRIER_USED
        if not code and len(self._carriers) >= MAX_CARRIERS:
            code = TOO_MANY
        return JoinRefused(code=code) if code else None

    # -- carriers come and go ------------------------------------------------------------

    def opened(
        self, number: int, now: Timestamp, *, stream_to: Party | None = None
    ) -> list[Command]:
        """A stream for carrier `number` is open. The client introduces itself first.

        Args:
            number: the carrier's.
            now: the present.
            stream_to: who is at the stream's other end: a relay, or the tunnel's other end (None).
        """
        if self.over:
            return [CloseCarrier(number, 1001, "the tunnel is over")]
        if number in self._used_numbers or number in self._carriers:
            return [CloseCarrier(number, 1008, f"carrier {number} was used before")]
        if len(self._carriers) >= MAX_CARRIERS:
            return [CloseCarrier(number, 1008, "too many carriers")]
        carrier = self._carriers[number] = CarrierState.open(
            self._key, self.connection_id, number, self.me, stream_to or self.peer, now
        )
        if self.me is Party.CLIENT:
            self._used_numbers.add(number)
            missed_s = 0.0
            if self.detached_at is not None:
                missed_s = self._silent_s + now.mono - self.detached_at
            carrier.pending_opening = self._opening(number, round(missed_s, 3))
        return []

    def ended(self, number: int, fact: Evidence, now: Timestamp) -> list[Command]:
        """The stream of a carrier has ended, as `fact` says."""
        carrier = self._carriers.pop(number, None)
        if self.over or carrier is None:
            return []
        if not carrier.is_up:
            return [CarrierRefused(number, JoinRefused(code=NOT_JOINED))]
        if shows_the_peers_end(fact, self.peer) and not carrier.ends_quietly:
            self._peer_end = fact
        wait: float | None = None
        if not any(other.is_up for other in self._carriers.values()):
            decisive = self._peer_end or fact  # the last one to end need not be the one that tells
            wait = wait_s(decisive, self.peer, self._waits)
            self._give_up = (now.mono + wait, not_resumed(decisive, self._vantage, wait, now))
        if number != self.in_use:
            return [] if carrier.ends_quietly else [CarrierLost(number, fact)]
        self.in_use = 0
        self.detached_at = now.mono
        self._silent_s = (isinstance(fact, ev.StreamEnded) and fact.silence_s) or 0.0
        return [Detached(number, fact, wait)]

    def use(self, number: int, now: Timestamp) -> list[Command]:
        """Client: send on this carrier from now on. Does nothing for one that is not up."""
        carrier = self._carriers.get(number)
        if self.over or carrier is None or not carrier.is_up or number == self.in_use:
            return []
        self._switches += 1
        self._peer_followed = False
        carrier.switch_to(self._switches)
        return [self._switched(number, now)]

    def retire(self, number: int) -> None:
        """This carrier will be closed by us, and that is no event. Where we have just moved away from
        it, the peer is told once it has followed."""
        carrier = self._carriers.get(number)
        if carrier is None or number == self.in_use:
            return
        if carrier.phase is CarrierPhase.JOINED and not self._peer_followed and self.in_use:
            carrier.move_to(CarrierPhase.RETIRING)
        else:
            carrier.retire()

    def ping(self, number: int, now: Timestamp) -> None:
        """Ask the other end for an answer on this carrier; `Answered` follows."""
        carrier = self._carriers.get(number)
        if carrier is not None and carrier.is_up:
            carrier.ping(now)

    def leave(self) -> None:
        """All is said: the peer is told on the carrier in use, after the last frame. Then close."""
        for number, carrier in self._carriers.items():
            if carrier.is_up:
                in_use = number == self.in_use or not self.in_use
                carrier.pending_retired = OVER if in_use else MOVED

    # -- frames --------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send one frame. Only while `writable`; nothing is sent any more once the tunnel is over."""
        if not self.over:
            self._send_buffer.add(frame)

    def consumed(self, now: Timestamp) -> None:
        """The oldest delivered frame has been consumed."""
        self._receive_buffer.consume(now)

    def outgoing(self, number: int) -> tuple[bytes, bytes] | None:
        """The next frame to write on this carrier, in two parts; None for none at present."""
        carrier = self._carriers.get(number)
        if carrier is None or self.over:
            return None
        if carrier.pending_opening:
            opening, carrier.pending_opening = carrier.pending_opening, b""
            return opening, b""
        if carrier.pending_switch:
            switch = SwitchTo(carrier.pending_switch, self._receive_buffer.acknowledge())
            carrier.pending_switch = 0
            return carrier.tagged(encode_carrier_frame(switch))
        if (word := carrier.take_ping_or_pong()) is not None:
            return carrier.tagged(word)
        if number == self.in_use and (parts := self._next()) is not None:
            return carrier.tagged(*parts)
        if (word := carrier.take_retired()) is not None:
            return carrier.tagged(word)
        return None

    def received(self, number: int, raw: bytes | memoryview, now: Timestamp) -> list[Command]:
        """A frame arrived on a carrier."""
        carrier = self._carriers.get(number)
        if carrier is None or self.over:
            return []
        if not carrier.is_up:
            return self._received_opening(number, carrier, raw, now)
        good = carrier.theirs.checked(raw)
        if good is None:
            return self._forged(number, carrier, now)
        self._peer_end = None
        try:
            frame = parse_carrier_frame(good)
        except Garbage as garbage:
            return self._violated(str(garbage), now)
        match frame:
            case Numbered(number=count, ack=ack, frame=inner):
                return self._numbered(number, count, ack, inner, now)
            case Acked(ack=ack):
                return self._acknowledged(number, ack, now)
            case CarrierPing(nonce=nonce):
                carrier.pending_pong = nonce
                return []
            case CarrierPong(nonce=nonce):
                rtt_s = carrier.rtt_s(nonce, now)
                return [] if rtt_s is None else [Answered(number, rtt_s)]
            case SwitchTo() if self.me is Party.AGENT:
                return self._told_to_use(number, carrier, frame, now)
            case Retired(word=word):
                if carrier.phase in (CarrierPhase.JOINED, CarrierPhase.RETIRING):
                    carrier.move_to(CarrierPhase.RELEASED)
                return self._left() if word == OVER else []
            case _:
                return self._violated(f"a carrier's {type(frame).__name__} out of place", now)

    def tick(self, now: Timestamp) -> list[Command]:
        """Time has passed."""
        if self.over:
            return []
        self._receive_buffer.tick(now)
        if self._give_up is not None and now.mono >= self._give_up[0]:
            return self._end(self._give_up[1], 1000, "not resumed in time")
        late = [n for n, c in self._carriers.items() if not c.is_up and now.mono >= c.late_at]
        refusal = JoinRefused(code=NOT_JOINED)
        return [c for n in late for c in self._dismiss(n, refusal, "not attached in time")]

    def peer_is_gone(self) -> list[Command]:
        """The server has lost the peer, too. If a stream that ended at once has begun the wait for the
        peer, that wait is over now."""
        if self._give_up is None or not ends_with_its_link(self._give_up[1], self.peer):
            return []
        return self._end(self._give_up[1], 1000, "the other end is gone")

    # -- joining -------------------------------------------------------------------------

    def _opening(self, number: int, missed_s: float = 0.0) -> bytes:
        consumed = self._receive_buffer.consumed
        return encode_opening(
            self._key.join(self.me, self.connection_id, number, consumed, missed_s)
        )

    def _objection(self, join: Join, used: UsedNumbers) -> str:
        return check_join(
            join, key=self._key, connection_id=self.connection_id, peer=self.peer, used=used
        )

    def _received_opening(
        self, number: int, carrier: CarrierState, raw: bytes | memoryview, now: Timestamp
    ) -> list[Command]:
        if carrier.phase is CarrierPhase.UNWANTED:
            return []
        try:
            frame: CarrierFrame = parse_carrier_frame(raw)
        except Garbage as garbage:
            return self._dismiss(number, JoinRefused(code=NOT_JOINED), str(garbage))
        match frame:
            case Join():
                return self._joined(number, carrier, frame, now)
            case JoinRefused() if self.me is Party.CLIENT:
                return self._was_refused(number, frame, now)
            case _:
                return self._dismiss(number, JoinRefused(code=NOT_JOINED), "not an attach")

    def _joined(
        self, number: int, carrier: CarrierState, join: Join, now: Timestamp
    ) -> list[Command]:
        # The client's own number was used up by its own opening.
        used = UsedNumbers() if self.me is Party.CLIENT else self._used_numbers
        code = self._objection(join, used)
        if not code and join.carrier != number:
            code = BAD_PROOF
        if code:
            refusal = JoinRefused(code=code)
            last = encode_opening(refusal) if self.me is Party.AGENT else b""
            return self._dismiss(number, refusal, code, last)
        try:
            self._send_buffer.acknowledged(join.received)
        except Garbage as garbage:
            return self._violated(str(garbage), now)
        carrier.move_to(CarrierPhase.JOINED)
        self._give_up = self._peer_end = None
        if self.me is Party.CLIENT:
            return [CarrierUp(number, now.mono - carrier.opened_at)]
        self._used_numbers.add(number)
        carrier.missed_s = max(0.0, join.missed_s)
        carrier.pending_opening = self._opening(number)
        return [CarrierUp(number, None)]

    def _was_refused(self, number: int, refusal: JoinRefused, now: Timestamp) -> list[Command]:
        proven = self._key.proves_refusal(refusal, self.connection_id, number)
        commands = self._dismiss(number, refusal, "refused", proven=proven)
        if proven and refusal.code == TUNNEL_OVER:
            fact = said_by(refusal, self.peer, self._vantage, now.wall)
            commands += self._end(fact, 1000, "the tunnel is over")
        return commands

    def _dismiss(
        self,
        number: int,
        refusal: JoinRefused,
        why: str,
        last: bytes = b"",
        *,
        proven: bool = False,
    ) -> list[Command]:
        del self._carriers[number]
        return [CloseCarrier(number, 1008, why, last), CarrierRefused(number, refusal, proven)]

    # -- using -----------------------------------------------------------------------------

    def _told_to_use(
        self, number: int, carrier: CarrierState, switch: SwitchTo, now: Timestamp
    ) -> list[Command]:
        try:
            self._send_buffer.acknowledged(switch.ack)
        except Garbage as garbage:
            return self._violated(str(garbage), now)
        if switch.sequence <= self._switches:
            return []  # a later one came by a quicker carrier
        self._switches = switch.sequence
        carrier.switch_to(0)
        self._receive_buffer.ask()  # by our acknowledgement the client knows that we have followed
        return [self._switched(number, now)]

    def _switched(self, number: int, now: Timestamp) -> Command:
        before, detached_at = self.in_use, self.detached_at
        self.in_use = number
        self.detached_at = None
        self._give_up = None
        resent = self._send_buffer.rewind()
        gap_s = 0.0 if detached_at is None else now.mono - detached_at
        gap_s = max(gap_s, self._carriers[number].missed_s)
        for carrier in self._carriers.values():
            carrier.missed_s = 0.0  # the gap is over, and is told once
        if detached_at is not None or gap_s:
            return Resumed(number, gap_s, resent)
        return Used(number, before, resent)

    # -- sending and acknowledging -----------------------------------------------------------

    def _next(self) -> tuple[bytes, bytes] | None:
        if (following := self._send_buffer.next()) is not None:
            number, frame = following
            return numbered_head(number, self._receive_buffer.acknowledge()), frame
        if self._receive_buffer.due:
            return encode_carrier_frame(Acked(self._receive_buffer.acknowledge())), b""
        return None

    def _numbered(
        self, number: int, count: int, ack: int, frame: memoryview, now: Timestamp
    ) -> list[Command]:
        if wrong := self._acknowledged(number, ack, now):
            return wrong
        try:
            return [DeliverFrame(frame)] if self._receive_buffer.arrived(count, frame) else []
        except Garbage as garbage:
            return self._violated(str(garbage), now)

    def _acknowledged(self, number: int, ack: int, now: Timestamp) -> list[Command]:
        if not self._peer_followed and number == self.in_use:
            self._peer_followed = True
            for carrier in self._carriers.values():
                if carrier.phase is CarrierPhase.RETIRING:
                    carrier.retire()
        try:
            self._send_buffer.acknowledged(ack)
        except Garbage as garbage:
            return self._violated(str(garbage), now)
        return []

    # -- ending ------------------------------------------------------------------------------

    def _forged(self, number: int, carrier: CarrierState, now: Timestamp) -> list[Command]:
        """Somebody on the way made or altered a frame: the peer did not say this."""
        fact = carrier.forgery(self._vantage, now)
        progress = self._send_buffer.acked + self._receive_buffer.received
        if self.in_use in (0, number) and self._forgeries.is_too_much(progress):
            return self._end(fact, FORGED_CODE, FORGED)
        return [CloseCarrier(number, FORGED_CODE, FORGED), *self.ended(number, fact, now)]

    def _violated(self, what: str, now: Timestamp) -> list[Command]:
        fact = ev.ProtocolViolated(vantage=self._vantage, at=now.wall, by=self.peer, what=what)
        return self._end(fact, 1002, what)

    def _end(self, fact: Evidence, code: int, why: str) -> list[Command]:
        return [*self._close(code, why), GaveUp(fact)]

    def _left(self) -> list[Command]:
        return [*self._close(1000, "the other end has left"), PeerLeft()]

    def _close(self, code: int, why: str) -> list[Command]:
        closing: list[Command] = [CloseCarrier(number, code, why) for number in self._carriers]
        self.over = True
        self.in_use = 0
        self._give_up = None
        self._carriers.clear()
        self._send_buffer.clear()
        return closing
