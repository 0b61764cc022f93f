"""The connection log as the API shows it, in plain data: what tests look at.

Law: reads only, through the queries and the models of the API; nothing is shown that the API would not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from tether.net.clock import Clock
from tether.server.api.connections import connection_view, explained_view, forward_view
from tether.server.api.models import FileAuditView
from tether.server.api.report import ReportView
from tether.server.connlog.filter import DEFAULT_LIMIT, RowSearch, Values
from tether.server.connlog.pages import LogPages
from tether.server.connlog.queries import activity
from tether.server.connlog.queries.explain import ExplainedConnection, explain_connection
from tether.server.connlog.queries.listing import find_visible
from tether.server.connlog.queries.report import BREAKDOWNS, count_ends
from tether.server.db.store import Store
from tether.server.db.tables.activity import ForwardRow
from tether.server.identity import Identity

ADMIN = Identity(kind="user", user="admin", role="admin")


def searching(**filters: Any) -> RowSearch:
    """Connections with these values; `lived_since` and the other bounds as `RowSearch` has them. None:
    any."""
    given = {name: value for name, value in filters.items() if value is not None}
    bounds = {name: given.pop(name) for name in tuple(given) if name in RowSearch.__slots__}
    return RowSearch(values={name: Values((value,)) for name, value in given.items()}, **bounds)


class LogReader:
    """Reads what `viewer` may see, by default everything."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def connections(self, viewer: Identity = ADMIN, **filters: Any) -> list[dict[str, Any]]:
        """Connections, newest first."""
        limit = filters.pop("limit", DEFAULT_LIMIT)
        pages = LogPages(self._store, self._clock)
        found = await pages.first(searching(**filters), viewer, limit=limit)
        now = self._clock.now().wall
        return [connection_view(row, now).model_dump(mode="json") for row in found.rows]

    async def explain(self, prefix: str, viewer: Identity = ADMIN) -> dict[str, Any]:
        """One connection with everything on file about it."""

        async def look(tx: AsyncConnection) -> ExplainedConnection:
            return await explain_connection(tx, await find_visible(tx, prefix, viewer))

        found = await self._store.read(look)
        return explained_view(found, self._clock.now().wall).model_dump(mode="json")

    async def forwards(
        self, prefix: str, limit: int, viewer: Identity = ADMIN
    ) -> list[dict[str, Any]]:
        """Forwarded connections of one connection."""

        async def look(tx: AsyncConnection) -> list[ForwardRow]:
            row = await find_visible(tx, prefix, viewer)
            return await activity.forwards_of(tx, row.connection_id, limit)

        return [forward_view(one).model_dump(mode="json") for one in await self._store.read(look)]

    async def files(
        self, prefix: str, limit: int, viewer: Identity = ADMIN
    ) -> list[dict[str, Any]]:
        """File operations of one connection."""

        async def look(tx: AsyncConnection) -> list[activity.FileAudit]:
            row = await find_visible(tx, prefix, viewer)
            return await activity.files_of(tx, row.connection_id, limit)

        found = await self._store.read(look)
        return [FileAuditView.model_validate(one).model_dump(mode="json") for one in found]

    async def report(
        self,
        search: RowSearch | None = None,
        viewer: Identity = ADMIN,
        by: Collection[str] = tuple(BREAKDOWNS),
    ) -> dict[str, Any]:
        """Ends, counted."""
        wanted = search or RowSearch()
        counted = await self._store.read(lambda tx: count_ends(tx, wanted, viewer, by))
        return ReportView.model_validate(counted).model_dump(mode="json")
