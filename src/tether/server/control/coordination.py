"""The coordinator of this server, over its control links.

Law: the machine in `protocol.coordination.coordinator` decides, this sends and receives. A peer is who
its token says: an agent its workspace, a client an id of its own that a resume token keeps. What a peer
asks is bounded in rate; what waits for it is bounded by the machine, and leaves as fast as its link
takes it. A violation ends the link; any other end of a stream leaves the link alone, and is a log line
and a fact of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import COORDINATION_OVERWRITTEN
from tether.attribution.classify import classify
from tether.attribution.vocabulary import Party, Vantage
from tether.log import disconnected, get_logger
from tether.net.clock import Clock
from tether.net.link.driver import HIGH_WATER, LinkDriver
from tether.net.tasks import Tasks
from tether.protocol.coordination import resume_token
from tether.protocol.coordination.access import AgentAccess, ClientAccess
from tether.protocol.coordination.coordinator import Coordinator, PeerStream, StreamEnding
from tether.protocol.derp.latency import NOT_MEASURED, RegionLatency, is_latency
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateClosed,
    CoordinateOpen,
    CoordinateOpened,
    PeerUpdates,
    ResumeTokenGrant,
    ResumeTokenRequest,
)
from tether.protocol.token_bucket import TokenBucket
from tether.server.control.agent_endpoints import for_client, reachable, with_seen
from tether.server.control.directory import Directory
from tether.server.control.handshake import CONNECT_TYPES, Opening

BURST, PER_S = 300, 20.0
"""Requests of one link: at once, and each second from then on."""

CoordinationRequest: TypeAlias = CoordinateOpen | Coordinate | ResumeTokenRequest
REQUESTS = (CoordinateOpen, Coordinate, ResumeTokenRequest)

_SILENT_ENDS = (StreamEnding.LEFT, StreamEnding.LOST, StreamEnding.CLOSED)
"""Ends of streams that are logged with their link, or by whoever closed the coordinator."""

_log = get_logger("coordination")


class LinkCoordination:
    """The coordination of one link. `handle` what it asks, and say when it is `over`."""

    def __init__(
        self,
        front: CoordinationFront,
        opening: Opening,
        connection_id: str,
        driver: LinkDriver,
        is_current: Callable[[], bool],
    ) -> None:
        self.opening = opening
        self.connection_id = connection_id
        self.driver = driver
        self.stream: PeerStream | None = None
        self.draining = False  # what waits goes on when the link has room
        self._front = front
        self._is_current = is_current
        self._requests = TokenBucket(burst=BURST, per_s=PER_S, now=front.clock.now().mono)
        self._may_reach = ""  # the one destination that was looked up for the request at hand

    async def handle(self, asked: CoordinationRequest) -> None:
        """Do what the peer asks.

        Raises:
            StoreUnavailable: what the peer may do cannot be looked up.
        """
        if not self._requests.try_take(self._front.clock.now().mono):
            rate = f"{PER_S:.0f} a second after {BURST} at once"
            self.driver.violated(f"floods the coordinator: more requests than {rate}")
            return
        match asked:
            case CoordinateOpen(resume_token=token):
                self._open(token)
            case Coordinate(add_tunnel=peer_id) if self.stream is not None:
                identity = self.opening.identity
                may = bool(peer_id) and identity.kind != "agent"
                if may and await self._front.directory.may_use(peer_id, identity):
                    self._may_reach = peer_id
                if self.stream is not None:
                    self._front.request(self.stream, asked)
            case ResumeTokenRequest(request_id=number) if self.stream is not None:
                self.driver.send(self._token(number, self.stream.peer_id))
            case _:
                pass  # under way while the stream was closed

    def over(self) -> None:
        """The link is over, for the cause in its cell."""
        if self.stream is None:
            return
        facts = self.driver.cell.facts
        judged = classify(CONNECT_TYPES[self.opening.party], facts).disconnect
        self._front.lost(self.stream, judged.cause, judged.actor)
        self.stream = None

    def _open(self, token: str) -> None:
        if self.stream is not None:
            self.driver.violated("opened its coordination stream twice")
            return
        if not self._is_current():  # its successor is here: it must not be thrown out in turn
            self.driver.send(
                CoordinateClosed(
                    error="peer ID overwritten by new connection", cause=COORDINATION_OVERWRITTEN
                )
            )
            return
        self._front.open(self, self._peer_id(token))

    def _peer_id(self, token: str) -> str:
        identity = self.opening.identity
        if identity.kind == "agent":
            return identity.workspace_id
        wall = self._front.clock.now().wall
        kept = resume_token.read(self._front.key, token, holder=self._holder, wall=wall)
        return kept or uuid.uuid4().hex

    def _token(self, number: int, peer_id: str) -> ResumeTokenGrant:
        wall = self._front.clock.now().wall
        return ResumeTokenGrant(
            request_id=number,
            token=resume_token.mint(
                self._front.key, peer_id=peer_id, holder=self._holder, wall=wall
            ),
            expires_in_s=resume_token.EXPIRES_S,
            refresh_in_s=resume_token.REFRESH_S,
        )

    @property
    def _holder(self) -> str:
        identity = self.opening.identity
        return f"{identity.kind}:{identity.workspace_id or identity.user}"

    def may_reach(self, peer_id: str) -> bool:
        """Whether the request at hand may add a tunnel to this peer."""
        return peer_id == self._may_reach


class CoordinationFront:
    """The coordinator, and the links that it is connected to."""

    def __init__(self, *, directory: Directory, clock: Clock, key: bytes) -> None:
        self.directory = directory
        self.clock = clock
        self.key = key  # of resume tokens
        self._coordinator = Coordinator()
        self._links: dict[PeerStream, LinkCoordination] = {}
        self._tasks = Tasks("coordination")

    def attach(
        self,
        opening: Opening,
        connection_id: str,
        driver: LinkDriver,
        is_current: Callable[[], bool] = lambda: True,
    ) -> LinkCoordination:
        """The coordination of a link that is being made.

        `is_current` asks whether no newer link of its peer has taken its place.
        """
        return LinkCoordination(self, opening, connection_id, driver, is_current)

    def region_latency(self, workspace_id: str) -> RegionLatency:
        """The home region of the workspace's agent, and the latency of each region from there."""
        node = self._coordinator.node_of(workspace_id)
        if node is None:
            return NOT_MEASURED
        latency_s = {
            name: value for name, value in node.region_latency.items() if is_latency(value)
        }
        return RegionLatency(node.home_region, latency_s)

    def endpoints(self, workspace_id: str, client_ip: str) -> list[str]:
        """Where a client may dial the workspace's agent, best first."""
        node = self._coordinator.node_of(workspace_id)
        return [] if node is None else reachable(node.endpoints, client_ip)

    def close(self, cause: str, *, actor: str = "", detail: str = "", error: str = "") -> None:
        """End every stream, and open no more until `reopen`."""
        more = {"error": error} if error else {}
        self._send(self._coordinator.close(cause, actor=actor, detail=detail, **more))

    def reopen(self) -> None:
        """Open streams again."""
        self._coordinator.reopen()

    async def aclose(self) -> None:
        """Send nothing any more."""
        await self._tasks.cancel()

    # -- for its links -----------------------------------------------------------------------

    def open(self, link: LinkCoordination, peer_id: str) -> None:
        """Open a stream, and say so first; or say why not."""
        is_agent = link.opening.party is Party.AGENT
        access = AgentAccess() if is_agent else ClientAccess(link.may_reach)
        stream, woken = self._coordinator.open(peer_id, access)
        self._links[stream] = link
        if stream.over is None:
            link.stream = stream
            link.driver.send(CoordinateOpened(peer_id=peer_id))
        self._send(woken)

    def request(self, stream: PeerStream, asked: Coordinate) -> None:
        """A peer asks."""
        link = self._links.get(stream)
        if asked.update_self is not None and link is not None and stream.party is Party.AGENT:
            node = with_seen(asked.update_self, link.opening.client_ip)
            asked = msgspec.structs.replace(asked, update_self=node)
        self._send(self._coordinator.request(stream, asked))

    def lost(self, stream: PeerStream, cause: str, actor: str) -> None:
        """A peer's link is over."""
        self._links.pop(stream, None)
        self._send(self._coordinator.lost(stream, cause, actor))

    def _send(self, woken: list[PeerStream]) -> None:
        for stream in woken:
            link = self._links.get(stream)
            if link is not None and not link.draining:
                self._pump(stream, link)

    def _pump(self, stream: PeerStream, link: LinkCoordination) -> None:
        """Send what waits, as much as the link takes; the rest when it has room."""
        driver = link.driver
        while (message := stream.take()) is not None:
            if isinstance(message, PeerUpdates) and stream.party is Party.CLIENT:
                message = for_client(message, link.opening.client_ip)
            driver.send(message)
            if driver.queued > HIGH_WATER:
                link.draining = True
                self._tasks.spawn(self._drain(stream, link), "drain")
                return
        if stream.over is not None:
            self._over(stream, link)

    async def _drain(self, stream: PeerStream, link: LinkCoordination) -> None:
        await link.driver.drain()
        link.draining = False
        if self._links.get(stream) is link:
            self._pump(stream, link)

    def _over(self, stream: PeerStream, link: LinkCoordination) -> None:
        over = stream.over
        if over is None or self._links.pop(stream, None) is None:
            return
        if link.stream is stream:
            link.stream = None
        driver, at = link.driver, self.clock.now().wall
        if over.ending is StreamEnding.VIOLATED:
            driver.violated(over.detail)
            return
        if over.ending in _SILENT_ENDS:
            return
        goodbye = ev.GoodbyeSaid(
            vantage=Vantage.SERVER,
            at=at,
            by=Party.SERVER,
            cause=over.cause,
            actor=over.actor,
            detail=over.detail or over.error,
        )
        judged = classify(CONNECT_TYPES[link.opening.party], (goodbye,)).disconnect
        disconnected(
            _log,
            "coordination ended",
            judged,
            connection_id=link.connection_id,
            peer_id=stream.peer_id,
        )
        driver.cell.note(
            ev.LogicalStreamEnded(
                vantage=Vantage.SERVER,
                at=at,
                stream="coordination",
                cause=over.cause,
                actor=over.actor,
                detail=over.detail or over.error,
            )
        )
