"""The DERP map that administrators set through the API: kept in the database, put into use.

Law: a server that takes its map from a file takes none from the API: one of them must be right.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.log import get_logger
from tether.net.clock import Clock
from tether.server.db.store import Store
from tether.server.db.tables.relays import derp_map
from tether.server.derp.map import BadDerpMap, Regions, read_map
from tether.server.errors import Conflict, Forbidden, Invalid
from tether.server.identity import Identity

_log = get_logger("derp")


class DerpMaps:
    """The DERP map of this installation."""

    def __init__(self, store: Store, clock: Clock, regions: Regions, *, from_file: bool) -> None:
        self._store = store
        self._clock = clock
        self._regions = regions
        self._from_file = from_file

    async def load(self) -> None:
        """Put into use what was set earlier. Call once, where the map is not in a file.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        found = await self._store.read(_kept)
        if found is not None:
            self._regions.set_map(read_map({"regions": found}))

    def in_use(self) -> dict[str, Any]:
        """The map now, and where the choice of its regions comes from."""
        chosen = "automatic" if self._regions.as_set is None else "api"
        return {
            "source": "file" if self._from_file else chosen,
            "regions": [_plain(region) for region in self._regions.map_for().regions],
        }

    async def put(self, plain: dict[str, Any] | None, by: Identity) -> None:
        """Set the map, or (None) leave it to whatever registers.

        Raises:
            Forbidden, Conflict, Invalid: `by` is no administrator, the map is in a file, or the map
                makes no sense.
        """
        if not by.is_admin:
            raise Forbidden("admin_only", "only administrators may do this")
        if self._from_file:
            raise Conflict(
                "derp_map_in_file", "this server takes its DERP map from a file: change that file"
            )
        try:
            regions = None if plain is None else read_map(plain)
        except BadDerpMap as wrong:
            raise Invalid("bad_derp_map", str(wrong)) from wrong

        async def keep(tx: AsyncConnection) -> None:
            await tx.execute(delete(derp_map))
            if regions is not None:
                await tx.execute(
                    insert(derp_map).values(
                        id=1,
                        regions=[_plain(region) for region in regions],
                        updated_at=self._clock.now().wall,
                        updated_by=by.actor(),
                    )
                )

        await self._store.write(keep)
        names = None if regions is None else [region.name for region in regions]
        _log.info("derp map set", actor=by.actor(), regions=names)
        self._regions.set_map(regions)


async def _kept(tx: AsyncConnection) -> list[Any] | None:
    found: list[Any] | None = await tx.scalar(select(derp_map.c.regions))
    return found


def _plain(region: Any) -> dict[str, Any]:
    nodes = [{"url": node.url, "status": str(node.status)} for node in region.nodes]
    return {"name": region.name, "nodes": nodes}
