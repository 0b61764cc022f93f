"""Further carriers of tunnels that live: a client asks, its tunnel's agent is told, both get a ticket.

Law: the record decides. A tunnel whose row is closed is over, and its client is told why; one whose row
is open is served by the one run of an agent that it was granted to, and by no other. An agent that is
away is waited for, shortly. What is asked is bounded for each tunnel and for each link.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
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
from tether.server.control.all_relays import Relays
from tether.server.control.coordination import CoordinationFront
from tether.server.control.handshake import Opening
from tether.server.db.store import StoreUnavailable
from tether.server.db.tables.connections import ConnectionRow
from tether.server.derp.map import Regions
from tether.server.metrics import Metrics

WAIT_FOR_AGENT_S = 10.0
"""How long a request waits for an agent that is away."""

REPORT_S = 1.0
"""How long the report of an agent that does not know a tunnel may take to arrive."""

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
    """See the module's law."""

    def __init__(
        self,
        *,
        log: ConnectionLog,
        agents: AgentLinks,
        relays: Relays,
        regions: Regions,
        coordination: CoordinationFront,
        tickets: Tickets,
        clock: Clock,
        metrics: Metrics,
        wait_s: float = WAIT_FOR_AGENT_S,
    ) -> None:
        self._log, self._agents, self._relays, self._regions = log, agents, relays, regions
        self._coordination, self._tickets = coordination, tickets
        self._clock, self._metrics = clock, metrics
        self._wait_s = wait_s
        self._requests = TokenBuckets(burst=BURST, per_s=PER_S, most=MAX_TUNNELS)
        self.refusing = False

    def legs(
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
            wish: the DERP region that it would like, and what it has measured.
            avoid: relay URLs that failed just now.
        """
        endpoints = self._coordination.endpoints(agent.workspace_id, client.client_ip)
        its = self._coordination.region_latency(agent.workspace_id)
        way = self._regions.choose(
            wish.home,
            its.home,
            avoid=avoid,
            opening=client,
            latency_s=joint_latency_s(wish.latency_s, its.latency_s),
        )
        if way is None:
            return RelayTargets(_NOWHERE, _NOWHERE, "", endpoints) if endpoints else None

        def leg(party: Party, opening: Opening) -> RelayTarget:
            ticket = self._tickets.mint(carrier, party, way.region)
            return RelayTarget(self._regions.url_for(way, opening), ticket)

        return RelayTargets(
            leg(Party.AGENT, agent.opening), leg(Party.CLIENT, client), way.region, endpoints
        )

    async def answer(
        self, asker: Requester, request: CarrierRequest
    ) -> CarrierGrant | CarrierDenied:
        """The answer to a request; may take `WAIT_FOR_AGENT_S`."""
        try:
            answer = await self._answer(asker, request)
        except StoreUnavailable as wrong:
            answer = _denied(request, "relay_unavailable", str(wrong))
        code = answer.code if isinstance(answer, CarrierDenied) else "granted"
        self._metrics.carrier_answered(code)
        _log.info(
            "carrier granted" if code == "granted" else "carrier denied",
            connection_id=request.connection_id[:64],
            carrier=request.carrier,
            user=asker.user,
            client_ip=asker.opening.client_ip,
            code=code,
            region=answer.region if isinstance(answer, CarrierGrant) else "",
        )
        return answer

    async def _answer(
        self, asker: Requester, request: CarrierRequest
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
        until = self._clock.now().mono + self._wait_s
        while True:
            found = await self._log.find_tunnel(request.connection_id, asker.user)
            if found is None or not 1 < request.carrier < MAX_CARRIER:
                return _denied(request, "tunnel_unknown", "there is no such tunnel of yours")
            if found.is_closed:
                return _over(request, found)
            agent = self._agents.current(found.workspace_id)
            if agent is not None and _serves(agent, found):
                return self._grant(asker, request, agent)
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
        self, asker: Requester, request: CarrierRequest, agent: AgentLink
    ) -> CarrierGrant | CarrierDenied:
        carrier = CarrierId(request.connection_id, request.carrier)
        avoid = frozenset(request.avoid[:MAX_AVOIDED])
        legs = self.legs(carrier, agent, asker.opening, wish_of(request), avoid)
        if legs is None:
            return _denied(request, "relay_unavailable", NO_RELAY)
        if legs.agent.url:
            agent.offer_carrier(
                CarrierOffer(
                    connection_id=request.connection_id,
                    carrier=request.carrier,
                    relay_url=legs.agent.url,
                    ticket=legs.agent.ticket,
                    region=legs.region,
                    small_segments=request.small_segments,
                )
            )
        return CarrierGrant(
            request_id=request.request_id,
            connection_id=request.connection_id,
            carrier=request.carrier,
            relay_url=legs.client.url,
            ticket=legs.client.ticket,
            region=legs.region,
            endpoints=legs.endpoints,
        )

    async def unknown_to_agent(self, agent: AgentLink, carrier: CarrierId, sentence: str) -> None:
        """An agent does not serve a tunnel that the record says it serves: so it is over."""
        connection_id = carrier.connection_id
        # its report may be on the way, and knows more
        if await self._log.wait_closed([connection_id], REPORT_S):
            row = await self._log.find_tunnel(connection_id)
            if row is None or not _serves(agent, row):
                return
            missing = ev.ReportMissing(
                vantage=Vantage.SERVER, at=self._clock.now().wall, party=Party.AGENT
            )
            await self._log.close_tunnel(connection_id, (missing,))
        row = await self._log.find_tunnel(connection_id)
        cause, actor = ("", "") if row is None else _cause_of(row)
        self._relays.decline(carrier, sentence, cause, actor)

    def _may_ask(self, connection_id: str) -> bool:
        now = self._clock.now().mono
        return self._requests.of(connection_id, now).try_take(now)


def wish_of(request: TunnelRequest | CarrierRequest) -> RegionLatency:
    """Where the client that asks would like to be met."""
    return RegionLatency(request.region, request.region_latency)


def _serves(agent: AgentLink, row: ConnectionRow) -> bool:
    """Whether this is the link of the very run that the tunnel was granted to."""
    return agent.journal_id == row.journal_id and agent.instance_id == row.agent_instance


def _denied(request: CarrierRequest, code: str, message: str, **more: str) -> CarrierDenied:
    return CarrierDenied(request_id=request.request_id, code=code, message=message, **more)


def _over(request: CarrierRequest, row: ConnectionRow) -> CarrierDenied:
    sentence = explanation_of(row).sentence
    cause, actor = _cause_of(row)
    return _denied(request, "tunnel_over", sentence, cause=cause, actor=actor)


def _cause_of(row: ConnectionRow) -> tuple[str, str]:
    """The cause and the actor of the tunnel's end."""
    return row.disconnect_cause or "", row.disconnect_actor or ""
