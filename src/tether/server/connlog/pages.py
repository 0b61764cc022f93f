"""What the pages of the web interface ask of the connection log, each in one answer.

Law: the one way from the API to `queries/` for them; reads only. Queries get the present handed in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tether.net.clock import Clock
from tether.server.connlog.filter import RowSearch
from tether.server.connlog.queries import (
    deploys,
    facets,
    fleet,
    incidents,
    names,
    overview,
    person,
    search,
    workspace_life,
)
from tether.server.connlog.queries.search import FoundRows
from tether.server.db.store import Store
from tether.server.db.tables.connections import ConnectionRow
from tether.server.identity import Identity

EXPORTED_AT_ONCE = 1_000


class LogPages:
    """Answers what the pages ask."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def search(
        self, wanted: RowSearch, viewer: Identity, *, limit: int, cursor: str = ""
    ) -> FoundRows:
        """See `queries.search.page`."""
        now = self._clock.now().wall
        return await self._store.read(
            lambda tx: search.page(tx, wanted, viewer, now, limit=limit, cursor=cursor)
        )

    async def summary(self, wanted: RowSearch, viewer: Identity) -> facets.Summary:
        """See `queries.facets.summary`."""
        now = self._clock.now().wall
        return await self._store.read(lambda tx: facets.summary(tx, wanted, viewer, now))

    async def all(
        self, wanted: RowSearch, viewer: Identity, *, limit: int | None = None, cursor: str = ""
    ) -> AsyncIterator[list[ConnectionRow]]:
        """Every row that matches, or the first `limit`, newest first, some at a time; each some is a
        snapshot of its own."""
        left = limit
        while True:
            many = EXPORTED_AT_ONCE if left is None else min(left, EXPORTED_AT_ONCE)
            found = await self.search(wanted, viewer, limit=many, cursor=cursor)
            if found.rows:
                yield found.rows
            left = None if left is None else left - len(found.rows)
            if not (cursor := found.next) or left == 0:
                return

    async def first(
        self, wanted: RowSearch, viewer: Identity, *, limit: int, cursor: str = ""
    ) -> FoundRows:
        """As `search`, however much has to be searched until so many are found."""
        found = await self.search(wanted, viewer, limit=limit, cursor=cursor)
        rows = list(found.rows)
        while found.next and len(rows) < limit:
            found = await self.search(wanted, viewer, limit=limit - len(rows), cursor=found.next)
            rows += found.rows
        return FoundRows(rows, found.next, found.searched_to)

    async def is_on_file(self, subject: str, name: str, viewer: Identity) -> bool:
        """See `queries.names.is_on_file`."""
        return await self._store.read(lambda tx: names.is_on_file(tx, subject, name, viewer))

    async def names_of(self, subject: str, viewer: Identity) -> list[str]:
        """See `queries.names.names_of`."""
        return await self._store.read(lambda tx: names.names_of(tx, subject, viewer))

    # -- by subject ---------------------------------------------------------------------------

    async def overview(self, viewer: Identity, span_s: float) -> dict[str, Any]:
        """See `queries.overview`."""
        now = self._clock.now().wall
        return await self._store.read(lambda tx: overview.overview(tx, viewer, now, span_s=span_s))

    async def incidents(self, viewer: Identity, since: float, until: float) -> list[dict[str, Any]]:
        """Those that began in a span, newest first."""
        return await self._store.read(
            lambda tx: incidents.recent_incidents(tx, viewer, since, until)
        )

    async def incident(self, incident_id: str, viewer: Identity) -> dict[str, Any]:
        """See `queries.incidents.incident`; raises as it does."""
        return await self._store.read(lambda tx: incidents.incident(tx, incident_id, viewer))

    async def acknowledge(self, incident_id: str, by: Identity) -> None:
        """Note who has seen to an incident; the first one stays.

        Raises:
            NotFound: there is none.
        """
        at = self._clock.now().wall
        await self._store.write(lambda tx: incidents.acknowledge(tx, incident_id, by.user, at))

    async def person(self, user: str, viewer: Identity, span_s: float) -> dict[str, Any]:
        """See `queries.person`."""
        now = self._clock.now().wall
        return await self._store.read(
            lambda tx: person.person(tx, user, viewer, now, span_s=span_s)
        )

    async def restarts(self, limit: int) -> list[dict[str, Any]]:
        """The runs of the server, newest first."""
        return await self._store.read(lambda tx: deploys.restarts(tx, limit))

    async def restart(self, run_id: str, viewer: Identity) -> dict[str, Any]:
        """See `queries.deploys.compare`; raises as it does."""
        return await self._store.read(lambda tx: deploys.compare(tx, run_id, viewer))

    async def workspace_life(
        self, workspace_id: str, viewer: Identity, span_s: float
    ) -> dict[str, Any]:
        """See `queries.workspace_life`."""
        now = self._clock.now().wall
        return await self._store.read(
            lambda tx: workspace_life.life(tx, workspace_id, viewer, now, span_s=span_s)
        )

    async def relays(self, span_s: float) -> dict[str, dict[str, Any]]:
        """See `queries.fleet.relays`."""
        now = self._clock.now().wall
        return await self._store.read(lambda tx: fleet.relays(tx, now, span_s=span_s))

    async def relay_losses(self, span_s: float) -> list[fleet.RelayLoss]:
        """See `queries.fleet.relay_losses`."""
        now = self._clock.now().wall
        return await self._store.read(lambda tx: fleet.relay_losses(tx, now, span_s=span_s))

    async def duplicated(self, span_s: float) -> dict[str, int]:
        """See `queries.fleet.duplicated`."""
        since = self._clock.now().wall - span_s
        return await self._store.read(lambda tx: fleet.duplicated(tx, since))
