"""Further carriers of tunnels: a client asks for one, and it and its tunnel's agent get tickets.

Law: the record decides. A tunnel whose row is closed is over, and its client is told why; one whose row
is open is served by the one run of an agent that it was granted to, and by no other. An agent that is
away is waited for, for seconds. Requests are bounded for each tunnel and for each link.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tether.attribution.vocabulary import Party
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.derp.tickets import MAX_CARRIER, Tickets
from tether.protocol.derp.latency import RegionLatency, joint_latency_s
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.tunnel import (
    CarrierDenied,
    CarrierGrant,
    CarrierOffer,
    CarrierRequest,
    TunnelRequest,
)
from tether.protocol.token_bucket import TokenBuckets
from tether.server.connlog.log import ConnectionLog
from tether.server.connlog.queries.explain import explanation_of
from tether.server.control.agents import AgentLink, AgentLinks
from tether.server.control.coordination import CoordinationFront
from tether.server.control.handshake import Opening
from tether.server.db.store import StoreUnavailable
from tether.server.db.tables.connections import ConnectionRow
from tether.server.derp.map import Regions
from tether.server.metrics import Metrics

WAIT_FOR_AGENT_S = 10.0
"""How long a request waits for an agent that is away."""

BURST, PER_S = 30, 0.5
"""Requests for carriers of one tunnel."""

MAX_TUNNELS = 20_000
"""Tunnels whose requests are counted; the ones that asked longest ago are forgotten first."""

MAX_AVOIDED = 64

NO_RELAY = "no relay takes new carriers now: try again in a moment"

_log = get_logger("carriers")


@dataclass(frozen=True, slots=True)
class Requester:
    """The client that asks."""

    user: str
    opening: Opening


@dataclass(frozen=True, slots=True)
class RelayTarget:
    """Where one end dials a relay, and with what. "" where there is none."""

    url: str
    ticket: str = field(repr=False)


_NOWHERE = RelayTarget("", "")


@dataclass(frozen=True, slots=True)
class RelayTargets:
    """Both ends of a carrier, and where the client may dial the agent itself."""

    agent: RelayTarget
    client: RelayTarget
    region: str
    endpoints: list[str]


class Carriers:
    """Answers requests for carriers, and chooses where the two ends of one meet."""

    def __init__(
        self,
        *,
        log: ConnectionLog,
        agents: AgentLinks,
        regions: Regions,
        coordination: CoordinationFront,
        tickets: Tickets,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._log = log
        self._agents = agents
        self._regions = regions
        self._coordination = coordination
        self._tickets = tickets
        self._clock = clock
        self._metrics = metrics
        self._requests = TokenBuckets(burst=BURST, per_s=PER_S, most=MAX_TUNNELS)
        self.refusing = False

    def targets(
        self,
        carrier: CarrierId,
        agent: AgentLink,
        client: Opening,
        wish: RegionLatency,
        avoid: Collection[str] = (),
    ) -> RelayTargets | None:
        """Where agent and client meet for this carrier; None: nowhere.

        Args:
            carrier: the carrier.
            agent: the link of the agent that serves its tunnel.
            client: how the client came to its control link.
            wish: the client's home region, and the latency of each region from there.
            avoid: relay URLs that failed just now.
        """
        endpoints = self._coordination.endpoints(agent.workspace_id, client.client_ip)
        agents = self._coordination.region_latency(agent.workspace_id)
        relay = self._regions.choose(
            wish.home,
            agents.home,
            avoid=avoid,
            host=client.host,
            latency_s=joint_latency_s(wish.latency_s, agents.latency_s),
            own_origin=client.of_page,
        )
        if relay is None:
            return RelayTargets(_NOWHERE, _NOWHERE, "", endpoints) if endpoints else None

        def target(party: Party, opening: Opening) -> RelayTarget:
            ticket = self._tickets.mint(carrier, party, relay.region)
            return RelayTarget(self._regions.url_for(relay, opening.host), ticket)

        return RelayTargets(
            agent=target(Party.AGENT, agent.opening),
            client=target(Party.CLIENT, client),
            region=relay.region,
            endpoints=endpoints,
        )

    async def answer(
        self, requester: Requester, request: CarrierRequest
    ) -> CarrierGrant | CarrierDenied:
        """The answer to a request; may take `WAIT_FOR_AGENT_S`."""
        try:
            answer = await self._answer(requester, request)
        except StoreUnavailable as wrong:
            answer = _denied(request, "relay_unavailable", str(wrong))
        code = answer.code if isinstance(answer, CarrierDenied) else "granted"
        self._metrics.carrier_answered(code)
        _log.info(
            "carrier granted" if code == "granted" else "carrier denied",
            connection_id=request.connection_id[:64],
            carrier=request.carrier,
            user=requester.user,
            client_ip=requester.opening.client_ip,
            code=code,
            region=answer.region if isinstance(answer, CarrierGrant) else "",
        )
        return answer

    async def _answer(
        self, requester: Requester, request: CarrierRequest
    ) -> CarrierGrant | CarrierDenied:
        if self.refusing:
            return _denied(
                request, "server_stopping", "the server is stopping: ask it again in a moment"
            )
        if not self._may_ask(request.connection_id):
            return _denied(
                request,
                "too_many_requests",
                "this tunnel asks for too many carriers: wait a little",
            )
        until = self._clock.now().mono + WAIT_FOR_AGENT_S
        while True:
            found = await self._log.find_tunnel(request.connection_id, requester.user)
            if found is None or not 1 < request.carrier < MAX_CARRIER:
                return _denied(request, "tunnel_unknown", "there is no such tunnel of yours")
            if found.is_closed:
                return _over(request, found)
            agent = self._agents.current(found.workspace_id)
            if agent is not None and agent.serves(found):
                return self._grant(requester, request, agent)
            left_s = until - self._clock.now().mono
            if left_s <= 0:
                return _denied(
                    request,
                    "agent_not_connected",
                    f"the agent of workspace {found.workspace} is not connected now",
                )
            if agent is None:
                await self._agents.wait_for(found.workspace_id or "", left_s)
            else:  # another run is there: it reports what the one before has left
                await self._log.wait_closed([request.connection_id], left_s)

    def _grant(
        self, requester: Requester, request: CarrierRequest, agent: AgentLink
    ) -> CarrierGrant | CarrierDenied:
        carrier = CarrierId(request.connection_id, request.carrier)
        avoid = frozenset(request.avoid[:MAX_AVOIDED])
        targets = self.targets(carrier, agent, requester.opening, latency_of(request), avoid)
        if targets is None:
            return _denied(request, "relay_unavailable", NO_RELAY)
        if targets.agent.url:
            agent.offer_carrier(
                CarrierOffer(
                    connection_id=request.connection_id,
                    carrier=request.carrier,
                    relay_url=targets.agent.url,
                    ticket=targets.agent.ticket,
                    region=targets.region,
                    small_segments=request.small_segments,
                )
            )
        return CarrierGrant(
            request_id=request.request_id,
            connection_id=request.connection_id,
            carrier=request.carrier,
            relay_url=targets.client.url,
            ticket=targets.client.ticket,
            region=targets.region,
            endpoints=targets.endpoints,
        )

    def _may_ask(self, connection_id: str) -> bool:
        now = self._clock.now().mono
        return self._requests.of(connection_id, now).try_take(now)


def latency_of(request: TunnelRequest | CarrierRequest) -> RegionLatency:
    """The home region of the client that asks, and the latency of each region from there."""
    return RegionLatency(request.region, request.region_latency)


def _denied(request: CarrierRequest, code: str, message: str, **more: str) -> CarrierDenied:
    return CarrierDenied(request_id=request.request_id, code=code, message=message, **more)


def _over(request: CarrierRequest, row: ConnectionRow) -> CarrierDenied:
    sentence = explanation_of(row).sentence
    cause, actor = row.cause_and_actor
    return _denied(request, "tunnel_over", sentence, cause=cause, actor=actor)
