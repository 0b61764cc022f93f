"""The control links of agents: who serves which workspace now.

Law: a workspace has one current agent link. A second agent takes its place, and the older one is told by
whom; the same agent coming back replaces what is left of its own dead link, and that is no rival.
Presence is by journal: an agent that was superseded still answers for its own tunnels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from packaging.version import InvalidVersion, Version

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import AGENT_OUTDATED, AGENT_SUPERSEDED, WORKSPACE_STOPPED
from tether.attribution.vocabulary import ConnectionType, Party, StreamEnd, Vantage
from tether.log import get_logger
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.protocol.derp.pairing import PAIRING_WAIT_S, CarrierId
from tether.protocol.messages.base import Message
from tether.protocol.messages.control import EndConnections, WorkspaceStart
from tether.protocol.messages.tunnel import CarrierOffer, ClientLost, OfferDeclined, TunnelOffer
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.records import NewConnection
from tether.server.control.coordination import CoordinationFront, LinkCoordination
from tether.server.control.directory import Directory, WorkspaceEntry
from tether.server.control.handshake import CONNECT_TYPES, Opening
from tether.server.control.link import (
    CloseReason,
    ControlLink,
    ControlLinkRunner,
    ControlLinks,
)
from tether.server.control.relays import Relays
from tether.server.db.store import StoreUnavailable
from tether.server.db.tables.connections import ConnectionRow
from tether.server.derp.map import Regions

SUPERSEDED_RETRY_S = 60.0
"""When an agent that lost its place may try again: two of them must not chase each other."""

OUTDATED_RETRY_S = 300.0
"""When an agent that is too old may try again: it may be updated, or the server set back."""

RIVALS_S = 600.0
"""Two agents that take a workspace from each other within this time fight over it."""

MAX_OFFERS = 1024

TUNNEL_UNKNOWN = "tunnel_unknown"
"""The code with which an agent declines that does not serve the tunnel (any more)."""

RETURN_S = 10.0
"""How long after the server's start a user waits for an agent that was connected before: agents dial
every two seconds or so in the first minute of an outage."""

REPORT_S = 1.0
"""How long the report of an agent that does not know a tunnel may take to arrive."""

MAX_SENTENCE = 500

_log = get_logger("control")


class Presence(Protocol):
    """Whoever acts on which agents are there."""

    def agent_here(self, journal_id: str, instance_id: str) -> None:
        """An agent was welcomed."""

    def agent_gone(self, journal_id: str, is_certain: Callable[[], bool]) -> None:
        """The last link of an agent is over. `is_certain` tells, seconds later, whether its process is
        known to have ended it."""


@dataclass(frozen=True, slots=True)
class _Rivalry:
    """Two runs of agents that take a workspace from each other: how often, and when last."""

    runs: frozenset[str]
    turns: int
    at: float


class AgentLink(ControlLink):
    """One agent."""

    def __init__(
        self,
        opening: Opening,
        connection_id: str,
        driver: LinkDriver,
        *,
        reporter: Reporter,
        coordination: LinkCoordination,
        workspace: WorkspaceEntry,
    ) -> None:
        super().__init__(
            opening, connection_id, driver, reporter=reporter, coordination=coordination
        )
        self.workspace_id = workspace.workspace_id
        self.workspace = workspace.name
        self.hostname = opening.hello.hostname
        self._offers: dict[CarrierId, float] = {}  # carrier -> when it was offered

    def serves(self, row: ConnectionRow) -> bool:
        """Whether this is the link of the very run that the tunnel was granted to."""
        return self.journal_id == row.journal_id and self.instance_id == row.agent_instance

    def offer(self, offer: TunnelOffer) -> None:
        """Tell the agent that a client wants it."""
        self._note(CarrierId(offer.connection_id))
        self.driver.send(offer)

    def offer_carrier(self, offer: CarrierOffer) -> None:
        """Tell the agent that the client of one of its tunnels comes over another carrier, too."""
        self._note(CarrierId(offer.connection_id, offer.carrier))
        self.driver.send(offer)

    def withdraw(self, carrier: CarrierId) -> bool:
        """Forget an offer; False if there was none."""
        return self._offers.pop(carrier, None) is not None

    def fresh_offers(self) -> list[CarrierId]:
        """Carriers that were offered just now: where the link is over, the agent may never have received
        the offers, and nobody else can decline them."""
        since = asyncio.get_running_loop().time() - PAIRING_WAIT_S
        return [carrier for carrier, at in self._offers.items() if at > since]

    def _note(self, carrier: CarrierId) -> None:
        while len(self._offers) >= MAX_OFFERS:
            del self._offers[next(iter(self._offers))]
        self._offers[carrier] = asyncio.get_running_loop().time()


class AgentLinks(ControlLinks[AgentLink]):
    """The links of agents, and which of them is its workspace's current one."""

    def __init__(
        self,
        *,
        runner: ControlLinkRunner,
        directory: Directory,
        relays: Relays,
        regions: Regions,
        coordination: CoordinationFront,
        user_ca_key: str,
        min_version: str = "",
    ) -> None:
        """`user_ca_key` is what agents are to trust; those older than `min_version` are turned away."""
        super().__init__(runner, _log)
        self._directory = directory
        self._relays = relays
        self._regions = regions
        self._coordination = coordination
        self._user_ca_key = user_ca_key
        self._min_version = min_version
        self._current: dict[str, AgentLink] = {}  # by workspace
        self._awaited: dict[str, set[asyncio.Future[None]]] = {}  # by workspace
        self._rivalries: dict[str, _Rivalry] = {}  # by workspace
        self._returning: frozenset[str] = frozenset()  # workspaces whose agents are about to return
        self._return_by = 0.0  # by then (monotonic seconds)
        self._observers: list[Presence] = []
        self._tasks = Tasks("agent-links")

    def subscribe(self, observer: Presence) -> None:
        """Tell `observer` which agents come and go from now on."""
        self._observers.append(observer)

    def current(self, workspace_id: str | None) -> AgentLink | None:
        """The link of the workspace's agent, if it is there."""
        return None if workspace_id is None else self._current.get(workspace_id)

    def heard_at(self, workspace_id: str) -> float | None:
        """When (wall clock) the workspace's agent was last heard; None if it is not there."""
        link = self.current(workspace_id)
        return None if link is None else self._heard_at(link)

    def _heard_at(self, link: AgentLink) -> float:
        now = self._runner.clock.now()
        return now.wall - (now.mono - link.driver.heard_at)

    def expect(self, workspaces: frozenset[str]) -> None:
        """The server has just started, and the agents of these were connected to the run before."""
        self._returning = workspaces
        self._return_by = self._runner.clock.now().mono + RETURN_S

    async def current_or_returning(self, workspace_id: str) -> AgentLink | None:
        """The link of the workspace's agent; one that is about to return is waited for."""
        left_s = self._return_by - self._runner.clock.now().mono
        if self.current(workspace_id) is None and workspace_id in self._returning and left_s > 0:
            await self.wait_for(workspace_id, left_s)
        return self.current(workspace_id)

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
        """Tell agents to end those of these tunnels whose clients have reported that they left: over a
        tunnel that is detached nobody can, and its agent would wait for nobody."""
        for row, cause in await self._runner.log.left_by_clients(connection_ids):
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

    async def _open(
        self, opening: Opening, connection_id: str, driver: LinkDriver
    ) -> AgentLink | None:
        workspace = await self._directory.by_id(opening.identity.workspace_id)
        if workspace is None:  # deleted while the handshake went on
            await opening.stream.close(1008, "the workspace was deleted")
            return None
        workspace_id = workspace.workspace_id
        now = self._runner.clock.now().wall
        await self._runner.log.open(
            NewConnection(
                connection_id=connection_id,
                connect_type=CONNECT_TYPES[Party.AGENT],
                type=ConnectionType.CONTROL,
                workspace_id=workspace_id,
                workspace=workspace.name,
                agent=opening.hello.hostname,
                client_ip=opening.client_ip,
                journal_id=opening.hello.journal_id,
                agent_instance=opening.hello.instance_id,
                node_id=opening.hello.boot_id or None,
            )
        )

        def is_current() -> bool:
            current = self._current.get(workspace_id)
            return current is not None and current.connection_id == connection_id

        return AgentLink(
            opening,
            connection_id,
            driver,
            reporter=Reporter(vantage=Vantage.AGENT, since=now, workspace_id=workspace_id),
            coordination=self._coordination.attach(opening, connection_id, driver, is_current),
            workspace=workspace,
        )

    async def _welcome(self, link: AgentLink) -> None:
        hello, workspace_id = link.opening.hello, link.workspace_id
        if link.opening.outdated:
            self._turn_away_outdated(link, link.opening.outdated)
            return
        if is_older(hello.version, self._min_version):
            self._turn_away_outdated(
                link,
                f"this server takes agents from version {self._min_version} on, and this one is "
                f"{hello.version[:40]}: update it",
            )
            return
        await self._directory.agent_came(
            workspace_id,
            version=hello.version,
            hostname=hello.hostname,
            host_key=hello.ssh_host_key.strip(),
            at=self._runner.clock.now().wall,
        )
        await self._runner.log.reconcile(
            workspace_id,
            hello.journal_id,
            set(hello.open_connections),
            self._relays.carries,
            hello.instance_id,
        )
        await self._runner.log.reopen(hello.journal_id, hello.instance_id, hello.serving)
        await self._runner.log.agent_returned(link.connection_id, hello)
        for observer in self._observers:
            observer.agent_here(hello.journal_id, hello.instance_id)
        before = await self._directory.by_id(workspace_id)
        self._take_place(link, running=before is not None and before.running)
        # From now on a stop finds the link. What was decided just before did not: look once more.
        after = await self._directory.by_id(workspace_id)
        was_running, is_running = (one is not None and one.running for one in (before, after))
        if was_running and not is_running:
            link.leave(CloseReason(WORKSPACE_STOPPED), self._runner.clock.now().wall)
        elif is_running and not was_running:
            link.driver.send(WorkspaceStart())
        await self._end_not_to_be_served(link)
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

    async def _end_not_to_be_served(self, link: AgentLink) -> None:
        """Have an agent that is back end what was withdrawn or ended while it could not hear of it."""
        hello, orders = link.opening.hello, dict[tuple[str, str], list[str]]()
        for row in await self._runner.log.not_to_be_served(hello.serving, hello.journal_id):
            orders.setdefault(row.why, []).append(row.connection_id)
        at = self._runner.clock.now().wall
        for (cause, actor), ids in orders.items():
            await self._runner.log.announce(ids, CloseReason(cause, actor).said_at(at))
            link.driver.send(EndConnections(connection_ids=ids, cause=cause, actor=actor))

    def _turn_away_outdated(self, link: AgentLink, detail: str) -> None:
        reason = CloseReason(AGENT_OUTDATED, detail=detail, retry_after_s=OUTDATED_RETRY_S)
        link.leave(reason, self._runner.clock.now().wall)

    def _take_place(self, link: AgentLink, *, running: bool) -> None:
        """Make this the workspace's link; its welcome goes first, before any offer."""
        older = self._current.get(link.workspace_id)
        self._current[link.workspace_id] = link
        link.driver.send(
            self._runner.welcome(
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
        at = self._runner.clock.now().wall
        if older.instance_id == newer.instance_id:
            older.driver.cut(
                ev.StreamEnded(
                    vantage=Vantage.SERVER,
                    at=at,
                    peer=Party.AGENT,
                    how=StreamEnd.SILENT,
                    heard_ago_s=round(older.driver.heard_ago_s(), 3),
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
        """How often these two have taken the workspace from each other, this time included."""
        runs = frozenset({older.instance_id, newer.instance_id})
        before = self._rivalries.get(older.workspace_id)
        goes_on = before is not None and before.runs == runs and at - before.at < RIVALS_S
        turns = before.turns + 1 if before is not None and goes_on else 1
        self._rivalries[older.workspace_id] = _Rivalry(runs, turns, at)
        while len(self._rivalries) > MAX_OFFERS:
            del self._rivalries[next(iter(self._rivalries))]
        return turns

    async def _gone(self, link: AgentLink) -> None:
        if self._current.get(link.workspace_id) is link:
            del self._current[link.workspace_id]
        end = self._runner.end_of(link)
        for carrier in link.fresh_offers():
            why = "the agent's connection to the server was lost: try again"
            self._relays.decline(carrier, why)
        if all(other.journal_id != link.journal_id for other in self._all):
            for observer in self._observers:
                observer.agent_gone(link.journal_id, lambda: _left(link) or end.is_certain())
        try:
            await self._directory.agent_left(link.workspace_id, self._heard_at(link))
        except StoreUnavailable as wrong:
            _log.warning("when the agent was last seen is not written", error=str(wrong))

    async def _handle(self, link: AgentLink, message: Message) -> bool:
        match message:
            case OfferDeclined():
                self._declined(link, message)
            case _:
                return False
        return True

    def _declined(self, link: AgentLink, message: OfferDeclined) -> None:
        carrier = CarrierId(message.connection_id, message.carrier)
        sentence = message.message[:MAX_SENTENCE]
        if not link.withdraw(carrier):
            return
        if message.code == TUNNEL_UNKNOWN and carrier.number > 1:
            self._tasks.spawn(self._close_unknown(link, carrier, sentence), "unknown-tunnel")
        else:
            self._relays.decline(carrier, sentence)

    async def _close_unknown(self, link: AgentLink, carrier: CarrierId, sentence: str) -> None:
        """An agent does not serve a tunnel that its row has it serve: so it is over."""
        log, connection_id = self._runner.log, carrier.connection_id
        # its report may be on the way, and knows more
        if await log.wait_closed([connection_id], REPORT_S):
            row = await log.find_tunnel(connection_id)
            if row is None or not link.serves(row):
                return
            at = self._runner.clock.now().wall
            missing = ev.ReportMissing(vantage=Vantage.SERVER, at=at, party=Party.AGENT)
            await log.close_tunnel(connection_id, (missing,))
        row = await log.find_tunnel(connection_id)
        cause, actor = ("", "") if row is None else row.cause_and_actor
        self._relays.decline(carrier, sentence, cause, actor)


def is_older(version: str, minimum: str) -> bool:
    """Whether `version` is older than `minimum`; nothing is older than "".

    A pre-release counts as its release, and what is no version is older than every version.
    """
    if not minimum:
        return False
    try:
        return Version(Version(version).base_version) < Version(minimum)
    except InvalidVersion:
        return True


def _left(link: AgentLink) -> bool:
    """Whether the agent said goodbye: what was to be reported has been, or never will be."""
    return any(
        isinstance(fact, ev.GoodbyeSaid) and fact.by is Party.AGENT
        for fact in link.driver.cell.facts
    )
