"""The agent's control link: what an agent does with the links that `net.link.dialer` keeps.

Law: a dial that fails is not a disconnect and carries none of its fields; a link that was welcomed
ends exactly once, with one log line and one journal item of its own, after the lines of its logical
streams. Nothing here touches a tunnel: sessions live on while the server is away.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tether.agent.control.reports import ReportPump
from tether.agent.control.streams import ControlStreams
from tether.agent.journal.journal import Journal
from tether.attribution import evidence as ev
from tether.attribution.causes.codes import AGENT_INTERNAL_ERROR
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType, DialStage, Party, StreamEnd, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.link import control_log
from tether.net.link.control_log import ControlLog
from tether.net.link.dialer import Dial, Dialer, DialledLink
from tether.net.link.host_context import HostContext
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed
from tether.protocol.link.redial import AwaitToken, DialAgain, NextStep, Outcome, Redial
from tether.protocol.messages.base import Message, Unrecognized, records_of
from tether.protocol.messages.control import (
    EndConnections,
    Hello,
    Unsupported,
    Welcome,
    WorkspaceStart,
    WorkspaceStop,
)
from tether.protocol.messages.reports import Ended, ReportAck
from tether.protocol.messages.tunnel import CarrierOffer, ClientLost, TunnelOffer

LINGER_S = 1.5
"""How long our goodbye waits for its acknowledgement: a part of the shutdown's eight seconds."""

REFRESH_S = 0.2
"""How long a change of the network may go on before it is told where this agent can be dialled."""

_log = get_logger("control")

ServerCommand: TypeAlias = (
    TunnelOffer | CarrierOffer | ClientLost | WorkspaceStop | WorkspaceStart | EndConnections
)

AskOthers = Callable[[], Callable[[], tuple[int, int]]]
"""Asks others to answer; returns what tells how many were asked, and how many have answered by then."""

ANSWER_S = 2.0
"""How long others have to answer. In that time a path that has healed brings the link back, too: answers
of such a moment tell nothing of its loss."""

SILENT = (StreamEnd.SILENT, StreamEnd.TIMED_OUT, StreamEnd.UNREACHABLE)


def _nobody_else() -> Callable[[], tuple[int, int]]:
    return lambda: (0, 0)


class ControlOwner(Protocol):
    """Whoever acts on what the server says. Its methods must not block."""

    async def hello(self) -> Hello: ...

    def welcomed(self, welcome: Welcome) -> None: ...

    def commanded(self, command: ServerCommand) -> None: ...


@dataclass(frozen=True, slots=True)
class _Live:
    """The link that is up, and what reports over it."""

    link: DialledLink
    pump: ReportPump
    pumping: asyncio.Task[None]


class AgentControl:
    """Keeps one link to the server for as long as `run` runs. Fulfils `LinkOwner`."""

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
        another_token: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """
        Args:
            dial: opens a stream to the server, or raises `DialFailed`.
            journal: whose items are reported.
            clock: the present.
            jitter: draws from [0, 1).
            on_end: is told with the one line of each link's end.
            host_context: tells what happened to this machine when a link is lost.
            endpoints: where this agent can be dialled now.
            ask_others: asks the clients that it reaches without the server to answer.
            another_token: waits until there is another token; see `Dialer`.
        """
        self._journal = journal
        self._clock = clock
        self._on_end = on_end
        self._ask_others = ask_others
        self._line = ControlLog(ConnectType.SERVER_TO_AGENT)
        self._streams = ControlStreams(clock, self._line, endpoints=endpoints, jitter=jitter)
        self._dialer = Dialer(
            Party.AGENT,
            self,
            dial=dial,
            clock=clock,
            redial=Redial(),
            linger_s=LINGER_S,
            jitter=jitter,
            host_context=host_context,
            another_token=another_token,
        )
        self._tasks = Tasks("control")
        self._live: _Live | None = None
        self._link_up = asyncio.Event()

        self._missed = ""
        """The link whose end the next failed dial may explain; told once an outage."""

        self._refresh_timer: asyncio.TimerHandle | None = None
        self._owner: ControlOwner

    async def run(self, owner: ControlOwner) -> Outcome:
        """Dial, live, dial again, until one of the outcomes."""
        self._owner = owner
        try:
            return await self._dialer.run()
        finally:
            if self._refresh_timer is not None:
                self._refresh_timer.cancel()
            self._streams.stop()
            await self._tasks.cancel()
            _log.info("agent main loop exited")

    @property
    def connection_id(self) -> str:
        """The link that is up; "" without one."""
        return self._live.link.connection_id if self._live is not None else ""

    def send(self, message: Message) -> None:
        """Tell the server something that is only worth telling now; lost without a link."""
        if self._live is not None:
            self._live.link.driver.send(message)

    async def flush(self) -> bool:
        """Wait until every report on the disk is acknowledged; False when the link is away."""
        return self._live is not None and await self._live.pump.flushed()

    def leave(self, said: ev.GoodbyeSaid) -> None:
        """Leave the link that is up, if any, with this cause; `run` then dials again."""
        self._dialer.leave(said)

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
        self._dialer.quit(said)

    async def over(self) -> None:
        """Wait until the link that is up now, if any, is over."""
        if self._live is not None:
            await asyncio.wait([self._live.link.over])

    # -- what becomes of the links (LinkOwner) ---------------------------------------------------

    async def hello(self) -> Hello:
        """See `LinkOwner`."""
        return await self._owner.hello()

    def dialling(self) -> None:
        """See `LinkOwner`."""
        control_log.dialling()

    def dial_failed(self, failed: DialFailed, step: NextStep) -> None:
        """See `LinkOwner`. A refusal for good is the outcome of `run`, and told by its caller."""
        match step:
            case DialAgain(wait_s=wait_s):
                self._note_redial(failed)
                self._line.dial_failed(failed, wait_s)
            case AwaitToken(message=message):
                _log.error(
                    "server does not take this agent's token any more; sessions go on",
                    error=message,
                    advice="write the workspace's new token into the token file",
                )
            case _:
                pass

    def welcomed(self, link: DialledLink, welcome: Welcome) -> None:
        """See `LinkOwner`."""
        self._missed = ""
        pump = ReportPump(self._journal, link.driver.send)
        pumping = self._tasks.spawn(pump.run(), "reports")
        pumping.add_done_callback(lambda task: self._pump_ended(link, task))
        self._live = _Live(link, pump, pumping)
        self._link_up.set()
        self._journal.mark_open(link.connection_id)
        self._line.link_up(link.connection_id, welcome.version)
        self._owner.welcomed(welcome)
        self._streams.link_up(link.connection_id, link.driver)

    def deliver(self, link: DialledLink, message: Message) -> None:
        """See `LinkOwner`."""
        if self._live is None or self._streams.deliver(message):
            return
        match message:
            case ReportAck():
                self._live.pump.acknowledged(message)
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
                link.driver.violated(f"a {type(message).__name__} message")

    def link_over(self, link: DialledLink, step: NextStep) -> None:
        """See `LinkOwner`."""
        live, self._live = self._live, None
        self._link_up.clear()
        if live is not None:
            live.pump.close()
            live.pumping.cancel()
        cell, lived_s = link.driver.cell, self._clock.now().mono - link.up_since.mono
        self._streams.link_over(cell.facts)
        self._on_end(self._line.link_over(link.connection_id, cell.facts, lived_s))
        if isinstance(step, DialAgain):
            _log.info(
                "control plane connection closed, retrying",
                connection_id=link.connection_id,
                retry_in_s=round(step.wait_s, 2),
            )
        self._post(link.connection_id, cell.facts, cell.symptoms)
        lost = [fact for fact in cell.facts if isinstance(fact, ev.StreamEnded)]
        if lost:
            self._missed = link.connection_id
        if any(fact.how in SILENT for fact in lost):
            self._tasks.spawn(self._note_others(link.connection_id), "ask-others")

    # -- what is known of an end -------------------------------------------------------------------

    def _pump_ended(self, link: DialledLink, task: asyncio.Task[None]) -> None:
        """A link that reports nothing any more is of no use: the next one gets a new pump."""
        if not task.cancelled() and (wrong := task.exception()) is not None:
            failure = ev.InternalFailure(
                vantage=Vantage.AGENT,
                at=self._clock.now().wall,
                party=Party.AGENT,
                what=f"the reports pump failed: {wrong!r}"[:200],
            )
            link.driver.leave(AGENT_INTERNAL_ERROR, because=failure, detail=failure.what)

    def _note_redial(self, failed: DialFailed) -> None:
        """A name that does not resolve, a proxy in the way: that tells of the loss before it, too."""
        if not self._missed or failed.stage is DialStage.TCP:
            return
        fact = ev.RedialFailed(
            vantage=Vantage.AGENT,
            at=self._clock.now().wall,
            party=Party.AGENT,
            peer=Party.SERVER,
            stage=failed.stage,
            error=str(failed)[:200],
            status=failed.status,
        )
        self._post(self._missed, (fact,))
        self._missed = ""

    async def _note_others(self, connection_id: str) -> None:
        """Whether our network is gone, or only the server: those tell who do not need the server."""
        tally = self._ask_others()
        if tally()[0] == 0:
            return
        try:
            await asyncio.wait_for(self._link_up.wait(), ANSWER_S)
            return
        except TimeoutError:
            asked, answered = tally()
        fact = ev.OthersAnswered(
            vantage=Vantage.AGENT,
            at=self._clock.now().wall,
            party=Party.AGENT,
            asked=asked,
            answered=answered,
        )
        self._post(connection_id, (fact,))

    def _post(
        self,
        connection_id: str,
        facts: tuple[Evidence, ...],
        symptoms: tuple[Evidence, ...] = (),
    ) -> None:
        self._journal.post(
            Ended(
                connection_id=connection_id,
                at=self._clock.now().wall,
                facts=records_of(facts),
                symptoms=records_of(symptoms),
            )
        )
