"""Finds and keeps the carriers of one tunnel: performs what `protocol.carriers.selector` decides.

Law: decides nothing. Dials are tasks with an owner, and a stream that came up too late is closed. What
the machine asks of the server goes through `client.control.link`, whose answers are handed to
`word`. Whoever watches over this machine's network and sleep tells `disturbed`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectionMethod, Party, StreamEnd, Vantage
from tether.client.control.events import (
    AgentHere,
    AgentLost,
    Back,
    ControlWord,
    TurnedAway,
    Unasked,
)
from tether.client.control.link import ClientControl
from tether.client.errors import LOOK_INTO_IT, Failure
from tether.net.clock import Clock
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream, unforeseen_failure
from tether.net.tunnel.stream import AttachedCarrier, TunnelStream
from tether.net.unexpected import unexpected
from tether.protocol.carriers.commands import (
    TIMED_OUT,
    AskServer,
    Command,
    DialDirect,
    DialRelay,
    Over,
    PingCarrier,
    RelayTicket,
    Retire,
    Show,
    Stalled,
    Status,
    StreamActivity,
    UseCarrier,
)
from tether.protocol.carriers.selector import CarrierSelector
from tether.protocol.messages.derp import DerpMap
from tether.protocol.messages.tunnel import CarrierDenied, CarrierGrant, TunnelGrant
from tether.protocol.tunnel.events import (
    Answered,
    CarrierLost,
    CarrierRefused,
    CarrierUp,
    Detached,
    GaveUp,
    PathEvent,
    RelayRestarting,
)
from tether.protocol.tunnel.resume_policy import left_for_forgery

FAILED_TICK_S = 1.0
"""When to look again after a look that failed."""

UNHEARD = "the server has lost it, too"
"""Said beside why nothing moves: the workspace itself is away, and not only our way to it."""


class Dialler(Protocol):
    """How streams are opened; both raise `DialFailed`."""

    def relay(self, url: str, ticket: str, small_segments: bool) -> Awaitable[MessageStream]: ...

    def direct(self, endpoint: str, small_segments: bool) -> Awaitable[MessageStream]: ...


class CarrierManager:
    """Finds and keeps the carriers of one tunnel. Call `start`, then `ready`, and `close` last."""

    def __init__(
        self,
        grant: TunnelGrant,
        stream: TunnelStream,
        control: ClientControl,
        *,
        clock: Clock,
        dialler: Dialler,
        on_status: Callable[[Status], None] = lambda _: None,
        on_over: Callable[[Over], None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            grant: the tunnel's.
            stream: what carriers are added to.
            control: the link to the server, which is asked for more.
            clock: of the machine.
            dialler: opens streams.
            on_status: is told what the user would want to know.
            on_over: is told that no carrier will be found any more, after one was.
            jitter: draws from [0, 1).
        """
        self._grant = grant
        self._stream = stream
        self._control = control
        self._clock = clock
        self._dialler = dialler
        self._on_status = on_status
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("carriers")
        self._dials: dict[int, asyncio.Task[None]] = {}  # attempts whose stream is not open yet
        self._asked = 0  # the number of the carrier that the server was asked for last
        self._pending: deque[Command] = deque()  # commands that wait for those before them
        self._performing = False
        self._timer: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._turned_away = ""  # why the server does not let us in any more
        self._closed = False
        self._agent_lost = False  # whether the server has lost the agent, too
        self._status: Status | None = None  # what was last shown
        relay = None
        if grant.relay_url:
            relay = RelayTicket(grant.relay_url, grant.ticket, grant.region)
        self._selector = CarrierSelector(
            relay=relay, endpoints=grant.endpoints, resume_s=grant.resume_s, jitter=jitter
        )

    def start(self) -> None:
        """Begin to look for carriers."""
        self._stream.listen(self._happened)
        self._control.on_word = self.word
        self._perform(self._selector.start(self._now()))

    def sought(self) -> str:
        """What may carry the tunnel first, for people."""
        return self._selector.sought()

    async def ready(self) -> None:
        """Wait for the first carrier.

        Raises:
            Failure: none came up; the text says why.
        """
        await self._ready

    async def close(self) -> None:
        """Stop looking. The carriers are the stream's, and end with it."""
        self._closed = True
        self._control.on_word = lambda _: None
        if self._timer is not None:
            self._timer.cancel()
        self._ready.cancel()
        await self._tasks.cancel()

    def word(self, word: ControlWord) -> None:
        """The server answered, or what became of the way to it."""
        now, selector = self._now(), self._selector
        match word:
            case CarrierGrant():
                relay = None
                if word.relay_url:
                    relay = RelayTicket(word.relay_url, word.ticket, word.region)
                self._perform(selector.granted(word.carrier, relay, word.endpoints, now))
            case CarrierDenied(code=code, message=message):
                self._perform(
                    selector.denied(
                        self._asked, code, message, now, cause=word.cause, actor=word.actor
                    )
                )
            case Unasked(carrier=number):
                self._perform(selector.unasked(number, now))
            case Back():
                self._perform(selector.control_back(now))
            case TurnedAway(message=message):
                self._turned_away = message
            case AgentHere(endpoints=endpoints, moved_to=region):
                self._perform(selector.offered(endpoints, region, now))
            case AgentLost(lost=lost):
                self._agent_lost = lost
                if isinstance(self._status, Stalled):
                    self._show()
            case DerpMap():
                pass

    def disturbed(self) -> None:
        """The network changed, or this machine slept."""
        if self._closed:
            return
        self._control.doubt()
        self._perform(self._selector.disturbed(self._now()))

    # -- performing --------------------------------------------------------------------------

    def _perform(self, commands: list[Command]) -> None:
        self._pending.extend(commands)
        if self._performing:  # what a command has caused waits for its turn
            return
        self._performing = True
        try:
            while self._pending:
                self._try(self._pending.popleft())
        finally:
            self._performing = False
        self._arm()

    def _try(self, command: Command) -> None:
        try:
            self._do(command)
        except Exception as wrong:  # the commands that follow it are done all the same
            unexpected("the search for a carrier", wrong)

    def _do(self, command: Command) -> None:
        match command:
            case DialRelay(number=number, relay=relay, small_segments=small_segments):
                opening = self._dialler.relay(relay.url, relay.ticket, small_segments)
                self._dial(number, opening, ConnectionMethod.DERP, relay.region, Party.RELAY)
            case DialDirect(number=number, endpoint=endpoint, small_segments=small_segments):
                opening = self._dialler.direct(endpoint, small_segments)
                self._dial(number, opening, ConnectionMethod.DIRECT, endpoint, Party.AGENT)
            case AskServer():
                self._ask(command)
            case UseCarrier(number=number):
                self._stream.use(number)
                self._used()
            case Retire(number=number):
                if (dial := self._dials.pop(number, None)) is not None:
                    dial.cancel()
                self._stream.retire(number)
            case PingCarrier(number=number):
                self._stream.ping(number)
            case Show(status=status):
                self._status = status
                self._show()
            case Over():
                self._over(command)

    def _dial(
        self,
        number: int,
        opening: Awaitable[MessageStream],
        method: ConnectionMethod,
        where: str,
        peer: Party,
    ) -> None:
        async def run() -> None:
            try:
                stream = await opening
            except Exception as wrong:
                self._dials.pop(number, None)
                self._dial_failed(number, wrong, peer)
                return
            self._dials.pop(number, None)
            self._stream.add(
                AttachedCarrier(number=number, method=method, where=where, stream=stream, peer=peer)
            )

        self._dials[number] = self._tasks.spawn(run(), f"dial-{number}")

    def _dial_failed(self, number: int, wrong: Exception, peer: Party) -> None:
        if not isinstance(wrong, DialFailed):
            wrong = unforeseen_failure(wrong, f"the {peer}")
        if wrong.unforeseen:
            unexpected("the dial of a carrier", wrong.__cause__ or wrong)
        final = wrong.fatal or bool(wrong.cause)
        self._perform(self._selector.failed(number, str(wrong), self._now(), final=final))

    def _ask(self, question: AskServer) -> None:
        self._asked = question.number
        if self._turned_away and self._selector.current is None:
            self._over(Over("turned_away", self._turned_away))
        else:
            self._control.ask(
                self._grant.connection_id,
                question.number,
                region=question.region,
                avoid=question.avoid,
                small_segments=question.small_segments,
            )

    def _show(self) -> None:
        status = self._status
        if isinstance(status, Stalled) and self._agent_lost:
            reason = f"{status.reason}; {UNHEARD}" if status.reason else UNHEARD
            status = Stalled(status.since, reason)
        if status is not None:
            self._on_status(status)

    def _used(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _over(self, over: Over) -> None:
        self._pending.clear()
        if self._ready.done():
            self._on_over(over)
        else:
            advice = f"; {LOOK_INTO_IT}" if over.code == TIMED_OUT else ""
            self._ready.set_exception(Failure(f"{over.message}{advice}"))

    # -- what happens ------------------------------------------------------------------------

    def _happened(self, event: PathEvent) -> None:
        now, selector = self._now(), self._selector
        match event:
            case CarrierUp(carrier=number, rtt_s=rtt_s):
                self._perform(selector.up(number, rtt_s, now))
            case CarrierRefused(carrier=number, refusal=refusal):
                why = refusal.detail or f"the agent refused the connection ({refusal.code})"
                self._perform(selector.refused(number, refusal.code, why, now))
            case CarrierLost(carrier=number, fact=fact) | Detached(carrier=number, fact=fact):
                self._perform(
                    selector.ended(number, why_lost(fact), now, at_fault=by_the_relay(fact))
                )
            case Answered(carrier=number, rtt_s=rtt_s):
                self._perform(selector.pong(number, rtt_s, now))
            case RelayRestarting(carrier=number):
                self._perform(selector.restarting(number, now))
            case GaveUp():
                if self._timer is not None:
                    self._timer.cancel()
            case _:
                pass

    def _tick(self) -> None:
        stream = self._stream
        activity = StreamActivity(stream.waiting_since, stream.heard_at)
        try:
            self._perform(self._selector.tick(self._now(), activity))
        except Exception as wrong:  # without a timer nobody would look for a carrier any more
            unexpected("the search for a carrier", wrong)
            self._timer = self._loop.call_later(FAILED_TICK_S, self._tick)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._selector.deadline()
        if deadline is not None and not self._stream.over:
            self._timer = self._loop.call_later(max(0.0, deadline - self._now()), self._tick)

    def _now(self) -> float:
        return self._clock.now().mono


def by_the_relay(fact: Evidence) -> bool:
    """Whether a carrier's end speaks against its relay, and not only of the tunnel's other end."""
    said = isinstance(fact, ev.GoodbyeSaid)
    return said or fact.vantage is Vantage.CLIENT or left_for_forgery(fact)


def why_lost(fact: Evidence) -> str:
    """A carrier's end in a few words for the user."""
    match fact:
        case ev.GoodbyeSaid(by=Party.RELAY):
            return "the relay is stopping"
        case ev.ProtocolViolated():
            return "the relay meddled with the connection"
        case ev.StreamEnded(peer=peer, how=how):
            whom = "the relay" if peer is Party.RELAY else "the workspace"
            return _WORDS[how].format(whom=whom)
        case _:
            return ""


_WORDS = {
    StreamEnd.CLOSED: "{whom} closed the connection",
    StreamEnd.EOF: "{whom} went away",
    StreamEnd.RESET: "the connection to {whom} was reset",
    StreamEnd.TIMED_OUT: "{whom} did not answer in time",
    StreamEnd.UNREACHABLE: "the network is unreachable",
    StreamEnd.SILENT: "{whom} fell silent",
    StreamEnd.ABORTED: "the connection to {whom} was cut on this side",
    StreamEnd.OTHER: "the connection to {whom} failed",
}
