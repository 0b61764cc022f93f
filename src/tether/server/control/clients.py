"""The control links of clients: requests for tunnels, answered with a grant or one sentence.

Law: a grant is written before it is sent to anybody, names one user, one workspace, one agent and one
key, and comes with tickets for exactly two legs. A refusal says what to do about it. One link's requests
for tunnels are answered in turn, and its grants that nobody has used yet are bounded.
"""

from __future__ import annotations

import base64
import secrets
import uuid
from dataclasses import dataclass

from asyncssh import SSHKey

from tether.attribution.vocabulary import (
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Party,
    Purpose,
    Vantage,
)
from tether.log import get_logger
from tether.net.derp.tickets import TICKET_LIFE_S
from tether.net.e2e_channel import read_public_line
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.base import Message
from tether.protocol.messages.tunnel import (
    CarrierDenied,
    CarrierRequest,
    TunnelDenied,
    TunnelGrant,
    TunnelOffer,
    TunnelRequest,
)
from tether.server.auth.ca import BadPublicKey, UserCa, key_line, read_public_key
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.records import NewConnection
from tether.server.connlog.rows import Event, RowOpened
from tether.server.control.agents import AgentLink, AgentLinks
from tether.server.control.carriers import NO_RELAY, Carriers, Requester, latency_of
from tether.server.control.client_runs import ClientRuns
from tether.server.control.coordination import CoordinationFront, LinkCoordination
from tether.server.control.directory import Directory, WorkspaceEntry
from tether.server.control.handshake import CONNECT_TYPES, Opening
from tether.server.control.link import ControlLink, ControlLinkRunner, ControlLinks
from tether.server.derp.map import Regions
from tether.server.workspaces import NAME
from tether.text import duration

MAX_SESSION_ID = 64
"""Characters of a client's own name for what its connections are part of."""

MAX_FURTHER_KEYS = 4
"""Keys of one device beside its first that are announced."""

MAX_UNUSED_GRANTS = 64
"""Grants of one link that nobody has used yet."""

MAX_TUNNELS_A_USER = 1024
"""Tunnels of one user that are not over; the agent of a workspace takes 256 of anybody's."""

MAX_CARRIER_REQUESTS = 64
"""Requests for carriers of one link that have no answer yet."""

TUNNEL_KEY_BYTES = 32

_log = get_logger("control")


class Denied(Exception):
    """No tunnel. `code` is for programs, the text one sentence for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ClientLink(ControlLink):
    """One client program."""

    def __init__(
        self,
        opening: Opening,
        connection_id: str,
        driver: LinkDriver,
        *,
        reporter: Reporter,
        coordination: LinkCoordination,
    ) -> None:
        super().__init__(
            opening, connection_id, driver, reporter=reporter, coordination=coordination
        )
        self.welcomed = False
        self.unused_grants: dict[str, float] = {}  # connection id -> when it was granted
        self.carrier_requests = Tasks("carrier-requests")

    @property
    def user(self) -> str:
        return self.opening.identity.user


@dataclass(frozen=True, slots=True)
class _Checked:
    """What a request for a tunnel comes to, once it is known to be allowed."""

    workspace: WorkspaceEntry
    agent: AgentLink
    key: str
    certificate: str
    further_keys: list[str]
    """The client's other SSH keys, an OpenSSH line each."""


class ClientLinks(ControlLinks[ClientLink]):
    """The links of clients, and what they are granted."""

    def __init__(
        self,
        *,
        runner: ControlLinkRunner,
        directory: Directory,
        agents: AgentLinks,
        ca: UserCa,
        regions: Regions,
        carriers: Carriers,
        resume_s: float,
        coordination: CoordinationFront,
    ) -> None:
        """`resume_s`: how long a tunnel may wait for a peer that fell silent."""
        super().__init__(runner, _log)
        self._directory = directory
        self._agents = agents
        self._ca = ca
        self._regions = regions
        self._carriers = carriers
        self._resume_s = resume_s
        self._coordination = coordination
        self._runs = ClientRuns(runner.clock, runner.log.client_returned, agents.clients_lost)
        self._refusing = False

    def refuse_new(self) -> None:
        """Grant nothing any more."""
        self._refusing = True
        self._carriers.refusing = True

    def log_changed(self, event: Event) -> None:
        """The connection log has changed: a tunnel that is open uses its grant."""
        if isinstance(event, RowOpened):
            for link in self._all:
                link.unused_grants.pop(event.row.connection_id, None)

    def send_map(self) -> None:
        """Send every client the DERP map, where it changed for them."""
        for link in self._all:
            if link.welcomed:
                link.send_map(self._regions)

    async def _open(
        self, opening: Opening, connection_id: str, driver: LinkDriver
    ) -> ClientLink | None:
        user, now = opening.identity.user, self._runner.clock.now().wall
        await self._runner.log.open(
            NewConnection(
                connection_id=connection_id,
                connect_type=CONNECT_TYPES[Party.CLIENT],
                type=ConnectionType.CONTROL,
                user=user,
                client_ip=opening.client_ip,
            )
        )
        return ClientLink(
            opening,
            connection_id,
            driver,
            reporter=Reporter(vantage=Vantage.CLIENT, since=now, user=user),
            coordination=self._coordination.attach(opening, connection_id, driver),
        )

    async def _gone(self, link: ClientLink) -> None:
        end = self._runner.end_of(link)
        self._runs.gone(link.user, link.instance_id, link.connection_id, end.is_certain)
        await link.carrier_requests.cancel()

    async def _welcome(self, link: ClientLink) -> None:
        link.driver.send(self._runner.welcome(link, user=link.user))
        link.welcomed = True
        await self._runs.here(
            link.user,
            link.instance_id,
            link.connection_id,
            link.opening.client_ip,
            link.driver,
        )
        link.send_map(self._regions)
        _log.info(
            "control link connected",
            role="client",
            connection_id=link.connection_id,
            user=link.user,
            client_ip=link.opening.client_ip,
            instance_id=link.instance_id,
            version=link.opening.hello.version,
        )

    async def _handle(self, link: ClientLink, message: Message) -> bool:
        match message:
            case TunnelRequest():
                link.driver.send(await self._answer(link, message))
            case CarrierRequest():
                self._ask_for_carrier(link, message)
            case _:
                return False
        return True

    def _ask_for_carrier(self, link: ClientLink, request: CarrierRequest) -> None:
        """Answer when there is an answer; other requests do not wait for it."""
        waiting = len(link.carrier_requests)
        if waiting >= MAX_CARRIER_REQUESTS:
            link.driver.send(
                CarrierDenied(
                    request_id=request.request_id,
                    code="too_many_requests",
                    message=f"{waiting} requests for carriers wait: ask again in a moment",
                )
            )
            return
        link.carrier_requests.spawn(self._answer_later(link, request), "carrier")

    async def _answer_later(self, link: ClientLink, request: CarrierRequest) -> None:
        answer = await self._carriers.answer(Requester(link.user, link.opening), request)
        link.driver.send(answer)

    async def _answer(self, link: ClientLink, request: TunnelRequest) -> TunnelGrant | TunnelDenied:
        try:
            return await self._grant(link, request)
        except Denied as denied:
            if denied.code.startswith("too_many_"):
                self._runner.metrics.refused(denied.code)
            _log.info(
                "tunnel denied",
                code=denied.code,
                user=link.user,
                workspace=request.workspace[:40],
                client_ip=link.opening.client_ip,
            )
            return TunnelDenied(
                request_id=request.request_id, code=denied.code, message=str(denied)
            )

    async def _grant(self, link: ClientLink, request: TunnelRequest) -> TunnelGrant:
        """Grant a tunnel, and offer it to its agent.

        Raises:
            Denied: it cannot be granted.
        """
        await self._make_room(link)
        checked = await self._check(link, request)
        workspace, agent = checked.workspace, checked.agent
        connection_id = uuid.uuid4().hex
        targets = self._carriers.targets(
            CarrierId(connection_id), agent, link.opening, latency_of(request)
        )
        if targets is None:
            raise Denied("relay_unavailable", NO_RELAY)
        link.unused_grants[connection_id] = self._runner.clock.now().mono
        self._runs.granted(link.user, link.instance_id, connection_id, workspace.workspace_id)
        new = _new_connection(link, request, checked, connection_id, targets.region)
        await self._runner.log.grant(new)
        if self._agents.current(workspace.workspace_id) is not agent:
            raise Denied("agent_not_connected", await self._why_absent(workspace))
        tunnel_key = _new_tunnel_key()
        agent.offer(
            TunnelOffer(
                connection_id=connection_id,
                relay_url=targets.agent.url,
                ticket=targets.agent.ticket,
                user=link.user,
                public_key=checked.key,
                client_ip=link.opening.client_ip,
                client_port=link.opening.client_port,
                purpose=request.purpose,
                region=targets.region,
                tunnel_key=tunnel_key,
                resume_s=self._resume_s,
                client_session_id=new.client_session_id or "",
                further_public_keys=checked.further_keys,
            )
        )
        return TunnelGrant(
            request_id=request.request_id,
            connection_id=connection_id,
            relay_url=targets.client.url,
            ticket=targets.client.ticket,
            workspace_id=workspace.workspace_id,
            workspace=workspace.name,
            host_key=workspace.host_key,
            certificate=checked.certificate,
            region=targets.region,
            tunnel_key=tunnel_key,
            endpoints=targets.endpoints,
            resume_s=self._resume_s,
        )

    async def _make_room(self, link: ClientLink) -> None:
        if self._refusing:
            raise Denied("server_stopping", "the server is stopping: try again in a moment")
        grants, now = link.unused_grants, self._runner.clock.now().mono
        for connection_id in [c for c, at in grants.items() if now - at > TICKET_LIFE_S]:
            del grants[connection_id]
        if len(grants) >= MAX_UNUSED_GRANTS:
            raise Denied(
                "too_many_requests",
                f"{len(grants)} tunnels of this client are still being set up: wait a moment",
            )
        if await self._runner.log.count_open_tunnels(link.user) >= MAX_TUNNELS_A_USER:
            raise Denied(
                "too_many_tunnels",
                f"{link.user} has {MAX_TUNNELS_A_USER} connections open: close some of them, or end"
                " some with `tether connections end ID`",
            )

    async def _check(self, link: ClientLink, request: TunnelRequest) -> _Checked:
        if request.purpose not in Purpose._value2member_map_:
            raise Denied(
                "unknown_purpose",
                f"this server knows no tunnel for {request.purpose[:40]!r}: update the server",
            )
        key = _key_in(request)
        name, identity = request.workspace, link.opening.identity
        found = await self._directory.by_name(name, identity) if NAME.fullmatch(name) else None
        if found is None:
            raise Denied("workspace_not_found", f"there is no workspace {name[:40]!r} of yours")
        if not found.running:
            raise Denied(
                "workspace_stopped",
                f"workspace {name} is stopped: start it with `tether workspace start {name}`",
            )
        agent = await self._agents.current_or_returning(found.workspace_id)
        if agent is None:
            raise Denied("agent_not_connected", await self._why_absent(found))
        if not found.host_key:
            raise Denied("no_host_key", f"the agent of workspace {name} has announced no host key")
        if isinstance(key, str):
            return _Checked(found, agent, key, certificate="", further_keys=[])
        certificate = self._ca.certify(
            key,
            user=link.user,
            workspace_id=found.workspace_id,
            now=self._runner.clock.now().wall,
        )
        return _Checked(found, agent, key_line(key), certificate, _further_keys_in(request))

    async def _why_absent(self, workspace: WorkspaceEntry) -> str:
        name, seen_at = workspace.name, workspace.agent_last_seen_at
        if seen_at is None:
            return (
                f"the agent of workspace {name} has never connected: start it there with"
                " `tether agent` and the workspace's token"
            )
        seen = f"{duration(self._runner.clock.now().wall - seen_at)} ago"
        ended = await self._runner.log.last_agent_end(workspace.workspace_id)
        why = f"last seen {seen}: {ended}" if ended else f"last seen {seen}"
        return f"the agent of workspace {name} is not connected ({why})"


def _new_connection(
    link: ClientLink, request: TunnelRequest, checked: _Checked, connection_id: str, region: str
) -> NewConnection:
    """The row of a tunnel that is granted, through a relay of `region`."""
    workspace, agent = checked.workspace, checked.agent
    return NewConnection(
        connection_id=connection_id,
        connect_type=ConnectType.AGENT_TO_CLIENT,
        type=ConnectionType.TUNNEL,
        workspace_id=workspace.workspace_id,
        workspace=workspace.name,
        agent=agent.hostname,
        user=link.user,
        client_ip=link.opening.client_ip,
        journal_id=agent.journal_id,
        agent_instance=agent.instance_id,
        node_id=agent.opening.hello.boot_id or None,
        relay_region=region or None,
        connection_method=ConnectionMethod.DERP,
        client_session_id=request.client_session_id[:MAX_SESSION_ID] or None,
        token_id=link.token_id or None,
    )


def _key_in(request: TunnelRequest) -> SSHKey | str:
    """The key that the client will prove: an SSH key, or the line of an end-to-end channel's key."""
    try:
        if request.purpose == Purpose.TERMINAL:
            read_public_line(request.public_key)
            return request.public_key
        return read_public_key(request.public_key)
    except (BadPublicKey, ValueError) as wrong:
        raise Denied("bad_public_key", f"{wrong}: make a new device key") from wrong


def _further_keys_in(request: TunnelRequest) -> list[str]:
    """The further SSH keys that the client will prove to have, an OpenSSH line each."""
    try:
        lines = request.further_public_keys[:MAX_FURTHER_KEYS]
        return [key_line(read_public_key(line)) for line in lines]
    except BadPublicKey as wrong:
        raise Denied("bad_public_key", f"{wrong}: make a new device key") from wrong


def _new_tunnel_key() -> str:
    """The secret of one tunnel. It is sent to both ends and kept nowhere here: a further carrier is
    proven with the same key, end to end."""
    return base64.b64encode(secrets.token_bytes(TUNNEL_KEY_BYTES)).decode()
