"""What the REST API needs of the rest of the server, as protocols.

Law: no behaviour. `api.py` and `workspaces.py` know these; `hub.py` and `connlog.py` fulfil them; a
test may bring its own in-memory other side.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tether.attribution.vocabulary import ConnectionType, Initiator, Reason
from tether.protocol.derp.latency import RegionLatency
from tether.server.db.tables.connections import ConnectionStatus
from tether.server.errors import Ambiguous, NotFound
from tether.server.identity import Identity

__all__ = ["Ambiguous", "ConnectionFilter", "ConnectionLogPort", "HubPort", "NotFound"]

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_FILES = 10_000
"""File operations that one answer lists at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFilter:
    """Which connections to list. None: any.

    `since` and `until` (unix seconds) frame a span of time; a connection matches if it lived within
    it: it began (`created_at`) before `until`, and is still open or ended at or after `since`.
    """

    workspace: str | None = None
    user: str | None = None
    type: ConnectionType | None = None
    reason: Reason | None = None
    cause: str | None = None
    initiator: Initiator | None = None
    expected: bool | None = None
    status: ConnectionStatus | None = None
    since: float | None = None
    until: float | None = None
    incident: str | None = None
    limit: int = DEFAULT_LIMIT


class HubPort(Protocol):
    """The live control links."""

    async def stop_workspace(
        self, workspace_id: str, cause: str, actor: str, detail: str = ""
    ) -> None:
        """End every session of the workspace with `cause`; return when its agent has left.

        Waits at most 5 s. Call after the state `stopped` is committed.
        """

    async def start_workspace(self, workspace_id: str) -> None:
        """Let the agent serve again. Call after the state `running` is committed."""

    async def delete_workspace(self, workspace_id: str, cause: str, actor: str) -> None:
        """As `stop_workspace`, and the agent shall not come back."""

    async def revoke_user(self, user: str, actor: str) -> None:
        """End the user's tunnels and control links. Call after the revocation is committed."""

    async def revoke_token(self, token_id: str) -> None:
        """End the control links that were opened with this token, a user's or an agent's."""

    def agent_connected(self, workspace_id: str) -> bool:
        """Whether the workspace's agent has a control link now."""

    def agent_nearness(self, workspace_id: str) -> RegionLatency:
        """The home region of the workspace's agent, and how far it has found each region to be."""


class ConnectionLogPort(Protocol):
    """The record of connections, as plain data for the API.

    Times are ISO-8601 text (`times.iso`). A row has the keys of `api_models.Connection`; an explained
    one those of `api_models.Explained`. A viewer who is no administrator sees the connections of
    their own workspaces, and their own connections.
    """

    async def list(self, filters: ConnectionFilter, viewer: Identity) -> list[dict[str, Any]]:
        """Rows that match, newest first: begun last."""

    async def report(
        self, filters: ConnectionFilter, viewer: Identity, by: Collection[str]
    ) -> dict[str, Any]:
        """The closed rows that match, counted: the keys of `api_report.Report`.

        `since` and `until` frame when they ended.
        """

    async def rejudge(
        self, filters: ConnectionFilter, viewer: Identity, *, write: bool
    ) -> dict[str, Any]:
        """Judge the closed rows that match by today's rules: the keys of `api_report.Rejudged`.

        With `write`, what changes is appended as revisions.
        """

    async def explain(self, connection_id_or_prefix: str, viewer: Identity) -> dict[str, Any]:
        """One connection with its sentence, rule, evidence, symptoms, sessions and revisions.

        Raises:
            NotFound: no such connection, or not the viewer's to see.
            Ambiguous: the prefix names several that the viewer may see.
        """

    async def forwards(
        self, connection_id_or_prefix: str, viewer: Identity, limit: int
    ) -> Sequence[dict[str, Any]]:
        """Its forwarded connections, at most `limit`, the roll-ups last; raises as `explain`."""

    async def files(
        self, connection_id_or_prefix: str, viewer: Identity, limit: int
    ) -> Sequence[dict[str, Any]]:
        """Its sessions' file operations, at most `limit` in all; raises as `explain`."""
