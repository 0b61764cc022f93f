"""The live control links, as the rest of the server sees them: who is there, and who is to go.

Law: a cause is settled at every end that it concerns before anything is ended: in the link's own cell,
at the agent, in the record. What an agent has to end and does not report in time is ended at the relay
and closed in the record, so that a decision never depends on a party that it is about.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable
from typing import Any

from tether.attribution.causes.codes import AUTH_CONNECTION_ENDED, AUTH_USER_REVOKED
from tether.attribution.vocabulary import ConnectType, Party
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.tasks import Tasks
from tether.net.transport.streams import StreamLost
from tether.protocol.derp.latency import RegionLatency
from tether.protocol.messages.codec import encode
from tether.protocol.messages.control import EndConnections, Goodbye, WorkspaceStart, WorkspaceStop
from tether.protocol.messages.derp import RelayGoodbye
from tether.server.connlog.log import ConnectionLog
from tether.server.control.agents import AgentLink, AgentLinks
from tether.server.control.clients import ClientLinks
from tether.server.control.coordination import CoordinationFront
from tether.server.control.handshake import Handshakes, Opening
from tether.server.control.link import (
    NEVER,
    CloseReason,
    ControlLink,
    ControlLinkRunner,
    ControlLinks,
    all_closed,
    token_revoked,
    without_database,
)
from tether.server.control.relays import Relays
from tether.server.db.store import StoreUnavailable
from tether.server.db.tables.connections import ConnectionRow

REPORTS_S = 5.0
"""How long a stopped agent may take to report what it ended."""

LEAVE_S = 2.0
"""How long links may take to end after the goodbye: their linger, and a little."""


_log = get_logger("hub")


class Hub:
    """Every control link. `serve` is the ASGI side of `/api/v1/control`."""

    def __init__(
        self,
        *,
        handshakes: Handshakes,
        runner: ControlLinkRunner,
        agents: AgentLinks,
        clients: ClientLinks,
        log: ConnectionLog,
        relays: Relays,
        clock: Clock,
        coordination: CoordinationFront,
    ) -> None:
        self._handshakes = handshakes
        self._runner = runner
        self._agents = agents
        self._clients = clients
        self._connections = log
        self._relays = relays
        self._clock = clock
        self._coordination = coordination

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one WebSocket to `/api/v1/control`."""
        opening = await self._handshakes.open(scope, receive, send)
        if opening is None:
            return
        links: ControlLinks[Any] = self._clients
        if opening.party is Party.AGENT:
            links = self._agents
        elif opening.party is Party.RELAY:
            links = self._relays
        try:
            with self._handshakes.holding_link(opening):
                await links.serve(opening)
        except StoreUnavailable as wrong:
            _log.error("control link not served", error=str(wrong))
            await _turn_away(opening, without_database(wrong))

    # -- what people ask for -----------------------------------------------------------------

    async def stop_workspace(
        self, workspace_id: str, cause: str, actor: str, detail: str = ""
    ) -> None:
        """End every session of the workspace with `cause`; return when its agent has left.

        Waits at most 5 s. Call after the state `stopped` is committed.
        """
        await self._end_workspace(workspace_id, CloseReason(cause, actor, detail))

    async def delete_workspace(self, workspace_id: str, cause: str, actor: str) -> None:
        """As `stop_workspace`, and the agent shall not come back."""
        await self._end_workspace(workspace_id, CloseReason(cause, actor, retry_after_s=NEVER))

    async def start_workspace(self, workspace_id: str) -> None:
        """Let the agent serve again. Call after the state `running` is committed."""
        link = self._agents.current(workspace_id)
        if link is not None:
            link.driver.send(WorkspaceStart())

    async def revoke_user(self, user: str, actor: str) -> None:
        """End the user's tunnels and control links. Call after the revocation is committed."""
        reason = CloseReason(AUTH_USER_REVOKED, actor, retry_after_s=NEVER)
        links = [link for link in self._clients.all() if link.user == user]
        for link in links:
            link.leave(reason, self._now())
        await self.end_tunnels(await self._connections.open_tunnels(user=user), reason)
        await all_closed(links, LEAVE_S)

    async def revoke_tokens(self, token_ids: Collection[str], actor: str) -> None:
        """End the control links and the tunnels that were opened with these tokens, or by these
        signed-in browsers. Call after they were withdrawn.

        An agent reads its token anew for each dial: it may have the new one already. Its sessions are
        their users', who were not refused anything.
        """
        links = [link for link in self._links() if link.token_id in token_ids]
        for link in links:
            link.leave(token_revoked(link.opening.party, actor), self._now())
        tunnels = await self._connections.open_tunnels(token_ids=token_ids)
        await self.end_tunnels(tunnels, token_revoked(Party.CLIENT, actor))
        await all_closed(links, LEAVE_S)

    async def end_connection(self, row: ConnectionRow, actor: str, detail: str) -> None:
        """End one tunnel or control link because `actor` asked for it."""
        reason = CloseReason(AUTH_CONNECTION_ENDED, actor, detail)
        links = [link for link in self._links() if link.connection_id == row.connection_id]
        for link in links:
            link.leave(reason, self._now())
        if row.connect_type is ConnectType.AGENT_TO_CLIENT:
            await self.end_tunnels([row], reason)
        await all_closed(links, LEAVE_S)

    def replace_token(self, token_id: str, actor: str, grace_s: float) -> None:
        """A new token has taken the place of this agent's, which is good for `grace_s` seconds more:
        a link that it opened ends then."""
        for link in self._links():
            if link.token_id == token_id:
                self._runner.ends_later(link, token_revoked(Party.AGENT, actor), grace_s)

    async def end_tunnels(self, tunnels: Iterable[ConnectionRow], reason: CloseReason) -> None:
        """Have agents end these tunnels, and end at the relay what is not ended so.

        A pending one may be joined already, on a way that the server cannot see: its agent is told,
        too, but nothing says when it will report.
        """
        tunnels = list(tunnels)
        ids = [one.connection_id for one in tunnels if not one.is_closed]
        await self._connections.announce(ids, reason.said_at(self._now()))
        asked = self._ask_agents_to_end(tunnels, reason)
        reporting = [one for one in asked if one.is_ongoing]
        await self._end_at_relay((one for one in tunnels if one not in reporting), reason)
        ids = [one.connection_id for one in reporting]
        late = await self._connections.wait_closed(ids, REPORTS_S)
        await self._end_at_relay((one for one in reporting if one.connection_id in late), reason)

    def agent_heard_at(self, workspace_id: str) -> float | None:
        """When (wall clock) the workspace's agent was last heard; None while it has no control link."""
        return self._agents.heard_at(workspace_id)

    def agent_latency(self, workspace_id: str) -> RegionLatency:
        """The home region of the workspace's agent, and the latency of each region from there."""
        return self._coordination.region_latency(workspace_id)

    # -- the database -----------------------------------------------------------------------

    def database_lost(self, wrong: StoreUnavailable) -> None:
        """Let everybody go until the database is back: tunnels live on meanwhile."""
        reason = without_database(wrong)
        links = self.leave_all(reason)
        self._coordination.close(reason.cause, detail=reason.detail, error="coordinator unhealthy")
        _log.error("control links let go", cause=reason.cause, error=str(wrong), links=len(links))

    def database_back(self) -> None:
        """The database works again."""
        self._coordination.reopen()
        _log.info("the database can be written again")

    def map_changed(self) -> None:
        """The DERP map has changed: send it to all, so that agents' home regions move first, and then
        drain the relays of regions that are gone."""
        self._agents.send_map()
        self._clients.send_map()
        self._relays.map_changed()

    # -- the end of the server --------------------------------------------------------------

    def refuse_new(self) -> None:
        """Take no new links, and grant no tunnels."""
        self._handshakes.close()
        self._clients.refuse_new()

    def declare_all(self, reason: CloseReason) -> None:
        """Settle the cause of every link now: what peers do about ended tunnels is a symptom."""
        for link in self._links():
            link.declare(reason, self._now())

    def leave_all(self, reason: CloseReason) -> list[ControlLink]:
        """Say goodbye on every link; the links."""
        links = self._links()
        for link in links:
            link.leave(reason, self._now())
        return links

    # -- how ends are brought about ---------------------------------------------------------

    def _links(self) -> list[ControlLink]:
        return [*self._agents.all(), *self._clients.all(), *self._relays.all()]

    async def _end_workspace(self, workspace_id: str, reason: CloseReason) -> None:
        link = self._agents.current(workspace_id)
        if link is not None:
            link.declare(reason, self._now())
            link.driver.send(
                WorkspaceStop(cause=reason.cause, actor=reason.actor, detail=reason.detail)
            )
        tunnels = await self._connections.open_tunnels(workspace_id=workspace_id)
        reporting = [
            one
            for one in tunnels
            if link is not None and one.is_ongoing and one.journal_id == link.journal_id
        ]
        await self._end_at_relay((one for one in tunnels if one not in reporting), reason)
        if link is None:
            return
        await self._reported_or_gone(link, reporting)
        late = await self._connections.wait_closed([one.connection_id for one in reporting], 0)
        await self._end_at_relay((one for one in reporting if one.connection_id in late), reason)
        link.leave(reason, self._now())
        await all_closed([link], LEAVE_S)

    async def _reported_or_gone(self, link: ControlLink, tunnels: list[ConnectionRow]) -> None:
        """Wait until the agent has reported these tunnels' ends, or its link is over."""
        wanted = [one.connection_id for one in tunnels]
        tasks = Tasks("stop-workspace")
        try:
            await asyncio.wait(
                {
                    tasks.spawn(self._connections.wait_closed(wanted, REPORTS_S), "reports"),
                    tasks.spawn(link.closed.wait(), "link"),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            await tasks.cancel()

    def _ask_agents_to_end(
        self, tunnels: Iterable[ConnectionRow], reason: CloseReason
    ) -> list[ConnectionRow]:
        """Have agents end these tunnels; those whose agent is connected."""
        asked: dict[AgentLink, list[ConnectionRow]] = {}
        for one in tunnels:
            link = self._agents.current(one.workspace_id)
            if link is not None and link.journal_id == one.journal_id:
                asked.setdefault(link, []).append(one)
        for link, its in asked.items():
            link.driver.send(
                EndConnections(
                    connection_ids=[one.connection_id for one in its],
                    cause=reason.cause,
                    actor=reason.actor,
                    detail=reason.detail,
                )
            )
        return [one for its in asked.values() for one in its]

    async def _end_at_relay(self, tunnels: Iterable[ConnectionRow], reason: CloseReason) -> None:
        """End tunnels that no agent ends for us, and say in the record why."""
        goodbye = RelayGoodbye(cause=reason.cause, actor=reason.actor, detail=reason.detail)
        for one in tunnels:
            if one.is_ongoing:
                said = reason.said_at(self._now())
                await self._connections.close_tunnel(one.connection_id, (said,))
            self._relays.end(one.connection_id, goodbye)

    def _now(self) -> float:
        return self._clock.now().wall


async def _turn_away(opening: Opening, reason: CloseReason) -> None:
    """Say goodbye in place of a welcome: there is no link yet, and no row."""
    goodbye = Goodbye(cause=reason.cause, detail=reason.detail, retry_after_s=reason.retry_after_s)
    with contextlib.suppress(StreamLost):
        await opening.stream.send(encode(goodbye))
    await opening.stream.close(1013, reason.detail)
