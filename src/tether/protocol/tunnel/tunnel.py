"""One end of a tunnel: a numbered stream of frames over carriers that come and go.

Law: no I/O and no clock. Frames of carriers, their ends, frames to send and `Timestamp`s go in; commands
come out, and what is to be written on a carrier is *pulled* (`outgoing`) whenever that has room: what
the peer has not acknowledged is the only queue there is, and it is bounded. A frame is acknowledged
when it was consumed (`took`), so the same bound holds for what is received. A carrier that has not
proven itself can neither harm nor learn anything; one that brings a frame that the peer did not send is
left, and the tunnel goes on without it. `GaveUp` or `PeerLeft` comes at most once, last.

The client decides which carrier is in use; the agent follows. Both send what the other has not
acknowledged on the carrier in use, from the start, in order; what comes twice is dropped.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, Vantage
from tether.protocol.messages.base import Garbage
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME
from tether.protocol.timestamp import Timestamp
from tether.protocol.tunnel.buffers import WINDOW, ReceiveBuffer, SendBuffer
from tether.protocol.tunnel.carrier import AS_SPOILT, MAX_CARRIERS, CarrierState, SpoiltOnes
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
    NOT_ATTACHED,
    TOO_MANY,
    TUNNEL_OVER,
    Join,
    JoinRefused,
    TunnelKey,
    UsedNumbers,
    judge,
    said_by,
)
from tether.protocol.tunnel.mac import TAG_BYTES
from tether.protocol.tunnel.resume_policy import Waits, ended_at_once, not_resumed, wait_s

MAX_FRAME = MAX_TUNNEL_FRAME - 17 - TAG_BYTES
"""Bytes of a frame of the layer above: with its head and tag it must fit a carrier's."""


class Tunnel:
    """See the module's law. After every call, pull `outgoing` and re-arm the timer."""

    def __init__(
        self,
        *,
        me: Party,
        connection_id: str,
        key: TunnelKey,
        waits: Waits | None = None,
        window: int = WINDOW,
    ) -> None:
        self.me, self.peer = me, (Party.AGENT if me is Party.CLIENT else Party.CLIENT)
        self.connection_id = connection_id
        self.over = False
        self.in_use = 0
        """The number of the carrier in use; 0 for none."""
        self.detached_at: float | None = None
        self._key, self._waits = key, waits or Waits()
        self._vantage = Vantage(str(me))
        self._sending, self._taking = SendBuffer(window), ReceiveBuffer(window)
        self._carriers: dict[int, CarrierState] = {}
        self._used_numbers = UsedNumbers()
        self._spoilt = SpoiltOnes()
        self._turn = 0
        self._give_up: tuple[float, Evidence] | None = None
        self._retiring: list[int] = []

    # -- what can be asked ---------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether `send` may be called."""
        return self._sending.writable

    @property
    def unacked_bytes(self) -> int:
        """Bytes that are kept for the peer, with what frames cost."""
        return self._sending.unacked_bytes

    @property
    def unsent_bytes(self) -> int:
        """Bytes of them that no carrier has taken yet."""
        return self._sending.unsent_bytes

    @property
    def flushed(self) -> bool:
        """Whether all that was sent has been written on the carrier in use."""
        return self._sending.flushed

    @property
    def carriers(self) -> dict[int, bool]:
        """The carriers that are here, and whether each is up."""
        return {number: carrier.up for number, carrier in self._carriers.items()}

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick` next; None for never."""
        if self.over:
            return None
        due = [c.late_at for c in self._carriers.values() if not c.up]
        if self._give_up is not None:
            due.append(self._give_up[0])
        if self._taking.ack_at is not None and self.in_use:
            due.append(self._taking.ack_at)
        return min(due, default=None)

    def judge(self, attach: Join) -> JoinRefused | None:
        """What would be answered to `attach` on a stream that nobody knows yet; None: it may join.

        An agent asks before it lets a stream that was dialled to it any further.
        """
        code = judge(
            attach,
            key=self._key,
            connection_id=self.connection_id,
            peer=self.peer,
            used=self._used_numbers,
        )
        if not code and attach.carrier in self._carriers:
            code = CARRIER_USED
        if not code and len(self._carriers) >= MAX_CARRIERS:
            code = TOO_MANY
        return JoinRefused(code=code) if code else None

    # -- carriers come and go ------------------------------------------------------------

    def opened(
        self, number: int, now: Timestamp, *, stream_to: Party | None = None
    ) -> list[Command]:
        """A stream for carrier `number` is there. The client introduces itself first. `stream_to`: a
        relay, or the tunnel's other end (None)."""
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
            carrier.first = self._introduction(number)
        return []

    def ended(self, number: int, fact: Evidence, now: Timestamp) -> list[Command]:
        """The stream of a carrier has ended, as `fact` says."""
        carrier = self._carriers.pop(number, None)
        if self.over or carrier is None:
            return []
        if not carrier.up:
            return [CarrierRefused(number, JoinRefused(code=NOT_ATTACHED))]
        wait: float | None = None
        if not any(other.up for other in self._carriers.values()):
            wait = wait_s(fact, self.peer, self._waits)
            self._give_up = (now.mono + wait, not_resumed(fact, self._vantage, wait, now))
        if number != self.in_use:
            return [] if carrier.retired else [CarrierLost(number, fact)]
        self.in_use, self.detached_at = 0, now.mono
        return [Detached(number, fact, wait)]

    def use(self, number: int, now: Timestamp) -> list[Command]:
        """Client: send on this carrier from now on. A no-op for one that is not up."""
        carrier = self._carriers.get(number)
        if self.over or carrier is None or not carrier.up or number == self.in_use:
            return []
        self._turn += 1
        carrier.turn, carrier.confirmed, carrier.word = self._turn, False, ""
        self._retiring = [retiring for retiring in self._retiring if retiring != number]
        return [self._switch(number, now)]

    def retire(self, number: int) -> None:
        """This carrier will be closed by us, and that is no event. Where we have just moved away from
        it, the peer is told once it has followed."""
        carrier = self._carriers.get(number)
        if carrier is None or number == self.in_use:
            return
        used = self._carriers.get(self.in_use)
        if self.me is Party.CLIENT and used is not None and not used.confirmed:
            self._retiring.append(number)
        else:
            carrier.retire()

    def retired(self, number: int) -> bool:
        """Whether the peer was told that this carrier's end is no event, or told us so."""
        carrier = self._carriers.get(number)
        return carrier is None or (carrier.retired and not carrier.word)

    def ping(self, number: int, now: Timestamp) -> None:
        """Ask the other end for an answer on this carrier; `Answered` follows."""
        carrier = self._carriers.get(number)
        if carrier is not None and carrier.up:
            carrier.ask(now)

    def leave(self) -> None:
        """All is said: the peer is told on the carrier in use, after the last frame. Then close."""
        for number, carrier in self._carriers.items():
            if carrier.up:
                carrier.word = OVER if number == self.in_use or not self.in_use else MOVED

    # -- frames --------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send one frame. Only while `writable`; nothing is sent any more once the tunnel is over."""
        if not self.over:
            self._sending.add(frame)

    def took(self, now: Timestamp) -> None:
        """The oldest delivered frame has been consumed."""
        self._taking.took(now)

    def outgoing(self, number: int) -> tuple[bytes, bytes] | None:
        """The next frame to write on this carrier, in two parts; None: nothing for now."""
        carrier = self._carriers.get(number)
        if carrier is None or self.over:
            return None
        if carrier.first:
            first, carrier.first = carrier.first, b""
            return first, b""
        if carrier.turn:
            turn, carrier.turn = carrier.turn, 0
            return carrier.tagged(
                encode_carrier_frame(SwitchTo(turn, self._taking.acknowledge())), b""
            )
        if (quick := carrier.quick_word()) is not None:
            return carrier.tagged(quick, b"")
        if number == self.in_use and (parts := self._next()) is not None:
            return carrier.tagged(*parts)
        if carrier.word:
            word, carrier.word = carrier.word, ""
            return carrier.tagged(encode_carrier_frame(Retired(word)), b"")
        return None

    def received(self, number: int, raw: bytes | memoryview, now: Timestamp) -> list[Command]:
        """A frame arrived on a carrier."""
        carrier = self._carriers.get(number)
        if carrier is None or self.over:
            return []
        good = carrier.theirs.checked(raw) if carrier.up else raw
        if good is None:
            return self._was_spoilt(number, carrier, now)
        try:
            frame = parse_carrier_frame(good)
        except Garbage as garbage:
            if carrier.up:
                return self._violated(str(garbage), now)
            return self._dismiss(number, JoinRefused(code=NOT_ATTACHED), str(garbage))
        if not carrier.up:
            return self._introduced(number, carrier, frame, now)
        match frame:
            case Numbered(number=count, ack=ack, frame=inner):
                return self._numbered(carrier, count, ack, inner, now)
            case Acked(ack=ack):
                return self._heard(carrier, ack, now)
            case CarrierPing(nonce=nonce):
                carrier.pong = nonce
                return []
            case CarrierPong(nonce=nonce):
                rtt_s = carrier.rtt_s(nonce, now)
                return [] if rtt_s is None else [Answered(number, rtt_s)]
            case SwitchTo(turn=turn, ack=ack) if self.me is Party.AGENT:
                return self._told_to_use(number, turn, ack, now)
            case Retired(word=word):
                carrier.retired = True
                return self._left() if word == OVER else []
            case _:
                return self._violated(f"a carrier's {type(frame).__name__} out of place", now)

    def tick(self, now: Timestamp) -> list[Command]:
        """Time has passed."""
        if self.over:
            return []
        self._taking.tick(now)
        if self._give_up is not None and now.mono >= self._give_up[0]:
            return self._end(self._give_up[1], 1000, "not resumed in time")
        late = [n for n, c in self._carriers.items() if not c.up and now.mono >= c.late_at]
        refusal = JoinRefused(code=NOT_ATTACHED)
        return [c for n in late for c in self._dismiss(n, refusal, "not attached in time")]

    def peer_is_gone(self) -> list[Command]:
        """The server has lost the peer, too: a wait that its streams' end has set is over now."""
        if self._give_up is None or not ended_at_once(self._give_up[1], self.peer):
            return []
        return self._end(self._give_up[1], 1000, "the other end is gone")

    # -- attaching -----------------------------------------------------------------------

    def _introduction(self, number: int) -> bytes:
        return encode_opening(
            self._key.attach(self.me, self.connection_id, number, self._taking.taken)
        )

    def _introduced(
        self, number: int, carrier: CarrierState, frame: CarrierFrame, now: Timestamp
    ) -> list[Command]:
        match frame:
            case Join():
                return self._attached(number, carrier, frame, now)
            case JoinRefused() if self.me is Party.CLIENT:
                return self._was_refused(number, frame, now)
            case _:
                return self._dismiss(number, JoinRefused(code=NOT_ATTACHED), "not an attach")

    def _attached(
        self, number: int, carrier: CarrierState, attach: Join, now: Timestamp
    ) -> list[Command]:
        # The client's own number was used up by its own attach.
        used = UsedNumbers() if self.me is Party.CLIENT else self._used_numbers
        code = judge(
            attach, key=self._key, connection_id=self.connection_id, peer=self.peer, used=used
        )
        if not code and attach.carrier != number:
            code = BAD_PROOF
        if code:
            refusal = JoinRefused(code=code)
            last = encode_opening(refusal) if self.me is Party.AGENT else b""
            return self._dismiss(number, refusal, code, last)
        try:
            self._sending.acknowledged(attach.received)
        except Garbage as garbage:
            return self._violated(str(garbage), now)
        carrier.up, self._give_up = True, None
        if self.me is Party.CLIENT:
            return [CarrierUp(number, now.mono - carrier.opened_at)]
        self._used_numbers.add(number)
        carrier.first = self._introduction(number)
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

    def _told_to_use(self, number: int, turn: int, ack: int, now: Timestamp) -> list[Command]:
        try:
            self._sending.acknowledged(ack)
        except Garbage as garbage:
            return self._violated(str(garbage), now)
        if turn <= self._turn:
            return []  # a later one came by a quicker carrier
        self._turn = turn
        self._taking.ask()  # the client retires what it moved away from when it knows that we followed
        return [self._switch(number, now)]

    def _switch(self, number: int, now: Timestamp) -> Command:
        before, gone = self.in_use, self.detached_at
        self.in_use, self.detached_at, self._give_up = number, None, None
        resent = self._sending.rewind()
        if gone is not None:
            return Resumed(number, now.mono - gone, resent)
        return Used(number, before, resent)

    # -- sending and acknowledging -----------------------------------------------------------

    def _next(self) -> tuple[bytes, bytes] | None:
        if (following := self._sending.next()) is not None:
            number, frame = following
            return numbered_head(number, self._taking.acknowledge()), frame
        if self._taking.due:
            return encode_carrier_frame(Acked(self._taking.acknowledge())), b""
        return None

    def _numbered(
        self, carrier: CarrierState, number: int, ack: int, frame: memoryview, now: Timestamp
    ) -> list[Command]:
        if wrong := self._heard(carrier, ack, now):
            return wrong
        try:
            return [DeliverFrame(frame)] if self._taking.arrived(number, frame) else []
        except Garbage as garbage:
            return self._violated(str(garbage), now)

    def _heard(self, carrier: CarrierState, ack: int, now: Timestamp) -> list[Command]:
        """The peer sends on this carrier, so it has followed our use of it."""
        if not carrier.confirmed:
            carrier.confirmed = True
            for number in self._retiring:
                if (retiring := self._carriers.get(number)) is not None:
                    retiring.retire()
            self._retiring = []
        try:
            self._sending.acknowledged(ack)
        except Garbage as garbage:
            return self._violated(str(garbage), now)
        return []

    # -- ending ------------------------------------------------------------------------------

    def _was_spoilt(self, number: int, carrier: CarrierState, now: Timestamp) -> list[Command]:
        """Somebody on the way made this frame, or altered it: that is no word of the peer's."""
        fact = carrier.spoilt(self._vantage, now)
        progress = self._sending.acked + self._taking.received
        if self.in_use in (0, number) and self._spoilt.too_often(progress):
            return self._end(fact, *AS_SPOILT)
        return [CloseCarrier(number, *AS_SPOILT), *self.ended(number, fact, now)]

    def _violated(self, what: str, now: Timestamp) -> list[Command]:
        fact = ev.ProtocolViolated(vantage=self._vantage, at=now.wall, by=self.peer, what=what)
        return self._end(fact, 1002, what)

    def _end(self, fact: Evidence, code: int, why: str) -> list[Command]:
        return [*self._close(code, why), GaveUp(fact)]

    def _left(self) -> list[Command]:
        return [*self._close(1000, "the other end has left"), PeerLeft()]

    def _close(self, code: int, why: str) -> list[Command]:
        closing: list[Command] = [CloseCarrier(number, code, why) for number in self._carriers]
        self.over, self.in_use, self._give_up = True, 0, None
        self._carriers.clear()
        self._sending.clear()
        return closing
