"""The client's way to the server: one control link at a time, dialled again while a tunnel lives.

Law: whatever goes wrong before the first grant is one sentence for the user, in the server's words
where it had any. After it the link is redialled quietly, when the coordination says so: a tunnel
outlives it. A question that cannot be sent, or whose link ends, is answered `Unasked`. The
last report waits for a link, for a bounded time.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tether.attribution.causes.codes import CLIENT_CLOSED
from tether.attribution.vocabulary import ConnectType, Party, Purpose
from tether.client.control.events import Back, ControlWord, TurnedAway, Unasked
from tether.client.control.late_coordination import LazyCoordination
from tether.client.errors import Failure
from tether.client.report.link_status import LinkEnds, LinkNote
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver
from tether.net.link.host_context import LazyHostContext
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream
from tether.protocol.derp.latency import NOT_KNOWN, RegionLatency
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Garbage, Message
from tether.protocol.messages.codec import PROTOCOL, decode, encode
from tether.protocol.messages.control import Goodbye, Hello, Pong, Welcome
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
    from tether.client.control.log import ControlLines

GRANT_TIMEOUT_S = 20.0
REPORT_TIMEOUT_S = 1.0
LINK_WAIT_S = 5.0
"""How long the last report waits for a link that is away, while somebody waits for us."""

LINGER_S = 120.0
"""... and once nobody does: most outages are over by then."""

DOUBT_S = 3.0
"""How long a link whose life is doubted may take to answer."""

REFUSALS = frozenset({"token_unknown", "token_revoked", "token_expired", "user_revoked"})
"""Words of a 401 after which dialling again cannot help. A proxy's 401 has none of them."""

Dial = Callable[[], Awaitable[MessageStream]]


class _Live:
    """The link that is up, from its first byte."""

    def __init__(self, driver: LinkDriver, clock: Clock) -> None:
        self.driver, self.opened = driver, clock.now().mono
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.welcome: Welcome | None = None
        self.goodbye: Goodbye | None = None


class ClientControl:
    """`connect` first, then `request_tunnel`, once; `leave` last."""

    def __init__(
        self,
        dial: Dial,
        clock: Clock,
        *,
        on_word: Callable[[ControlWord], None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
        lines: ControlLines | None = None,
    ) -> None:
        """`on_word` is told the answers to `ask`, what becomes of the link meanwhile, and where the
        agent is; `lines` of each end, if they are wanted."""
        self._dial, self._clock = dial, clock
        self.on_word, self._lines = on_word, lines
        self.instance_id = os.urandom(16).hex()
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("control")
        self._live: _Live | None = None
        self._linked = asyncio.Event()
        self._leaving = False
        self._granted: asyncio.Future[TunnelGrant] = self._loop.create_future()
        self._handed_in: dict[str, asyncio.Future[None]] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._ponged: asyncio.Future[float] | None = None
        self._doubt_timer: asyncio.TimerHandle | None = None
        self._coordination = LazyCoordination(
            clock, on_agent=lambda word: self.on_word(word), jitter=jitter, lines=lines
        )
        self._wait_s = 0.0
        self._asked: dict[int, int] = {}
        self._distances: dict[str, float] = {}
        self._requests = 1
        self._ends = LinkEnds(clock)
        self.host_context = LazyHostContext()
        """What happens to this machine, once somebody watches."""

    async def connect(self) -> None:
        """Dial the first link.

        Raises:
            DialFailed: as the dial.
        """
        live = self._open(await self._dial())
        self._keeping = self._tasks.spawn(self._keep(live), "keep")

    async def request_tunnel(
        self,
        workspace: str,
        public_key: str,
        *,
        purpose: Purpose = Purpose.SSH,
        near: RegionLatency = NOT_KNOWN,
        client_session_id: str = "",
    ) -> TunnelGrant:
        """Ask to be joined to a workspace's agent.

        Raises:
            Failure: the server said no, or the link ended first.
        """
        assert self._live is not None, "connected"
        self._distances = dict(near.distances)
        # Right after the hello: the server reads them in order, and a round trip is saved.
        self._live.driver.send(
            TunnelRequest(
                request_id=1,
                workspace=workspace,
                public_key=public_key,
                purpose=purpose,
                region=near.home,
                region_latency=self._distances,
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
        small: bool = False,
    ) -> None:
        """Ask for a further carrier; `on_word` is told the answer."""
        if not self._linked.is_set() or self._live is None:
            self._loop.call_soon(self.on_word, Unasked(carrier))
            return
        if self._asked:  # the one before was not answered either
            self.doubt()
        self._requests += 1
        self._asked[self._requests] = carrier
        self._live.driver.send(
            CarrierRequest(
                request_id=self._requests,
                connection_id=connection_id,
                carrier=carrier,
                region=region,
                region_latency=self._distances,
                avoid=list(avoid),
                small_segments=small,
            )
        )

    async def round_trip(self) -> float:
        """Seconds to the server and back, asked for now.

        Raises:
            Failure: there is no link, or it ended first.
        """
        live = self._live
        if live is None:
            raise Failure("there is no connection to the server")
        self._ponged = self._loop.create_future()
        live.driver.ping()
        either: list[asyncio.Future[Any]] = [self._ponged, live.over]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._ponged.done():
            raise Failure(self._why(live))
        return self._ponged.result()

    async def greeted(self) -> Welcome:
        """The server's welcome to the first link.

        Raises:
            Failure: there was none.
        """
        live = self._live
        assert live is not None, "connected"
        waiting = self._tasks.spawn(self._linked.wait(), "welcome")
        either: list[asyncio.Future[Any]] = [waiting, live.over]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if live.welcome is None:
            raise Failure(self._why(live))
        return live.welcome

    def doubt(self) -> None:
        """Something happened that may have cut the link: it must answer soon, or is dialled anew."""
        if self._live is None:
            return
        if self._doubt_timer is not None:  # an answer from before this says nothing of it
            self._doubt_timer.cancel()
        live, since = self._live, self._clock.now().mono
        live.driver.ping()
        self._doubt_timer = self._loop.call_later(DOUBT_S, self._doubted, live, since)

    async def hand_in(
        self, journal_id: str, items: list[Ended], *, wait_s: float = LINK_WAIT_S
    ) -> bool:
        """Tell the server what is in a journal, ours or that of a client that is gone; True if it
        has committed that, now or before. A link that is away is waited for, for `wait_s`."""
        committed = self._handed_in.setdefault(journal_id, self._loop.create_future())
        report = Report(journal_id=journal_id, first_seq=1, items=[*items])
        until = self._loop.time() + wait_s
        while not committed.done() and await self._link(until):
            assert self._live is not None, "linked"
            self._live.driver.send(report)
            done, _ = await asyncio.wait(
                [committed, self._live.over],
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
        if self._live is not None:
            self._live.driver.leave(cause)
            await asyncio.wait([self._live.over])
        await self._tasks.cancel()
        if not self._granted.done():
            self._granted.cancel()

    # -- one link after another ------------------------------------------------------------

    async def _keep(self, live: _Live) -> None:
        while True:
            await self._live_on(live)
            if self._leaving or not self._has_grant:
                return
            if live.goodbye is not None and live.goodbye.retry_after_s < 0:
                self.on_word(TurnedAway(self._why(live)))
                return
            following = await self._redial()
            if following is None:
                return
            live = following

    @property
    def _has_grant(self) -> bool:
        granted = self._granted
        return granted.done() and not granted.cancelled() and granted.exception() is None

    async def _redial(self) -> _Live | None:
        while True:
            await asyncio.sleep(self._wait_s)
            try:
                return self._open(await self._dial())
            except DialFailed as failed:
                if failed.status == 401 and failed.cause in REFUSALS:
                    self.on_word(TurnedAway(str(failed)))
                    return None
                self._ends.redial_failed(failed)
                self._wait_s = self._coordination.dial_failed()
                if self._lines is not None:
                    self._lines.dial_failed(failed, self._wait_s)

    def _open(self, stream: MessageStream) -> _Live:
        driver = LinkDriver(
            stream=stream,
            link=Link(me=Party.CLIENT, peer=Party.SERVER, now=self._clock.now()),
            clock=self._clock,
            pack=encode,
            unpack=decode,
            deliver=self._deliver,
            host_context=self.host_context,
        )
        driver.send(
            Hello(
                protocol=PROTOCOL,
                role="client",
                version=VERSION,
                instance_id=self.instance_id,
                hostname=socket.gethostname(),
            )
        )
        self._live = live = _Live(driver, self._clock)
        return live

    async def _live_on(self, live: _Live) -> None:
        try:
            await live.driver.run()
        finally:
            self._live = None
            self._linked.clear()
            self._over(live)
            live.over.set_result(None)
            if not self._granted.done():
                self._granted.set_exception(Failure(self._why(live)))
                self._granted.exception()  # it may be that nobody waits for it any more
            unanswered, self._asked = self._asked, {}
            for carrier in unanswered.values():
                self.on_word(Unasked(carrier))

    def _over(self, live: _Live) -> None:
        """Its coordination ends first, then the link itself, each once."""
        cell, lived_s = live.driver.cell, self._clock.now().mono - live.opened
        if self._has_grant:
            hint_s = live.goodbye.retry_after_s if live.goodbye is not None else 0.0
            self._wait_s = self._coordination.link_over(cell.facts, lived_s, hint_s)
        if live.welcome is not None:
            self._ends.ended(live.welcome.connection_id, cell)
            if self._lines is not None:
                self._lines.link_over(live.welcome.connection_id, cell.facts, lived_s)

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

    def _doubted(self, live: _Live, since: float) -> None:
        self._doubt_timer = None
        if live is self._live and live.driver.heard_at <= since:
            live.driver.give_up()

    def _why(self, live: _Live) -> str:
        if live.goodbye is not None and live.goodbye.detail:
            return live.goodbye.detail
        from tether.attribution.classify import classify  # see verdict.py
        from tether.attribution.explain import explain

        cell = live.driver.cell
        return explain(classify(ConnectType.CLIENT_TO_SERVER, cell.facts).disconnect).sentence

    def _deliver(self, message: Message) -> None:
        live = self._live
        if live is None or self._coordination.deliver(message):
            return
        match message:
            case Welcome(protocol=(major, _)) if major != PROTOCOL[0]:
                raise Garbage(f"protocol {major}; this version speaks {PROTOCOL[0]}")
            case Welcome():
                self._welcomed(live, message)
            case TunnelGrant():
                if not self._granted.done():
                    self._granted.set_result(message)
            case TunnelDenied(message=text):
                if not self._granted.done():
                    self._granted.set_exception(Failure(text))
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
                    self._ponged.set_result(live.driver.rtt_s or 0.0)
            case Goodbye():
                live.goodbye = message
            case _:
                pass

    def _welcomed(self, live: _Live, welcome: Welcome) -> None:
        again, live.welcome = self._has_grant, welcome
        live.driver.set_liveness(ping_every=welcome.ping_every_s, patience=welcome.patience_s)
        for report in self._ends.reports():
            live.driver.send(report)
        if self._lines is not None:
            self._lines.link_up(welcome.connection_id, welcome.version)
        self._coordination.link_up(welcome.connection_id, live.driver)
        self._ends.begun(welcome.connection_id)
        self._linked.set()
        if again:
            self.on_word(Back())
