"""The control link, seen from the agent: dial, greet, run, and dial again.

Law: a dial that fails is not a disconnect and carries none of its fields; a link that was welcomed
ends exactly once, with one log line and one journal item of its own, after the lines of its logical
streams. Nothing here touches a tunnel: sessions live on while the server is away. When to dial again
is the coordination's to say.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from tether.agent.control.reports import ReportPump
from tether.agent.control.streams import ControlStreams
from tether.agent.journal.journal import Journal
from tether.attribution import evidence as ev
from tether.attribution.causes.codes import AGENT_INTERNAL_ERROR, SERVER_DATABASE_UNAVAILABLE
from tether.attribution.classify import classify
from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import ConnectType, DialStage, Party, StreamEnd, Vantage
from tether.log import disconnected, get_logger
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver
from tether.net.link.handshake import WelcomeRefused, greet
from tether.net.link.host_context import HostContext
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Message, Unrecognized, records_of
from tether.protocol.messages.codec import decode, encode
from tether.protocol.messages.control import (
    EndConnections,
    Goodbye,
    Hello,
    Unsupported,
    Welcome,
    WorkspaceStart,
    WorkspaceStop,
)
from tether.protocol.messages.reports import Ended, ReportAck
from tether.protocol.messages.tunnel import CarrierOffer, ClientLost, TunnelOffer
from tether.protocol.timestamp import Timestamp

LINGER_S = 1.5
"""How long our goodbye waits for its acknowledgement: a part of the shutdown's eight seconds."""

REFUSALS = frozenset(
    {"token_unknown", "token_revoked", "token_expired", "workspace_deleted", "user_revoked"}
)
"""Words of a 401 after which dialling again cannot help. A proxy's 401 has none of them."""

REFRESH_S = 0.2
"""How long a change of the network may go on before it is told where this agent can be dialled."""

NO_DATABASE = frozenset({"database_unavailable", SERVER_DATABASE_UNAVAILABLE})
"""The server's words for a database that does not answer: of its 503, and of its goodbye."""

_log = get_logger("control")

Dial = Callable[[], Awaitable[MessageStream]]
ServerCommand: TypeAlias = (
    TunnelOffer | CarrierOffer | ClientLost | WorkspaceStop | WorkspaceStart | EndConnections
)


AskOthers = Callable[[], Awaitable[tuple[int, int]]]
"""How many others were asked, and how many of them answered at once."""

SILENT = (StreamEnd.SILENT, StreamEnd.TIMED_OUT, StreamEnd.UNREACHABLE)


async def _nobody_else() -> tuple[int, int]:
    return 0, 0


@dataclass(frozen=True, slots=True)
class Stopped:
    """We were asked to dial no more."""


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """The server does not know this agent. `message` is its sentence."""

    message: str


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The server said goodbye for ever."""

    goodbye: Goodbye


Outcome: TypeAlias = Stopped | TokenRefused | Dismissed


class ControlOwner(Protocol):
    """Whoever acts on what the server says. Its methods must not block."""

    async def hello(self) -> Hello: ...

    def welcomed(self, welcome: Welcome) -> None: ...

    def commanded(self, command: ServerCommand) -> None: ...


@dataclass(slots=True)
class _Live:
    """The link that is up."""

    welcome: Welcome
    opened: Timestamp
    driver: LinkDriver
    pump: ReportPump
    goodbye: Goodbye | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class AgentControl:
    """Keeps one link to the server for as long as `run` runs."""

    def __init__(
        self,
        *,
        dial: Dial,
        journal: Journal,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        on_end: Callable[[Disconnect], None] = lambda end: None,
        host_context: HostContext | None = None,
        endpoints: Callable[[], list[str]] = list,
        ask_others: AskOthers = _nobody_else,
    ) -> None:
        """`dial` opens a stream to the server or raises `DialFailed`; `on_end` is told with the one
        line of each link's end; `host_context` tells what happened to this machine when a link is
        lost; `endpoints` where this agent can be dialled now; `ask_others` which of the clients that
        it talks to on other ways answer now."""
        self._ask_others = ask_others
        self._on_end, self._host_context = on_end, host_context
        self._dial, self._journal, self._clock = dial, journal, clock
        self._streams = ControlStreams(clock, endpoints=endpoints, jitter=jitter)
        self._wait_s = 0.0
        self._tasks = Tasks("control")
        self._live: _Live | None = None
        self._missed = ""
        """The link whose end the next failed dial may explain; told once an outage."""
        self._seeking: asyncio.Task[_Live | Outcome] | None = None
        self._farewell: ev.GoodbyeSaid | None = None
        self._refresh_timer: asyncio.TimerHandle | None = None
        self._owner: ControlOwner

    async def run(self, owner: ControlOwner) -> Outcome:
        """Dial, live, dial again, until one of the outcomes."""
        self._owner = owner
        try:
            while self._farewell is None:
                self._seeking = self._tasks.spawn(self._seek(), "dial")
                await asyncio.wait({self._seeking})
                if self._seeking.cancelled():
                    break
                found = self._seeking.result()
                if not isinstance(found, _Live):
                    return found
                await self._live_on(found)
                if found.goodbye is not None and found.goodbye.retry_after_s < 0:
                    return Dismissed(found.goodbye)
            return Stopped()
        finally:
            if self._refresh_timer is not None:
                self._refresh_timer.cancel()
            self._streams.stop()
            await self._tasks.cancel()
            _log.info("agent main loop exited")

    @property
    def connection_id(self) -> str:
        """The link that is up; "" without one."""
        return self._live.welcome.connection_id if self._live is not None else ""

    def send(self, message: Message) -> None:
        """Tell the server something that is only worth telling now; lost without a link."""
        if self._live is not None:
            self._live.driver.send(message)

    async def flush(self) -> bool:
        """Wait until every report on the disk is acknowledged; False when the link is away."""
        return self._live is not None and await self._live.pump.flushed()

    def leave(self, said: ev.GoodbyeSaid) -> None:
        """Leave the link that is up, if any, with this cause; `run` then dials again."""
        if self._live is not None:
            self._live.driver.leave(said.cause, because=said, actor=said.actor, detail=said.detail)

    def refresh(self) -> None:
        """Tell the server where this agent can be dialled, if that has changed."""
        self._streams.refresh()

    def refresh_soon(self) -> None:
        """Likewise, in a moment: a change of the network has many symptoms."""
        if self._refresh_timer is None:
            self._refresh_timer = asyncio.get_running_loop().call_later(
                REFRESH_S, self._refresh_now
            )

    def _refresh_now(self) -> None:
        self._refresh_timer = None
        self.refresh()

    async def leave_coordination(self, said: ev.GoodbyeSaid) -> bool | None:
        """Leave the coordinator for good, before the link: whether it acknowledged that in time;
        None where there was nothing to leave."""
        return await self._streams.leave(said)

    def quit(self, said: ev.GoodbyeSaid) -> None:
        """Leave with this cause, and dial no more: `run` returns once the link is over."""
        self._farewell = said
        self.leave(said)
        if self._seeking is not None:
            self._seeking.cancel()

    async def over(self) -> None:
        """Wait until the link that is up now, if any, is over."""
        if self._live is not None:
            await self._live.over.wait()

    # -- dialling ----------------------------------------------------------------------

    async def _seek(self) -> _Live | Outcome:
        await asyncio.sleep(self._wait_s)
        while True:
            _log.info("connecting to server")
            try:
                stream = await self._dial()
                return self._begin(stream, await greet(stream, self._owner.hello))
            except WelcomeRefused as away:
                if away.goodbye.retry_after_s < 0:
                    return Dismissed(away.goodbye)
                failed: DialFailed = away
                hint_s = away.goodbye.retry_after_s
            except DialFailed as wrong:
                if wrong.status == 401 and wrong.cause in REFUSALS:
                    return TokenRefused(str(wrong))
                failed, hint_s = wrong, 0.0
            self._note_redial(failed)
            wait_s = self._streams.dial_failed(hint_s)
            _tell_failed_dial(failed, wait_s)
            await asyncio.sleep(wait_s)

    def _note_redial(self, failed: DialFailed) -> None:
        """A name that does not resolve, a proxy in the way: that tells of the loss before it, too."""
        if not self._missed or failed.stage is DialStage.TCP:
            return
        now = self._clock.now()
        fact = ev.RedialFailed(
            vantage=Vantage.AGENT,
            at=now.wall,
            party=Party.AGENT,
            peer=Party.SERVER,
            stage=failed.stage,
            error=str(failed)[:200],
            status=failed.status,
        )
        self._journal.post(
            Ended(connection_id=self._missed, at=now.wall, facts=records_of((fact,)))
        )
        self._missed = ""

    def _begin(self, stream: MessageStream, welcome: Welcome) -> _Live:
        opened, self._missed = self._clock.now(), ""
        driver = LinkDriver(
            stream=stream,
            link=Link(
                me=Party.AGENT,
                peer=Party.SERVER,
                now=opened,
                ping_every=welcome.ping_every_s,
                patience=welcome.patience_s,
                linger=LINGER_S,
            ),
            clock=self._clock,
            pack=encode,
            unpack=decode,
            deliver=self._deliver,
            host_context=self._host_context,
        )
        return _Live(welcome, opened, driver, ReportPump(self._journal, driver.send))

    # -- one link ----------------------------------------------------------------------

    async def _live_on(self, live: _Live) -> None:
        """Run the link to its end, and record that."""
        self._live, connection_id = live, live.welcome.connection_id
        self._journal.mark_open(connection_id)
        _log.info(
            "connected to server",
            connection_id=connection_id,
            server_version=live.welcome.version,
        )
        self._owner.welcomed(live.welcome)
        pumping = self._tasks.spawn(live.pump.run(), "reports")
        pumping.add_done_callback(lambda task: self._pump_ended(live, task))
        self._streams.link_up(connection_id, live.driver)
        if self._farewell is not None:  # asked to quit while we were dialling
            self.leave(self._farewell)
        try:
            await live.driver.run()
        finally:
            self._live = None
            live.pump.close()
            pumping.cancel()
            self._record(live)
            live.over.set()

    def _deliver(self, message: Message) -> None:
        live = self._live
        if live is None or self._streams.deliver(message):
            return
        match message:
            case ReportAck():
                live.pump.acknowledged(message)
            case Goodbye():
                live.goodbye = message
            case (
                TunnelOffer()
                | CarrierOffer()
                | ClientLost()
                | WorkspaceStop()
                | WorkspaceStart()
                | EndConnections()
            ):
                self._owner.commanded(message)
            case Unrecognized() | Unsupported():
                _log.debug("a message of another version", message_type=message.message_type)
            case _:
                live.driver.violated(f"a {type(message).__name__} message")

    def _pump_ended(self, live: _Live, task: asyncio.Task[None]) -> None:
        """A link that reports nothing any more is of no use: the next one gets a new pump."""
        if not task.cancelled() and (wrong := task.exception()) is not None:
            failure = self._failure(f"the reports pump failed: {wrong!r}"[:200])
            live.driver.leave(AGENT_INTERNAL_ERROR, because=failure, detail=failure.what)

    def _failure(self, what: str) -> ev.InternalFailure:
        return ev.InternalFailure(
            vantage=Vantage.AGENT, at=self._clock.now().wall, party=Party.AGENT, what=what
        )

    def _record(self, live: _Live) -> None:
        now, cell = self._clock.now(), live.driver.cell
        if not cell.ended:  # only a cancelled task gets here: whoever cancelled it gave no cause
            cell.offer(self._failure("the control link was dropped without a cause"))
        lived_s = now.mono - live.opened.mono
        hint_s = live.goodbye.retry_after_s if live.goodbye is not None else 0.0
        self._wait_s = self._streams.link_over(cell.facts, lived_s, hint_s)
        judged = classify(ConnectType.SERVER_TO_AGENT, cell.facts).disconnect
        self._on_end(judged)
        disconnected(
            _log,
            "disconnected from server",
            judged,
            connection_id=live.welcome.connection_id,
            duration_s=round(lived_s, 3),
        )
        if self._farewell is None and hint_s >= 0:
            _log.info(
                "control plane connection closed, retrying",
                connection_id=live.welcome.connection_id,
                retry_in_s=round(self._wait_s, 2),
            )
        lost = [fact for fact in cell.facts if isinstance(fact, ev.StreamEnded)]
        if lost:
            self._missed = live.welcome.connection_id
        self._journal.post(
            Ended(
                connection_id=live.welcome.connection_id,
                at=now.wall,
                facts=records_of(cell.facts),
                symptoms=records_of(cell.symptoms),
            )
        )
        if any(fact.how in SILENT for fact in lost):
            self._tasks.spawn(self._note_others(live.welcome.connection_id), "ask-others")

    async def _note_others(self, connection_id: str) -> None:
        """Whether our network is gone, or only the server: those tell who do not need the server."""
        asked, answered = await self._ask_others()
        if not asked or self._live is not None:  # back already: answers tell nothing of the loss
            return
        now = self._clock.now()
        fact = ev.OthersAnswered(
            vantage=Vantage.AGENT, at=now.wall, party=Party.AGENT, asked=asked, answered=answered
        )
        self._journal.post(
            Ended(connection_id=connection_id, at=now.wall, facts=records_of((fact,)))
        )


def _tell_failed_dial(failed: DialFailed, wait_s: float) -> None:
    """A failed dial is no disconnect: none of its fields are here."""
    told = {"error": str(failed), "cause": failed.cause, "retry_in_s": round(wait_s, 2)}
    if failed.cause in NO_DATABASE:
        _log.warning("control plane lost connection to database, retrying", **told)
    else:
        _log.warning("failed to dial server", **told)
