"""The client's way to the server: what a client does with the links that `net.link.dialer` keeps.

Law: whatever goes wrong before the first grant is one sentence for the user, in the server's words
where it had any. After it the link is dialled again, quietly: a tunnel outlives it. A question that
cannot be sent, or whose link ends, is answered `Unasked`. The last report waits for a link, for a
bounded time.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tether.attribution.causes.codes import CLIENT_CLOSED
from tether.attribution.evidence import GoodbyeSaid
from tether.attribution.vocabulary import ConnectType, Party, Purpose, Vantage
from tether.client.control.coordination import ClientCoordination
from tether.client.control.events import Back, ControlWord, TurnedAway, Unasked
from tether.client.errors import Failure
from tether.client.report.link_status import LinkEnds, LinkNote
from tether.net.clock import Clock
from tether.net.link.dialer import Dial, Dialer, DialledLink
from tether.net.link.handshake import WelcomeRefused
from tether.net.link.host_context import LazyHostContext
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed
from tether.protocol.derp.latency import NOT_MEASURED, RegionLatency
from tether.protocol.link.redial import (
    DialAgain,
    Dismissed,
    NextStep,
    Outcome,
    Redial,
    TokenRejected,
)
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import Hello, Pong, Welcome
from tether.protocol.messages.derp import DerpMap
from tether.protocol.messages.reports import Ended, Report, ReportAck
from tether.protocol.messages.tunnel import (
    CarrierDenied,
    CarrierGrant,
    CarrierRequest,
    TunnelDenied,
    TunnelGrant,
    TunnelRequest,
)
from tether.version import VERSION

if TYPE_CHECKING:
    from tether.net.link.control_log import ControlLog

GRANT_TIMEOUT_S = 20.0
REPORT_TIMEOUT_S = 1.0
LINK_WAIT_S = 5.0
"""How long the last report waits for a link that is away, while somebody waits for us."""

LINGER_S = 120.0
"""... and once nobody does: most outages are over by then."""

DOUBT_S = 8.0
"""How long a link whose life is doubted may take to answer: the new network may be a slow VPN, whose
round trip of 5 s is no silence."""


_AWAY = ("agent_not_connected", "no_host_key")
"""The server's codes for a workspace whose agent may be starting."""


class AgentAway(Failure):
    """The workspace runs, and its agent is not connected: it may be starting."""


class ClientControl:
    """`connect` first, then `request_tunnel`, once; `leave` last. Fulfils `LinkOwner`."""

    def __init__(
        self,
        dial: Dial,
        clock: Clock,
        *,
        on_word: Callable[[ControlWord], None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
        log: ControlLog | None = None,
    ) -> None:
        """`on_word` is told the answers to `ask`, what becomes of the link, and where the agent is;
        `jitter` draws from [0, 1); `log` writes a line for each end, if that is wanted."""
        self.on_word = on_word
        self.instance_id = os.urandom(16).hex()

        self.host_context = LazyHostContext()
        """What happens to this machine, once somebody watches."""

        self._clock = clock
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("control")
        self._ends = LinkEnds(clock)
        self._coordination = ClientCoordination(
            clock, on_agent=lambda word: self.on_word(word), jitter=jitter, log=log
        )
        self._dialer = Dialer(
            Party.CLIENT,
            self,
            dial=dial,
            clock=clock,
            redial=Redial(),
            welcome_s=GRANT_TIMEOUT_S,
            wanted=lambda: self._has_grant,
            jitter=jitter,
            host_context=self.host_context,
        )

        self._keeping: asyncio.Task[Outcome] | None = None
        """Runs one link after another, from `connect` on."""

        self._linked = asyncio.Event()
        """Set while a link is up that the server has welcomed."""

        self._leaving = False

        self._granted: asyncio.Future[TunnelGrant] = self._loop.create_future()
        """The server's answer to the request for a tunnel."""

        self._requests = 1
        """The number of the last request. Those for the tunnel come first, one after the other."""

        self._asked: dict[int, int] = {}
        """The requests for a carrier that wait for an answer, and the carriers' numbers."""

        self._handed_in: dict[str, asyncio.Future[None]] = {}
        """Done when the server has committed the journal of that name."""

        self._ponged: asyncio.Future[float] | None = None  # the round trip that is being measured
        self._doubt_timer: asyncio.TimerHandle | None = None
        self._latency_s: dict[str, float] = {}  # round trips to the DERP regions, in seconds

    async def connect(self) -> None:
        """Dial the first link.

        Raises:
            DialFailed: as the dial.
        """
        await self._dialer.connect()
        self._keeping = self._tasks.keep(self._dialer.run, "keep")

    async def request_tunnel(
        self,
        workspace: str,
        public_key: str,
        *,
        further_public_keys: Sequence[str] = (),
        purpose: Purpose = Purpose.SSH,
        home: RegionLatency = NOT_MEASURED,
        client_session_id: str = "",
    ) -> TunnelGrant:
        """Ask to be joined to a workspace's agent, which then lets in whoever has one of the device's
        keys, an OpenSSH line each. The server issues a certificate for `public_key`.

        Raises:
            AgentAway: the agent is not connected, or has only begun to: ask again.
            Failure: the server said no, or the link ended first.
        """
        link = self._dialer.link
        if self._granted.done():  # an earlier request was turned down
            self._granted = self._loop.create_future()
        if link is None:
            raise Failure("the connection to the server was lost; try again")
        self._latency_s = dict(home.latency_s)
        # Right after the hello: the server reads them in order, and a round trip is saved.
        link.driver.send(
            TunnelRequest(
                request_id=self._requests,
                workspace=workspace,
                public_key=public_key,
                further_public_keys=list(further_public_keys),
                purpose=purpose,
                region=home.home,
                region_latency=self._latency_s,
                client_session_id=client_session_id,
            )
        )
        try:
            async with asyncio.timeout(GRANT_TIMEOUT_S):
                return await self._granted
        except TimeoutError:
            raise Failure("the server did not answer the request for a tunnel in time") from None

    def ask(
        self,
        connection_id: str,
        carrier: int,
        *,
        region: str = "",
        avoid: tuple[str, ...] = (),
        small_segments: bool = False,
    ) -> None:
        """Ask for a further carrier; `on_word` is told the answer."""
        link = self._dialer.link
        if not self._linked.is_set() or link is None:
            self._loop.call_soon(self.on_word, Unasked(carrier))
            return
        if self._asked:  # the one before was not answered either
            self.doubt()
        self._requests += 1
        self._asked[self._requests] = carrier
        link.driver.send(
            CarrierRequest(
                request_id=self._requests,
                connection_id=connection_id,
                carrier=carrier,
                region=region,
                region_latency=self._latency_s,
                avoid=list(avoid),
                small_segments=small_segments,
            )
        )

    async def round_trip(self) -> float:
        """Seconds to the server and back, asked for now.

        Raises:
            Failure: there is no link, or it ended first.
        """
        link = self._dialer.link
        if link is None:
            raise Failure("there is no connection to the server")
        self._ponged = self._loop.create_future()
        link.driver.ping()
        either: list[asyncio.Future[Any]] = [self._ponged, link.over]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._ponged.done():
            raise Failure(self._why(link))
        return self._ponged.result()

    async def greeted(self) -> Welcome:
        """The server's welcome to the first link.

        Raises:
            Failure: there was none.
        """
        link = self._dialer.link
        assert link is not None, "connected"
        waiting = self._tasks.spawn(self._linked.wait(), "welcome")
        either: list[asyncio.Future[Any]] = [waiting, link.over]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if link.welcome is None:
            assert link.failed is not None, "that is why it is over"
            raise Failure(words(link.failed))
        return link.welcome

    def doubt(self) -> None:
        """Something happened that may have cut the link: it must answer soon, or is dialled anew."""
        link = self._dialer.link
        if link is None:
            return
        if self._doubt_timer is not None:  # an answer from before this says nothing of it
            self._doubt_timer.cancel()
        link.driver.ping()
        since = self._clock.now().mono
        self._doubt_timer = self._loop.call_later(DOUBT_S, self._doubted, link, since)

    async def hand_in(
        self, journal_id: str, items: list[Ended], *, wait_s: float = LINK_WAIT_S
    ) -> bool:
        """Tell the server what is in a journal, ours or that of a client that is gone; True if it
        has committed that, now or before. A link that is away is waited for, for `wait_s`."""
        committed = self._handed_in.setdefault(journal_id, self._loop.create_future())
        report = Report(journal_id=journal_id, first_seq=1, items=[*items])
        until = self._loop.time() + wait_s
        while not committed.done() and await self._link(until):
            link = self._dialer.link
            assert link is not None, "linked"
            link.driver.send(report)
            done, _ = await asyncio.wait(
                [committed, link.over],
                timeout=REPORT_TIMEOUT_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            in_haste = wait_s <= LINK_WAIT_S
            if not done and (in_haste or self._loop.time() >= until):
                break
        return committed.done()

    def coordinate(self, agent: str, home_region: str) -> None:
        """The tunnel to this agent (by its workspace's id) is up: be told where the agent is."""
        self._coordination.follow(agent, home_region)

    def leave_coordination(self) -> None:
        """Announce that we leave; what is sent after it needs not wait for the answer."""
        self._coordination.leave()

    def keep_links(self, note: LinkNote) -> None:
        """Note with `note` what becomes of the links: see `LinkEnds.keep`."""
        self._ends.keep(note)

    async def leave(self, cause: str = CLIENT_CLOSED) -> None:
        """Say goodbye and wait until it is acknowledged, or for as long as a link lingers."""
        self._leaving = True
        if self._doubt_timer is not None:
            self._doubt_timer.cancel()
        self._coordination.leave()
        await self._coordination.over()
        said = GoodbyeSaid(
            vantage=Vantage.CLIENT, at=self._clock.now().wall, by=Party.CLIENT, cause=cause
        )
        self._dialer.quit(said)
        if self._keeping is not None:
            await asyncio.wait([self._keeping])
        await self._tasks.cancel()
        if not self._granted.done():
            self._granted.cancel()

    # -- what becomes of the links (LinkOwner) -----------------------------------------------

    async def hello(self) -> Hello:
        """See `LinkOwner`."""
        return Hello(
            protocol=PROTOCOL,
            role="client",
            version=VERSION,
            instance_id=self.instance_id,
            hostname=socket.gethostname(),
        )

    def dialling(self) -> None:
        """See `LinkOwner`."""

    def dial_failed(self, failed: DialFailed, step: NextStep) -> None:
        """See `LinkOwner`."""
        if isinstance(step, DialAgain):
            self._ends.redial_failed(failed)
            if self._log is not None:
                self._log.dial_failed(failed, step.wait_s)
        self._no_link(lambda: words(failed), step)

    def welcomed(self, link: DialledLink, welcome: Welcome) -> None:
        """See `LinkOwner`."""
        again = self._has_grant
        for report in self._ends.reports():
            link.driver.send(report)
        if self._log is not None:
            self._log.link_up(link.connection_id, welcome.version)
        self._coordination.link_up(link.connection_id, link.driver)
        self._ends.begun(link.connection_id)
        self._linked.set()
        if again:
            self.on_word(Back())

    def deliver(self, link: DialledLink, message: Message) -> None:
        """See `LinkOwner`. What a server of another version says is let pass."""
        if self._coordination.deliver(message):
            return
        match message:
            case TunnelGrant():
                if not self._granted.done():
                    self._granted.set_result(message)
            case TunnelDenied(code=code, message=text):
                if not self._granted.done():
                    self._requests += 1
                    self._granted.set_exception((AgentAway if code in _AWAY else Failure)(text))
            case CarrierGrant(request_id=request) | CarrierDenied(request_id=request):
                if self._asked.pop(request, None) is not None:
                    self.on_word(message)
            case DerpMap():
                self.on_word(message)
            case ReportAck(journal_id=journal_id):
                committed = self._handed_in.get(journal_id)
                if committed is not None and not committed.done():
                    committed.set_result(None)
                self._ends.committed(journal_id)
            case Pong():
                if self._ponged is not None and not self._ponged.done():
                    self._ponged.set_result(link.driver.rtt_s or 0.0)
            case _:
                pass

    def link_over(self, link: DialledLink, step: NextStep) -> None:
        """See `LinkOwner`. Its coordination ends first, then the link itself, each once."""
        self._linked.clear()
        cell, lived_s = link.driver.cell, self._clock.now().mono - link.up_since.mono
        self._coordination.link_over(cell.facts)
        self._ends.ended(link.connection_id, cell, unheard=link.driver.link.goodbye_unheard)
        if self._log is not None:
            self._log.link_over(link.connection_id, cell.facts, lived_s)
        self._no_link(lambda: self._why(link), step)

    def _no_link(self, why: Callable[[], str], step: NextStep) -> None:
        """No link is up any more, or came up: whoever waits for an answer gets none. `why` is asked
        only where somebody is told, for to judge an end costs more than most commands take."""
        if not self._granted.done():
            self._granted.set_exception(Failure(why()))
            self._granted.exception()  # it may be that nobody waits for it any more
        unanswered, self._asked = self._asked, {}
        for carrier in unanswered.values():
            self.on_word(Unasked(carrier))
        if isinstance(step, TokenRejected | Dismissed) and not self._leaving:
            self.on_word(TurnedAway(why()))

    @property
    def _has_grant(self) -> bool:
        granted = self._granted
        return granted.done() and not granted.cancelled() and granted.exception() is None

    async def _link(self, until: float) -> bool:
        """Whether a link is up, by `until` (the loop's time) at the latest."""
        if self._keeping is None or self._keeping.done():
            return False
        waiting = self._tasks.spawn(self._linked.wait(), "link")
        await asyncio.wait(
            [waiting, self._keeping],
            timeout=until - self._loop.time(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting.cancel()
        return self._linked.is_set()

    def _doubted(self, link: DialledLink, since: float) -> None:
        self._doubt_timer = None
        if link is self._dialer.link and link.driver.heard_at <= since:
            link.driver.give_up()

    def _why(self, link: DialledLink) -> str:
        if link.goodbye is not None and link.goodbye.detail:
            return link.goodbye.detail
        from tether.attribution.classify import classify  # see outcome.py
        from tether.attribution.explain import explain

        cell = link.driver.cell
        return explain(classify(ConnectType.CLIENT_TO_SERVER, cell.facts).disconnect).sentence


def words(failed: DialFailed) -> str:
    """A failed dial in the server's words, where it had any."""
    return failed.sentence if isinstance(failed, WelcomeRefused) else str(failed)
