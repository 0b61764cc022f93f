"""Two tunnel machines and the carriers between them, in memory: what is on the way can be lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.clock import EPOCH, at
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.tunnel.buffers import WINDOW
from tether.protocol.tunnel.events import CloseCarrier, Command, DeliverFrame
from tether.protocol.tunnel.frames import CarrierFrame, parse_carrier_frame, split_head
from tether.protocol.tunnel.join import TunnelKey
from tether.protocol.tunnel.mac import TAG_BYTES
from tether.protocol.tunnel.resume_policy import Waits
from tether.protocol.tunnel.tunnel import Tunnel

KEY = TunnelKey(bytes(range(32)))
TUNNEL = "c" * 32


def stream_end(
    peer: Party, how: StreamEnd, *, vantage: Vantage = Vantage.AGENT, seconds: float = 0.0
) -> ev.StreamEnded:
    return ev.StreamEnded(vantage=vantage, at=EPOCH + seconds, peer=peer, how=how)


def untagged(parts: tuple[bytes, bytes] | bytes | None) -> CarrierFrame:
    """What an end says on a carrier that is up."""
    assert parts is not None
    raw = parts if isinstance(parts, bytes) else b"".join(parts)
    return parse_carrier_frame(raw[TAG_BYTES:])


@dataclass
class End:
    """One machine, and what it said. Delivered frames count as consumed unless `hold` is set."""

    machine: Tunnel
    streams: dict[int, Wire] = field(default_factory=dict)
    frames: list[bytes] = field(default_factory=list)
    events: list[Command] = field(default_factory=list)
    closed: list[CloseCarrier] = field(default_factory=list)
    hold: bool = False
    held: int = 0

    def last(self) -> Command:
        return self.events[-1]

    def saw(self, kind: type) -> list[Command]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Wire:
    """One direction of a carrier."""

    flying: deque[bytes] = field(default_factory=deque)
    cut: bool = False


class Pair:
    """A client and an agent."""

    def __init__(
        self,
        *,
        key: TunnelKey = KEY,
        agent_key: TunnelKey | None = None,
        waits: Waits | None = None,
        window: int = WINDOW,
    ) -> None:
        self.seconds = 0.0
        self.client = End(
            Tunnel(me=Party.CLIENT, connection_id=TUNNEL, key=key, waits=waits, window=window)
        )
        self.agent = End(
            Tunnel(
                me=Party.AGENT,
                connection_id=TUNNEL,
                key=agent_key or key,
                waits=waits,
                window=window,
            )
        )
        self.ends = (self.client, self.agent)

    def other(self, end: End) -> End:
        return self.agent if end is self.client else self.client

    def perform(self, end: End, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case DeliverFrame(frame=frame):
                    end.frames.append(bytes(frame))
                    end.held += 1
                case CloseCarrier(carrier=number, last=last):
                    end.closed.append(command)
                    wire = end.streams.pop(number, None)
                    if wire is not None:
                        if last:
                            wire.flying.append(last)
                        wire.cut = True
                case _:
                    end.events.append(command)
        if not end.hold:
            self.take(end)
        self.pull(end)

    def take(self, end: End) -> None:
        while end.held:
            end.held -= 1
            end.machine.consumed(at(self.seconds))

    def pull(self, end: End, most: int = 10_000) -> None:
        """Write what the machine wants written."""
        for number, wire in end.streams.items():
            while most and (parts := end.machine.outgoing(number)) is not None:
                wire.flying.append(b"".join(parts))
                most -= 1

    def open(self, number: int, *, relayed: bool = False) -> None:
        """A carrier's stream, open at both ends."""
        for end in self.ends:
            end.streams[number] = Wire()
        for end in self.ends:
            stream_to = Party.RELAY if relayed else None
            self.perform(end, end.machine.opened(number, at(self.seconds), stream_to=stream_to))

    def tagged(self, end: End, number: int, raw: bytes) -> bytes:
        """A frame for `end` as its peer, which has the key, would send it now."""
        ours = self.other(end).machine._carriers[number].ours
        return ours.tag(*split_head(memoryview(raw))) + raw

    def hear(self, end: End, number: int, *raws: bytes) -> list[Command]:
        """`end`'s peer, which need not be honest, says these on a carrier; what `end` makes of them."""
        commands: list[Command] = []
        for raw in raws:
            now = at(self.seconds)
            commands += end.machine.received(number, self.tagged(end, number, raw), now)
        self.perform(end, commands)
        return commands

    def meddle(self, end: End, number: int, raw: bytes) -> None:
        """Somebody on the way, who has no key, says this to `end`."""
        self.perform(end, end.machine.received(number, raw, at(self.seconds)))

    def arrive(self, end: End, number: int) -> bool:
        """The next frame on a carrier reaches `end`; False if there is none."""
        wire = self.other(end).streams.get(number)
        if wire is None or not wire.flying:
            return False
        raw = wire.flying.popleft()
        self.perform(end, end.machine.received(number, raw, at(self.seconds)))
        return True

    def settle(self) -> None:
        """Everything on the way arrives."""
        while any(self.arrive(end, number) for end in self.ends for number in list(end.streams)):
            pass

    def send(self, end: End, *frames: bytes) -> None:
        for frame in frames:
            end.machine.send(frame)
        self.pull(end)

    def use(self, number: int) -> None:
        self.perform(self.client, self.client.machine.use(number, at(self.seconds)))

    def cut(
        self,
        number: int,
        how: StreamEnd = StreamEnd.EOF,
        *,
        ends: tuple[End, ...] = (),
        peer: Party | None = None,
    ) -> None:
        """The carrier is gone, with what was on the way; each end sees its stream end."""
        for end in ends or self.ends:
            end.streams.pop(number, None)
            machine = end.machine
            fact = stream_end(
                peer or machine.peer, how, vantage=Vantage(str(machine.me)), seconds=self.seconds
            )
            self.perform(end, machine.ended(number, fact, at(self.seconds)))

    def wait(self, seconds: float) -> None:
        """Time passes, from deadline to deadline."""
        until = self.seconds + seconds
        while True:
            due = [(d, e) for e in self.ends if (d := e.machine.deadline()) is not None]
            when, end = min(due, default=(until, self.client), key=lambda pair: pair[0])
            if when > until:
                break
            self.seconds = max(self.seconds, when)
            self.perform(end, end.machine.tick(at(self.seconds)))
            if not due:
                break
        self.seconds = until

    def joined(self, number: int = 1, *, relayed: bool = False) -> Pair:
        """With a first carrier in use."""
        self.open(number, relayed=relayed)
        self.settle()
        self.use(number)
        self.settle()
        return self
