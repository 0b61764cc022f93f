"""The control links of clients: requests for tunnels, answered with a grant or one sentence.

Law: a grant is written before anybody hears of it, names one user, one workspace, one agent and one
key, and comes with tickets for exactly two legs. A refusal says what to do about it. One link's requests
for tunnels are answered in turn, and the grants that wait to be used are bounded.
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
from tether.protocol.messages.base import Message, Unrecognized
from tether.protocol.messages.control import Goodbye, Unsupported
from tether.protocol.messages.reports import Report, ReportAck
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
from tether.server.control.agents import AgentLinks
from tether.server.control.carriers import NO_RELAY, Carriers, Requester, wish_of
from tether.server.control.client_runs import ClientRuns
from tether.server.control.coordination import REQUESTS, CoordinationFront
from tether.server.control.directory import Directory, WorkspaceEntry
from tether.server.control.handshake import Opening
from tether.server.control.link import (
    CONNECT_TYPES,
    ControlLink,
    ControlLinkRunner,
    UnknownMessages,
    misplaced,
)
from tether.server.derp.map import Regions
from tether.server.workspaces import NAME

MAX_SESSION_ID = 64
"""Characters of a client's own name for what its connections are part of."""

MAX_WAITING_GRANTS = 64
"""Grants of one link that nobody has used yet."""

MAX_ASKING = 64
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

    def __init__(self, opening: Opening, connection_id: str, driver: LinkDriver) -> None:
        super().__init__(opening, connection_id, driver)
        self.welcomed = False
        self.asking = Tasks("carrier-requests")

    @property
    def user(self) -> str:
        return self.opening.identity.user


@dataclass(frozen=True, slots=True)
class _Wanted:
    workspace: WorkspaceEntry
    key: str
    certificate: str


class ClientLinks:
    """See the module's law."""

    def __init__(
        self,
        *,
        lines: ControlLinkRunner,
        directory: Directory,
        agents: AgentLinks,
        ca: UserCa,
        regions: Regions,
        carriers: Carriers,
        resume_s: float,
        coordination: CoordinationFront,
    ) -> None:
        """`resume_s`: how long a tunnel may wait for a peer that fell silent."""
        self._lines, self._directory, self._agents = lines, directory, agents
        self._ca, self._regions = ca, regions
        self._carriers, self._resume_s, self._coordination = carriers, resume_s, coordination
        self._runs = ClientRuns(lines.clock, lines.log.client_returned, agents.clients_lost)
        self._all: set[ClientLink] = set()
        self._waiting: dict[ClientLink, dict[str, float]] = {}
        self.refusing = False

    def all(self) -> list[ClientLink]:
        """Every link, those that are ending included."""
        return list(self._all)

    def refuse_new(self) -> None:
        """Grant nothing any more."""
        self.refusing = self._carriers.refusing = True

    def used(self, connection_id: str) -> None:
        """A grant was used."""
        for grants in self._waiting.values():
            grants.pop(connection_id, None)

    def send_map(self) -> None:
        """Tell every client of the DERP map, where it changed for them."""
        for link in self._all:
            if link.welcomed:
                link.send_map(self._regions)

    async def serve(self, opening: Opening) -> None:
        """Serve a client from its hello to the end of its link."""
        link = await self._open(opening)
        self._all.add(link)
        self._waiting[link] = {}
        try:
            await self._lines.run(link, lambda: self._welcome(link))
        finally:
            self._runs.gone(link.user, link.instance_id, link.connection_id)
            self._all.discard(link)
            del self._waiting[link]
            await link.asking.cancel()

    async def _open(self, opening: Opening) -> ClientLink:
        connection_id, user = uuid.uuid4().hex, opening.identity.user
        reporter = Reporter(vantage=Vantage.CLIENT, since=self._lines.clock.now().wall, user=user)
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
                connect_type=CONNECT_TYPES[Party.CLIENT],
                type=ConnectionType.CONTROL,
                user=user,
                client_ip=opening.client_ip,
            )
        )
        link = ClientLink(opening, connection_id, self._lines.driver(opening, deliver))
        coordination = self._coordination.attach(link)
        link.on_over = coordination.over
        return link

    async def _welcome(self, link: ClientLink) -> None:
        link.driver.send(self._lines.welcome(link, user=link.user))
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

    async def _deliver(
        self, link: ClientLink, reporter: Reporter, words: UnknownMessages, message: Message
    ) -> None:
        match message:
            case TunnelRequest():
                link.driver.send(await self._answer(link, message))
            case CarrierRequest():
                self._ask(link, message)
            case Report():
                acked = await self._lines.log.apply(reporter, message)
                link.driver.send(ReportAck(journal_id=message.journal_id, seq=acked))
            case Unrecognized() | Unsupported():
                words.heard(message)
            case Goodbye():
                pass  # the link has offered it, and its end writes the row
            case _:
                raise misplaced(message, Party.CLIENT)

    def _ask(self, link: ClientLink, request: CarrierRequest) -> None:
        """Answer when there is an answer; other requests do not wait for it."""
        if len(link.asking) >= MAX_ASKING:
            link.driver.send(
                CarrierDenied(
                    request_id=request.request_id,
                    code="too_many_requests",
                    message=f"{len(link.asking)} requests for carriers wait: ask again in a moment",
                )
            )
            return
        link.asking.spawn(self._answer_later(link, request), "carrier")

    async def _answer_later(self, link: ClientLink, request: CarrierRequest) -> None:
        answer = await self._carriers.answer(Requester(link.user, link.opening), request)
        link.driver.send(answer)

    async def _answer(self, link: ClientLink, request: TunnelRequest) -> TunnelGrant | TunnelDenied:
        try:
            return await self._grant(link, request)
        except Denied as denied:
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
        self._make_room(link)
        wanted = await self._check(link, request)
        connection_id = uuid.uuid4().hex
        agent = self._agents.current(wanted.workspace.workspace_id)
        assert agent is not None, "checked, and nothing was awaited since"
        legs = self._carriers.legs(CarrierId(connection_id), agent, link.opening, wish_of(request))
        if legs is None:
            raise Denied("relay_unavailable", NO_RELAY)
        new = NewConnection(
            connection_id=connection_id,
            connect_type=ConnectType.AGENT_TO_CLIENT,
            type=ConnectionType.TUNNEL,
            workspace_id=wanted.workspace.workspace_id,
            workspace=wanted.workspace.name,
            agent=agent.hostname,
            user=link.user,
            client_ip=link.opening.client_ip,
            journal_id=agent.journal_id,
            agent_instance=agent.instance_id,
            node_id=agent.opening.hello.boot_id or None,
            relay_region=legs.region or None,
            connection_method=ConnectionMethod.DERP,
            client_session_id=_session_id(request) or None,
        )
        self._note_grant(link, connection_id, wanted.workspace.workspace_id)
        await self._lines.log.grant(new)
        if self._agents.current(wanted.workspace.workspace_id) is not agent:
            raise Denied("agent_not_connected", await self._why_absent(wanted.workspace))
        tunnel_key = _tunnel_key()
        agent.offer(
            TunnelOffer(
                connection_id=connection_id,
                relay_url=legs.agent.url,
                ticket=legs.agent.ticket,
                user=link.user,
                public_key=wanted.key,
                client_ip=link.opening.client_ip,
                client_port=link.opening.client_port,
                purpose=request.purpose,
                region=legs.region,
                tunnel_key=tunnel_key,
                resume_s=self._resume_s,
                client_session_id=_session_id(request),
            )
        )
        return TunnelGrant(
            request_id=request.request_id,
            connection_id=connection_id,
            relay_url=legs.client.url,
            ticket=legs.client.ticket,
            workspace_id=wanted.workspace.workspace_id,
            workspace=wanted.workspace.name,
            host_key=wanted.workspace.host_key,
            certificate=wanted.certificate,
            region=legs.region,
            tunnel_key=tunnel_key,
            endpoints=legs.endpoints,
            resume_s=self._resume_s,
        )

    def _note_grant(self, link: ClientLink, connection_id: str, workspace_id: str) -> None:
        self._waiting[link][connection_id] = self._lines.clock.now().mono
        self._runs.granted(link.user, link.instance_id, connection_id, workspace_id)

    def _make_room(self, link: ClientLink) -> None:
        if self.refusing:
            raise Denied("server_stopping", "the server is stopping: try again in a moment")
        grants, now = self._waiting[link], self._lines.clock.now().mono
        for connection_id in [c for c, at in grants.items() if now - at > TICKET_LIFE_S]:
            del grants[connection_id]
        if len(grants) >= MAX_WAITING_GRANTS:
            raise Denied(
                "too_many_requests",
                f"{len(grants)} tunnels of this client are still being set up: wait a moment",
            )

    async def _check(self, link: ClientLink, request: TunnelRequest) -> _Wanted:
        if request.purpose not in Purpose._value2member_map_:
            raise Denied(
                "unknown_purpose",
                f"this server knows no tunnel for {request.purpose[:40]!r}: update the server",
            )
        key = _announced(request)
        name, identity = request.workspace, link.opening.identity
        found = await self._directory.by_name(name, identity) if NAME.fullmatch(name) else None
        if found is None:
            raise Denied("workspace_not_found", f"there is no workspace {name[:40]!r} of yours")
        if not found.running:
            raise Denied(
                "workspace_stopped",
                f"workspace {name} is stopped: start it with `tether workspace start {name}`",
            )
        if self._agents.current(found.workspace_id) is None:
            raise Denied("agent_not_connected", await self._why_absent(found))
        if not found.host_key:
            raise Denied("no_host_key", f"the agent of workspace {name} has announced no host key")
        if isinstance(key, str):
            return _Wanted(found, key, certificate="")
        certificate = self._ca.certify(
            key,
            user=link.user,
            workspace_id=found.workspace_id,
            now=self._lines.clock.now().wall,
        )
        return _Wanted(found, key_line(key), certificate)

    async def _why_absent(self, workspace: WorkspaceEntry) -> str:
        name, seen_at = workspace.name, workspace.agent_last_seen_at
        if seen_at is None:
            return (
                f"the agent of workspace {name} has never connected: start it there with"
                " `tether agent` and the workspace's token"
            )
        seen = _ago(self._lines.clock.now().wall - seen_at)
        ended = await self._lines.log.last_agent_end(workspace.workspace_id)
        why = f"last seen {seen}: {ended}" if ended else f"last seen {seen}"
        return f"the agent of workspace {name} is not connected ({why})"


def _announced(request: TunnelRequest) -> SSHKey | str:
    """The key that the client will prove: of SSH, or of a sealed channel as its own line."""
    try:
        if request.purpose == Purpose.TERMINAL:
            read_public_line(request.public_key)
            return request.public_key
        return read_public_key(request.public_key)
    except (BadPublicKey, ValueError) as wrong:
        raise Denied("bad_public_key", f"{wrong}: make a new device key") from wrong


def _session_id(request: TunnelRequest) -> str:
    return request.client_session_id[:MAX_SESSION_ID]


def _tunnel_key() -> str:
    """The secret of one tunnel. It is told to both ends and kept nowhere here: a further carrier is
    proven with the same key, end to end."""
    return base64.b64encode(secrets.token_bytes(TUNNEL_KEY_BYTES)).decode()


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"
