"""What the control links of agents, clients and relays have in common: one driver, one row, one end.

Law: the row is opened before the peer is welcomed and closed by the link's own cell, whatever ends
the link; a peer whose first message made no sense gets a row, too, because its token says who it is.
(The links of relays have no rows.)
"""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import (
    AUTH_TOKEN_EXPIRED,
    AUTH_TOKEN_REVOKED,
    AUTH_USER_REVOKED,
    SERVER_DATABASE_UNAVAILABLE,
    WORKSPACE_DELETED,
)
from tether.attribution.vocabulary import Party, Vantage
from tether.log import Logger
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver
from tether.net.link.host_context import HostContext
from tether.net.unexpected import unexpected
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Garbage, Message, Unrecognized
from tether.protocol.messages.codec import PROTOCOL, encode
from tether.protocol.messages.control import Goodbye, Unsupported, Welcome
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateOpen,
    ResumeTokenRequest,
)
from tether.protocol.messages.derp import DerpMap
from tether.protocol.messages.reports import Report, ReportAck
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.log import ConnectionLog
from tether.server.control.certain_ends import CertainEnds, LinkEnd
from tether.server.control.coordination import LinkCoordination
from tether.server.control.handshake import Opening, unpack_control
from tether.server.control.idle_cuts import IdleCuts
from tether.server.db.store import StoreUnavailable
from tether.server.derp.map import Regions
from tether.server.metrics import Metrics
from tether.server.settings import LinkTimes
from tether.version import VERSION

LINGER_S = 1.5
"""How long our goodbye waits for its acknowledgement: a part of the shutdown's eight seconds."""

MAX_WAIT_S = 40 * 24 * 3600.0
"""No link lives longer than this without being dialled anew, which its token must pass."""

NEVER = -1.0
"""`retry_after_s` of a peer that need not come back."""

DATABASE_RETRY_S = 5.0
"""When a peer may try again that was let go because the database did not answer."""

MAX_UNKNOWN = 100
"""Types of messages of another version that one link may send before they are no longer logged."""


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why the server ends a link, and when the peer should dial again (negative: never)."""

    cause: str
    actor: str = ""
    detail: str = ""
    retry_after_s: float = 0.0

    def said_at(self, at: float) -> ev.GoodbyeSaid:
        """The goodbye, as a fact."""
        return ev.GoodbyeSaid(
            vantage=Vantage.SERVER,
            at=at,
            by=Party.SERVER,
            cause=self.cause,
            actor=self.actor,
            detail=self.detail,
        )


NEW_TOKEN_S = 1.0
"""When an agent may dial again whose token was replaced: it reads it anew for each dial."""


def token_revoked(party: Party, actor: str = "") -> CloseReason:
    """Why a link of `party` ends whose token was withdrawn or replaced by `actor`."""
    retry_after_s = NEW_TOKEN_S if party is Party.AGENT else NEVER
    return CloseReason(AUTH_TOKEN_REVOKED, actor, retry_after_s=retry_after_s)


def withdrawn(code: str, party: Party) -> CloseReason:
    """Why a link of `party` ends whose token is refused for `code` (`identity.RefusalCode`)."""
    match code:
        case "user_revoked":
            return CloseReason(AUTH_USER_REVOKED, retry_after_s=NEVER)
        case "workspace_deleted":
            return CloseReason(WORKSPACE_DELETED, retry_after_s=NEVER)
        case "token_expired" if (
            party is not Party.AGENT
        ):  # an agent's only runs out as it is replaced
            return CloseReason(AUTH_TOKEN_EXPIRED, retry_after_s=NEVER)
        case _:
            return token_revoked(party)


def without_database(wrong: StoreUnavailable) -> CloseReason:
    """Why a link ends that cannot be served without the database."""
    return CloseReason(
        SERVER_DATABASE_UNAVAILABLE, detail=str(wrong), retry_after_s=DATABASE_RETRY_S
    )


class ControlLink:
    """One control link whose peer is known. `closed` is set when its row is closed."""

    def __init__(
        self,
        opening: Opening,
        connection_id: str,
        driver: LinkDriver,
        *,
        reporter: Reporter | None = None,
        coordination: LinkCoordination | None = None,
    ) -> None:
        """Without a `reporter`, its peer may not report; without a `coordination`, not coordinate."""
        self.opening = opening
        self.connection_id = connection_id
        self.driver = driver
        self.reporter = reporter
        self.coordination = coordination
        self.closed = asyncio.Event()
        self.end_timers: list[asyncio.TimerHandle] = []  # of ends that are to come
        self._map: DerpMap | None = None  # the one that the peer knows

    @property
    def token_id(self) -> str:
        return self.opening.identity.token_id

    @property
    def instance_id(self) -> str:
        return self.opening.hello.instance_id

    @property
    def journal_id(self) -> str:
        return self.opening.hello.journal_id

    def send_map(self, regions: Regions) -> None:
        """Send the peer the DERP map, if it is another one than it knows."""
        newest = regions.map_for(self.opening.host)
        if newest != self._map:
            self._map = newest
            self.driver.send(newest)

    def declare(self, reason: CloseReason, at: float) -> None:
        """Settle the cause now; the goodbye may follow later."""
        if not self.driver.cell.ended:
            self.driver.cell.offer(reason.said_at(at))

    def leave(self, reason: CloseReason, at: float, because: ev.Evidence | None = None) -> None:
        """Say goodbye; the fact behind it is `because`, or that goodbye."""
        self.driver.leave(
            reason.cause,
            because=because or reason.said_at(at),
            actor=reason.actor,
            detail=reason.detail,
            retry_after_s=reason.retry_after_s,
        )

    def cut(self, fact: ev.Evidence) -> None:
        """Wait no longer for the peer."""
        self.driver.cut(fact)


class ControlLinkRunner:
    """Makes the drivers of control links and runs them to their rows' end."""

    def __init__(
        self,
        *,
        log: ConnectionLog,
        clock: Clock,
        metrics: Metrics,
        times: LinkTimes,
        server_instance: str,
        still_refused: Callable[[Opening], Awaitable[str]],
        host_context: HostContext | None = None,
    ) -> None:
        """`still_refused` asks what speaks against a peer's token now, "" for nothing; `host_context`
        knows what happened to this machine when a link is lost."""
        self.log = log
        self.clock = clock
        self.metrics = metrics
        self._times = times
        self._server_instance = server_instance
        self._still_refused = still_refused
        self._host_context = host_context
        self._idle_cuts = IdleCuts()
        self._certain_ends = CertainEnds()

    def end_of(self, link: ControlLink) -> LinkEnd:
        """A link is over: what is known of who ended it. Call once for each link."""
        return self._certain_ends.note(
            link.driver.cell.facts,
            link.opening.party,
            at=self.clock.now().mono,
            whose=_whose(link),
            proxied=link.opening.proxied,
        )

    def driver(
        self, opening: Opening, deliver: Callable[[Message], Awaitable[None] | None]
    ) -> LinkDriver:
        """The driver of an opened stream; nothing is sent before `run`."""
        return LinkDriver(
            stream=opening.stream,
            link=Link(
                me=Party.SERVER,
                peer=opening.party,
                now=self.clock.now(),
                ping_every=self._ping_every_s(opening),
                patience=self._times.patience_s,
                linger=LINGER_S,
            ),
            clock=self.clock,
            pack=encode,
            unpack=unpack_control,
            deliver=deliver,
            host_context=self._host_context,
        )

    def welcome(
        self,
        link: ControlLink,
        *,
        workspace_id: str = "",
        workspace: str = "",
        workspace_running: bool = True,
        user_ca_key: str = "",
        user: str = "",
    ) -> Welcome:
        """The answer to a good `Hello`."""
        return Welcome(
            protocol=PROTOCOL,
            connection_id=link.connection_id,
            server_instance=self._server_instance,
            version=VERSION,
            ping_every_s=self._ping_every_s(link.opening),
            patience_s=self._times.patience_s,
            workspace_id=workspace_id,
            workspace=workspace,
            workspace_running=workspace_running,
            user_ca_key=user_ca_key,
            user=user,
        )

    async def run(self, link: ControlLink, prepare: Callable[[], Awaitable[None]]) -> None:
        """Run `link`, whose row is open, to its end, and close its row.

        Args:
            link: the link.
            prepare: makes the link known and welcomes the peer.
        """
        driver = link.driver
        gauge = self.metrics.control_links.labels(str(link.opening.party))
        gauge.inc()
        self._end_when_expired(link)
        try:
            if link.opening.violation:
                driver.violated(link.opening.violation)
            else:
                await self._prepare(link, prepare)
            await driver.run()
        finally:
            gauge.dec()
            for timer in link.end_timers:
                timer.cancel()
            if not driver.cell.ended:
                self._failed(link, "the control link was dropped without a cause")
            if link.coordination is not None:
                link.coordination.over()
            await self._close_row(link)

    async def _close_row(self, link: ControlLink) -> None:
        cell = link.driver.cell
        try:
            idle_cut, earlier = self._cut_when_idle(link)
            facts = cell.facts if idle_cut is None else (*cell.facts, idle_cut)
            await self.log.close_control(link.connection_id, facts, cell.symptoms)
            link.closed.set()
            if idle_cut is not None:
                for connection_id in earlier:
                    await self.log.learned(connection_id, idle_cut)
        except Exception as wrong:  # whoever waits for the end of the link must not wait for ever
            unexpected("the end of a control link", wrong)
        finally:
            link.closed.set()

    async def _prepare(self, link: ControlLink, prepare: Callable[[], Awaitable[None]]) -> None:
        try:
            await prepare()
            if code := await self._still_refused(link.opening):
                link.leave(withdrawn(code, link.opening.party), self.clock.now().wall)
        except StoreUnavailable as wrong:
            link.leave(without_database(wrong), self.clock.now().wall)

    def _ping_every_s(self, opening: Opening) -> float:
        return self._idle_cuts.ping_every_s(_run_of(opening), self._times.ping_every_s)

    def _cut_when_idle(self, link: ControlLink) -> tuple[ev.CutWhenIdle | None, tuple[str, ...]]:
        idle_times = link.driver.idle_times
        return self._idle_cuts.ended(
            _run_of(link.opening),
            link.connection_id,
            link.opening.party,
            link.driver.cell.facts,
            outlived_s=0.0 if idle_times is None else idle_times.longest_s,
            at=self.clock.now().wall,
        )

    def ends_later(self, link: ControlLink, reason: CloseReason, after_s: float) -> None:
        """End a link for `reason` after so many seconds, unless it ends before."""
        timer = asyncio.get_running_loop().call_later(
            after_s, lambda: link.leave(reason, self.clock.now().wall)
        )
        link.end_timers.append(timer)

    def _end_when_expired(self, link: ControlLink) -> None:
        """A link ends when its token runs out."""
        expires_at = link.opening.identity.expires_at
        if expires_at is None:
            return
        wait_s = max(0.0, expires_at - self.clock.now().wall)
        if wait_s <= MAX_WAIT_S:
            self.ends_later(link, withdrawn("token_expired", link.opening.party), wait_s)

    def _failed(self, link: ControlLink, what: str) -> None:
        fact = ev.InternalFailure(
            vantage=Vantage.SERVER, at=self.clock.now().wall, party=Party.SERVER, what=what
        )
        link.driver.cell.offer(fact)


def _whose(link: ControlLink) -> str:
    """Whose links may end together by themselves: one person's programs, or one workspace's agent."""
    identity = link.opening.identity
    return identity.workspace_id or identity.user or identity.token_id


def _run_of(opening: Opening) -> tuple[str, str]:
    """Only its own token's holder can come back as a run."""
    return opening.identity.token_id, opening.hello.instance_id


L = TypeVar("L", bound=ControlLink)


class ControlLinks(ABC, Generic[L]):
    """The links of one kind of peer, from their hellos to their ends.

    A subclass says how a link of its kind is made and welcomed, what its peers may send besides what all
    peers may, and what is to be done when one is gone.
    """

    def __init__(self, runner: ControlLinkRunner, log: Logger) -> None:
        self._runner = runner
        self._log = log
        self._all: set[L] = set()

    def all(self) -> list[L]:
        """Every link, those that are ending included."""
        return list(self._all)

    async def serve(self, opening: Opening) -> None:
        """Serve a peer from its hello to the end of its link."""
        unknown: set[str] = set()

        async def deliver(message: Message) -> None:
            try:
                await self._deliver(link, message, unknown)
            except StoreUnavailable as wrong:
                link.leave(without_database(wrong), self._runner.clock.now().wall)

        driver = self._runner.driver(opening, deliver)
        opened = await self._open(opening, uuid.uuid4().hex, driver)
        if opened is None:
            return
        link = opened
        self._all.add(link)
        try:
            await self._runner.run(link, lambda: self._welcome(link))
        finally:
            self._all.discard(link)
            await self._gone(link)

    @abstractmethod
    async def _open(self, opening: Opening, connection_id: str, driver: LinkDriver) -> L | None:
        """Make the link, and its row where it has one; None if there is nothing to serve any more."""

    @abstractmethod
    async def _welcome(self, link: L) -> None:
        """Make the link known, and welcome its peer."""

    @abstractmethod
    async def _handle(self, link: L, message: Message) -> bool:
        """Handle a message that only this kind of peer sends; False if it is no such message."""

    async def _gone(self, link: L) -> None:
        """The link is over, and its row is closed."""

    async def _deliver(self, link: L, message: Message, unknown: set[str]) -> None:
        match message:
            case Report() if link.reporter is not None:
                acked = await self._runner.log.apply(link.reporter, message)
                link.driver.send(ReportAck(journal_id=message.journal_id, seq=acked))
            case CoordinateOpen() | Coordinate() | ResumeTokenRequest() if link.coordination:
                await link.coordination.handle(message)
            case Unrecognized() | Unsupported():
                self._note_unknown(link, message, unknown)
            case Goodbye():
                pass  # the link's machine has offered it, and its end writes the row
            case _:
                if not await self._handle(link, message):
                    kind = type(message).__name__
                    raise Garbage(f"a {kind} message from the {link.opening.party}")

    def _note_unknown(
        self, link: L, message: Unrecognized | Unsupported, unknown: set[str]
    ) -> None:
        """A peer of another version sent it, or did not know what we sent: one warning a type."""
        kind = type(message).__name__
        key = f"{kind}:{message.message_type}"
        if key not in unknown and len(unknown) < MAX_UNKNOWN:
            unknown.add(key)
            self._log.warning(
                "message of another version",
                connection_id=link.connection_id,
                message_type=message.message_type,
                known_by_us=kind == "Unsupported",
            )


async def all_closed(links: Iterable[ControlLink], timeout: float) -> list[ControlLink]:
    """Wait until the rows of these links are closed; those that are not in time."""
    links = list(links)
    try:
        async with asyncio.timeout(timeout):
            for link in links:
                await link.closed.wait()
    except TimeoutError:
        pass
    return [link for link in links if not link.closed.is_set()]
