"""What the control links of agents and of clients have in common: one driver, one row, one end.

Law: the row is opened before the peer is welcomed and closed by the link's own cell, whatever ends
the link; a peer whose first message made no sense gets a row, too, because its token says who it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import (
    AUTH_TOKEN_EXPIRED,
    AUTH_TOKEN_REVOKED,
    AUTH_USER_REVOKED,
    SERVER_DATABASE_UNAVAILABLE,
    WORKSPACE_DELETED,
)
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.log import Logger
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver
from tether.net.link.host_context import HostContext
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Garbage, Message, Unrecognized
from tether.protocol.messages.codec import PROTOCOL, encode
from tether.protocol.messages.control import Unsupported, Welcome
from tether.protocol.messages.derp import DerpMap
from tether.server.connlog.log import ConnectionLog
from tether.server.control.handshake import Opening, unpack_control
from tether.server.control.idle_cuts import IdleCuts
from tether.server.db.store import StoreUnavailable
from tether.server.derp.map import Regions
from tether.server.metrics import Metrics
from tether.server.settings import LinkTimes
from tether.version import VERSION

LINGER_S = 1.5
"""How long our goodbye waits for its acknowledgement: a part of the shutdown's eight seconds."""


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why the server ends a link, and when the peer should dial again (negative: never)."""

    cause: str
    actor: str = ""
    detail: str = ""
    retry_after_s: float = 0.0


class ControlLink:
    """One welcomed control link. `closed` is set when its row is closed."""

    def __init__(self, opening: Opening, connection_id: str, driver: LinkDriver) -> None:
        self.opening, self.connection_id, self.driver = opening, connection_id, driver
        self.on_over: Callable[[], None] = lambda: None
        """Called when the cause is known, before the row is closed."""
        self.closed = asyncio.Event()
        self._map: DerpMap | None = None

    def send_map(self, regions: Regions) -> None:
        """Tell the peer of the DERP map, if it is another one than it knows."""
        newest = regions.map_for(self.opening)
        if newest != self._map:
            self._map = newest
            self.driver.send(newest)

    @property
    def token_id(self) -> str:
        return self.opening.identity.token_id

    @property
    def instance_id(self) -> str:
        return self.opening.hello.instance_id

    @property
    def journal_id(self) -> str:
        return self.opening.hello.journal_id

    def declare(self, parting: CloseReason, at: float) -> None:
        """Settle the cause now; the goodbye may follow later."""
        if not self.driver.cell.ended:
            self.driver.cell.offer(_said(parting, at))

    def leave(self, parting: CloseReason, at: float, because: ev.Evidence | None = None) -> None:
        """Say goodbye."""
        self.driver.leave(
            parting.cause,
            because=because or _said(parting, at),
            actor=parting.actor,
            detail=parting.detail,
            retry_after_s=parting.retry_after_s,
        )

    def cut(self, fact: ev.Evidence) -> None:
        """Wait no longer for the peer."""
        self.driver.cut(fact)


def _said(parting: CloseReason, at: float) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(
        vantage=Vantage.SERVER,
        at=at,
        by=Party.SERVER,
        cause=parting.cause,
        actor=parting.actor,
        detail=parting.detail,
    )


MAX_WAIT_S = 40 * 24 * 3600.0
"""No link lives longer than this without being dialled anew, which its token must pass."""

NEVER = -1.0
"""`retry_after_s` of a peer that need not come back."""

WITHDRAWN = {
    "user_revoked": CloseReason(AUTH_USER_REVOKED, retry_after_s=NEVER),
    "workspace_deleted": CloseReason(WORKSPACE_DELETED, retry_after_s=NEVER),
    "token_expired": CloseReason(AUTH_TOKEN_EXPIRED, retry_after_s=NEVER),
}
"""What to tell a peer whose token was withdrawn while it was let in; others: `TOKEN_REVOKED`."""

DATABASE_RETRY_S = 5.0
"""When a peer may try again that was let go because the database did not answer."""


def without_database(wrong: StoreUnavailable) -> CloseReason:
    """What to tell whoever cannot be served without the database."""
    return CloseReason(
        SERVER_DATABASE_UNAVAILABLE, detail=str(wrong), retry_after_s=DATABASE_RETRY_S
    )


TOKEN_REVOKED = CloseReason(AUTH_TOKEN_REVOKED, retry_after_s=NEVER)


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
        """`still_refused` asks what speaks against a peer's token now; `host_context` tells what
        happened to this machine when a link is lost."""
        self.log, self.clock, self.metrics = log, clock, metrics
        self._still_refused = still_refused
        self._times, self.server_instance = times, server_instance
        self._host_context = host_context
        self._idle_cuts = IdleCuts()

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
            server_instance=self.server_instance,
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
        expiry_timer = self._when_expired(link)
        try:
            if link.opening.violation:
                driver.violated(link.opening.violation)
            else:
                await self._prepare(link, prepare)
            await driver.run()
        finally:
            gauge.dec()
            if expiry_timer is not None:
                expiry_timer.cancel()
            if not driver.cell.ended:
                self._failed(link, "the control link was dropped without a cause")
            link.on_over()
            told, earlier = self._cut_when_idle(link)
            facts = driver.cell.facts if told is None else (*driver.cell.facts, told)
            await self.log.close_control(link.connection_id, facts, driver.cell.symptoms)
            link.closed.set()
            if told is not None:
                for connection_id in earlier:
                    await self.log.learned(connection_id, told)

    async def deliver(self, link: ControlLink, handling: Awaitable[None]) -> None:
        """Handle a message; a link that cannot be served without the database is let go."""
        try:
            await handling
        except StoreUnavailable as wrong:
            link.leave(without_database(wrong), self.clock.now().wall)

    async def _prepare(self, link: ControlLink, prepare: Callable[[], Awaitable[None]]) -> None:
        try:
            await prepare()
            if code := await self._still_refused(link.opening):
                link.leave(WITHDRAWN.get(code, TOKEN_REVOKED), self.clock.now().wall)
        except StoreUnavailable as wrong:
            link.leave(without_database(wrong), self.clock.now().wall)

    def _ping_every_s(self, opening: Opening) -> float:
        return self._idle_cuts.ping_every_s(_run_of(opening), self._times.ping_every_s)

    def _cut_when_idle(self, link: ControlLink) -> tuple[ev.CutWhenIdle | None, tuple[str, ...]]:
        quiet = link.driver.idle_times
        return self._idle_cuts.ended(
            _run_of(link.opening),
            link.connection_id,
            link.opening.party,
            link.driver.cell.facts,
            outlived_s=0.0 if quiet is None else quiet.longest_s,
            at=self.clock.now().wall,
        )

    def _when_expired(self, link: ControlLink) -> asyncio.TimerHandle | None:
        """A link stands on its token, and ends with it."""
        expires_at = link.opening.identity.expires_at
        if expires_at is None:
            return None
        wait_s = max(0.0, expires_at - self.clock.now().wall)
        if wait_s > MAX_WAIT_S:
            return None
        parting = WITHDRAWN["token_expired"]
        return asyncio.get_running_loop().call_later(
            wait_s, lambda: link.leave(parting, self.clock.now().wall)
        )

    def _failed(self, link: ControlLink, what: str) -> None:
        fact = ev.InternalFailure(
            vantage=Vantage.SERVER, at=self.clock.now().wall, party=Party.SERVER, what=what
        )
        link.driver.cell.offer(fact)


def _run_of(opening: Opening) -> tuple[str, str]:
    """Only its own token's holder can come back as a run."""
    return opening.identity.token_id, opening.hello.instance_id


class UnknownMessages:
    """What a link says of messages that it does not know: one warning a type."""

    def __init__(self, logger: Logger, connection_id: str) -> None:
        self._logger, self._connection_id = logger, connection_id
        self._seen: set[str] = set()

    def heard(self, message: Unrecognized | Unsupported) -> None:
        """A peer of another version sent it, or did not know what we sent."""
        kind = type(message).__name__
        word = f"{kind}:{message.message_type}"
        if word not in self._seen and len(self._seen) < 100:
            self._seen.add(word)
            self._logger.warning(
                "message of another version",
                connection_id=self._connection_id,
                message_type=message.message_type,
                known_by_us=kind == "Unsupported",
            )


def misplaced(message: Message, party: Party) -> Garbage:
    """A message that this party may not send here."""
    return Garbage(f"a {type(message).__name__} message from the {party}")


CONNECT_TYPES = {
    Party.AGENT: ConnectType.SERVER_TO_AGENT,
    Party.CLIENT: ConnectType.CLIENT_TO_SERVER,
}


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
