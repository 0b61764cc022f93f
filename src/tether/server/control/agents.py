"""The control links of agents: who serves which workspace now.

Law: a workspace has one current agent link. A second agent takes its place, and the older link is told
who did; the same agent coming back replaces what is left of its own dead link, and that is no rival.
Presence is told by journal: an agent that was superseded still answers for its own tunnels.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Protocol

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import AGENT_OUTDATED, AGENT_SUPERSEDED, WORKSPACE_STOPPED
from tether.attribution.vocabulary import ConnectionType, Party, StreamEnd, Vantage
from tether.log import get_logger
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.protocol.derp.pairing import PAIRING_WAIT_S, CarrierId
from tether.protocol.messages.base import Message, Unrecognized
from tether.protocol.messages.control import EndConnections, Goodbye, Unsupported, WorkspaceStart
from tether.protocol.messages.reports import Report, ReportAck
from tether.protocol.messages.tunnel import CarrierOffer, ClientLost, OfferDeclined, TunnelOffer
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.records import NewConnection
from tether.server.control.agent_version import is_older
from tether.server.control.coordination import REQUESTS, CoordinationFront
from tether.server.control.directory import Directory, WorkspaceEntry
from tether.server.control.handshake import Opening
from tether.server.control.link import (
    CONNECT_TYPES,
    CloseReason,
    ControlLink,
    ControlLinkRunner,
    UnknownMessages,
    misplaced,
)
from tether.server.db.store import StoreUnavailable
from tether.server.derp.map import Regions

SUPERSEDED_RETRY_S = 60.0
"""When an agent that lost its place may try again: two of them must not chase each other."""

OUTDATED_RETRY_S = 60.0
"""When an agent that is too old may try again: it may be updated, or the server set back."""

RIVALS_S = 600.0
"""Two agents that take a workspace from each other within this time fight over it."""

MAX_OFFERS = 1024

TUNNEL_UNKNOWN = "tunnel_unknown"
"""The code of an agent that does not serve the tunnel (any more)."""

MAX_SENTENCE = 500

_log = get_logger("control")


class Presence(Protocol):
    """Who is told which agents are there."""

    def agent_here(self, journal_id: str, instance_id: str) -> None: ...

    def agent_gone(self, journal_id: str, *, silent: bool) -> None: ...


class AgentLink(ControlLink):
    """One agent."""

    def __init__(
        self, opening: Opening, connection_id: str, driver: LinkDriver, workspace: WorkspaceEntry
    ) -> None:
        super().__init__(opening, connection_id, driver)
        self.workspace_id, self.workspace = workspace.workspace_id, workspace.name
        self.hostname = opening.hello.hostname
        self._offers: dict[CarrierId, float] = {}

    def offer(self, offer: TunnelOffer) -> None:
        """Tell the agent that a client wants it."""
        self._note(CarrierId(offer.connection_id))
        self.driver.send(offer)

    def offer_carrier(self, offer: CarrierOffer) -> None:
        """Tell the agent that the client of one of its tunnels comes another way, too."""
        self._note(CarrierId(offer.connection_id, offer.carrier))
        self.driver.send(offer)

    def withdraw(self, carrier: CarrierId) -> bool:
        """Forget an offer; False if there was none."""
        return self._offers.pop(carrier, None) is not None

    def fresh_offers(self) -> list[CarrierId]:
        """Carriers that were offered just now: of a link that is over, the agent may never have heard
        of them, and nobody else can decline them."""
        since = asyncio.get_running_loop().time() - PAIRING_WAIT_S
        return [carrier for carrier, at in self._offers.items() if at > since]

    def _note(self, carrier: CarrierId) -> None:
        while len(self._offers) >= MAX_OFFERS:
            del self._offers[next(iter(self._offers))]
        self._offers[carrier] = asyncio.get_running_loop().time()


class AgentLinks:
    """See the module's law."""

    def __init__(
        self,
        *,
        lines: ControlLinkRunner,
        directory: Directory,
        presence: Presence,
        user_ca_key: str,
        decline: Callable[[CarrierId, str], None],
        lives: Callable[[str], bool],
        coordination: CoordinationFront,
        regions: Regions,
        min_version: str = "",
    ) -> None:
        """`decline` tells the relays of an offer that an agent cannot take; `lives` asks them whether
        they carry a tunnel; agents older than `min_version` are turned away."""
        self._min_version = min_version
        self._lines, self._directory, self._presence = lines, directory, presence
        self._user_ca_key, self._decline, self._lives = user_ca_key, decline, lives
        self._coordination, self._regions = coordination, regions
        self._current: dict[str, AgentLink] = {}
        self._awaited: dict[str, set[asyncio.Future[None]]] = {}
        self._tasks = Tasks("agent-links")
        self.on_unknown_tunnel: Callable[[AgentLink, CarrierId, str], Coroutine[Any, Any, None]] = (
            _nothing_to_do
        )
        """Called where an agent does not serve a tunnel that a further carrier was offered for."""
        self._all: set[AgentLink] = set()
        self._rivals: dict[str, tuple[frozenset[str], int, float]] = {}

    def current(self, workspace_id: str | None) -> AgentLink | None:
        """The link of the workspace's agent, if it is there."""
        return None if workspace_id is None else self._current.get(workspace_id)

    def all(self) -> list[AgentLink]:
        """Every link, those that are ending included."""
        return list(self._all)

    async def wait_for(self, workspace_id: str, timeout: float) -> None:
        """Wait until an agent of the workspace comes, at most `timeout` seconds."""
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._awaited.setdefault(workspace_id, set())
        waiting.add(came)
        try:
            await asyncio.wait({came}, timeout=timeout)
        finally:
            waiting.discard(came)
            if not waiting:
                self._awaited.pop(workspace_id, None)

    async def end_left(self, connection_ids: Collection[str]) -> None:
        """Tell agents to end those of these tunnels whose clients have told us that they left: a
        tunnel that is detached cannot tell its agent, and would wait for nobody."""
        for row, cause in await self._lines.log.left_by_clients(connection_ids):
            link = self.current(row.workspace_id)
            if link is not None and link.journal_id == row.journal_id:
                ids = [row.connection_id]
                link.driver.send(EndConnections(connection_ids=ids, cause=cause, by_client=True))

    def clients_lost(self, tunnels: Mapping[str, str]) -> None:
        """Tell agents that the client of these tunnels (and of which workspaces they are) is lost."""
        for workspace_id in sorted(set(tunnels.values())):
            link = self._current.get(workspace_id)
            if link is not None:
                its = [tunnel for tunnel, of in tunnels.items() if of == workspace_id]
                link.driver.send(ClientLost(connection_ids=its))

    def send_map(self) -> None:
        """Tell every agent of the DERP map, where it changed for them."""
        for link in self._current.values():
            link.send_map(self._regions)

    async def serve(self, opening: Opening) -> None:
        """Serve an agent from its hello to the end of its link."""
        workspace = await self._directory.by_id(opening.identity.workspace_id)
        if workspace is None:  # deleted while the handshake went on
            await opening.stream.close(1008, "the workspace was deleted")
            return
        link = await self._open(opening, workspace)
        self._all.add(link)
        try:
            await self._lines.run(link, lambda: self._welcome(link))
        finally:
            self._all.discard(link)
            await self._left(link)

    async def _open(self, opening: Opening, workspace: WorkspaceEntry) -> AgentLink:
        connection_id = uuid.uuid4().hex
        reporter = Reporter(
            vantage=Vantage.AGENT,
            since=self._lines.clock.now().wall,
            workspace_id=workspace.workspace_id,
        )
        words = UnknownMessages(_log, connection_id)

        async def deliver(message: Message) -> None:
            handling = (
                coordination.handle(message)
                if isinstance(message, REQUESTS)
                else self._deliver(link, reporter, words, message)
            )
            await self._lines.deliver(link, handling)

        await self._lines.log.open(
            NewConnection(
                connection_id=connection_id,
                connect_type=CONNECT_TYPES[Party.AGENT],
                type=ConnectionType.CONTROL,
                workspace_id=workspace.workspace_id,
                workspace=workspace.name,
                agent=opening.hello.hostname,
                client_ip=opening.client_ip,
                journal_id=opening.hello.journal_id,
                agent_instance=opening.hello.instance_id,
                node_id=opening.hello.boot_id or None,
            )
        )
        link = AgentLink(opening, connection_id, self._lines.driver(opening, deliver), workspace)
        coordination = self._coordination.attach(
            link, lambda: self._current.get(workspace.workspace_id) is link
        )
        link.on_over = coordination.over
        return link

    async def _welcome(self, link: AgentLink) -> None:
        hello, workspace_id = link.opening.hello, link.workspace_id
        if is_older(hello.version, self._min_version):
            self._turn_away_outdated(link)
            return
        await self._directory.agent_came(
            workspace_id,
            version=hello.version,
            hostname=hello.hostname,
            host_key=hello.ssh_host_key.strip(),
            at=self._lines.clock.now().wall,
        )
        await self._lines.log.reconcile(
            workspace_id,
            hello.journal_id,
            set(hello.open_connections),
            self._lives,
            hello.instance_id,
        )
        await self._lines.log.agent_returned(link.connection_id, hello)
        self._presence.agent_here(hello.journal_id, hello.instance_id)
        before = await self._directory.by_id(workspace_id)
        self._take_place(link, running=before is not None and before.running)
        # From now on a stop finds the link. What was decided just before did not: look once more.
        after = await self._directory.by_id(workspace_id)
        was_running, is_running = (one is not None and one.running for one in (before, after))
        if was_running and not is_running:
            link.leave(CloseReason(WORKSPACE_STOPPED), self._lines.clock.now().wall)
        elif is_running and not was_running:
            link.driver.send(WorkspaceStart())
        await self.end_left(hello.open_connections)
        _log.info(
            "control link connected",
            role="agent",
            connection_id=link.connection_id,
            workspace=link.workspace,
            client_ip=link.opening.client_ip,
            instance_id=link.instance_id,
            hostname=link.hostname,
            version=hello.version,
        )

    def _turn_away_outdated(self, link: AgentLink) -> None:
        detail = (
            f"this server takes agents from version {self._min_version} on, and this one is "
            f"{link.opening.hello.version[:40]}: update it"
        )
        parting = CloseReason(AGENT_OUTDATED, detail=detail, retry_after_s=OUTDATED_RETRY_S)
        link.leave(parting, self._lines.clock.now().wall)

    def _take_place(self, link: AgentLink, *, running: bool) -> None:
        """Make this the workspace's link; its welcome goes first, before any offer."""
        older = self._current.get(link.workspace_id)
        self._current[link.workspace_id] = link
        link.driver.send(
            self._lines.welcome(
                link,
                workspace_id=link.workspace_id,
                workspace=link.workspace,
                workspace_running=running,
                user_ca_key=self._user_ca_key,
            )
        )
        link.send_map(self._regions)
        for came in self._awaited.get(link.workspace_id, ()):
            if not came.done():
                came.set_result(None)
        if older is not None:
            self._replace(older, link)

    def _replace(self, older: AgentLink, newer: AgentLink) -> None:
        at = self._lines.clock.now().wall
        if older.instance_id == newer.instance_id:
            older.driver.cut(
                ev.StreamEnded(
                    vantage=Vantage.SERVER,
                    at=at,
                    peer=Party.AGENT,
                    how=StreamEnd.SILENT,
                    silence_s=None,
                ),
                ev.PeerReturned(
                    vantage=Vantage.SERVER,
                    at=at,
                    party=Party.AGENT,
                    after_s=0.0,
                    same_run=True,
                    same_address=older.opening.client_ip == newer.opening.client_ip,
                    same_boot=older.opening.hello.boot_id == newer.opening.hello.boot_id,
                ),
            )
            return
        older.leave(
            CloseReason(
                AGENT_SUPERSEDED,
                detail=f"an agent on {newer.hostname or 'another machine'} connected with the token of"
                f" workspace {newer.workspace}",
                retry_after_s=SUPERSEDED_RETRY_S,
            ),
            at,
            because=ev.Superseded(
                vantage=Vantage.SERVER,
                at=at,
                by_instance=newer.instance_id,
                turns=self._turns(older, newer, at),
            ),
        )

    def _turns(self, older: AgentLink, newer: AgentLink, at: float) -> int:
        """For which time these two take the workspace from each other, this one included."""
        pair = frozenset({older.instance_id, newer.instance_id})
        before = self._rivals.get(older.workspace_id)
        turns = before[1] + 1 if before and before[0] == pair and at - before[2] < RIVALS_S else 1
        self._rivals[older.workspace_id] = (pair, turns, at)
        while len(self._rivals) > MAX_OFFERS:
            del self._rivals[next(iter(self._rivals))]
        return turns

    async def _left(self, link: AgentLink) -> None:
        if self._current.get(link.workspace_id) is link:
            del self._current[link.workspace_id]
        for carrier in link.fresh_offers():
            self._decline(carrier, "the agent's connection to the server was lost: try again")
        if all(other.journal_id != link.journal_id for other in self._all):
            self._presence.agent_gone(link.journal_id, silent=_fell_silent(link))
        try:
            await self._directory.agent_left(link.workspace_id, self._lines.clock.now().wall)
        except StoreUnavailable as wrong:
            _log.warning("when the agent was last seen is not written", error=str(wrong))

    async def _deliver(
        self, link: AgentLink, reporter: Reporter, words: UnknownMessages, message: Message
    ) -> None:
        match message:
            case Report():
                acked = await self._lines.log.apply(reporter, message)
                link.driver.send(ReportAck(journal_id=message.journal_id, seq=acked))
            case OfferDeclined():
                self._declined(link, message)
            case Unrecognized() | Unsupported():
                words.heard(message)
            case Goodbye():
                pass  # the link has offered it, and its end writes the row
            case _:
                raise misplaced(message, Party.AGENT)

    def _declined(self, link: AgentLink, message: OfferDeclined) -> None:
        carrier, sentence = (
            CarrierId(message.connection_id, message.carrier),
            message.message[:MAX_SENTENCE],
        )
        if not link.withdraw(carrier):
            return
        if message.code == TUNNEL_UNKNOWN and carrier.number > 1:
            self._tasks.spawn(self.on_unknown_tunnel(link, carrier, sentence), "unknown-tunnel")
        else:
            self._decline(carrier, sentence)


async def _nothing_to_do(link: AgentLink, carrier: CarrierId, sentence: str) -> None:
    pass


_SILENT = (StreamEnd.SILENT, StreamEnd.TIMED_OUT, StreamEnd.UNREACHABLE)


def _fell_silent(link: AgentLink) -> bool:
    """Whether nothing says that the agent's process ended: it may sleep, or be cut off from us."""
    ends = (fact for fact in link.driver.cell.facts if isinstance(fact, ev.StreamEnded))
    goodbyes = any(isinstance(fact, ev.GoodbyeSaid) for fact in link.driver.cell.facts)
    return not goodbyes and any(end.how in _SILENT for end in ends)
