"""Which rows of the connection log somebody may see, their order, and one by its id.

Law: reads only. An administrator sees everything, others the connections of their own workspaces and
their own connections.
"""

from __future__ import annotations

import re

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.db.fetch import fetch_all
from tether.server.db.tables.connections import ConnectionRow, connections
from tether.server.db.tables.workspaces import workspaces
from tether.server.errors import Ambiguous, NotFound
from tether.server.identity import Identity

NEWEST_FIRST = (connections.c.created_at.desc(), connections.c.seq.desc())
"""The order of lists; an index of each filter has it."""

_ID = re.compile(r"[0-9a-f]{1,32}")


async def find_visible(tx: AsyncConnection, prefix: str, viewer: Identity) -> ConnectionRow:
    """The one row whose id begins with `prefix`.

    Raises:
        NotFound, Ambiguous: the prefix names none, or several, that the viewer may see.
    """
    prefix = prefix.strip().lower()
    found: list[ConnectionRow] = []
    if _ID.fullmatch(prefix):
        c = connections.c.connection_id
        query = select(connections).where(c >= prefix, c < prefix + "g", visible_to(viewer))
        found = await fetch_all(tx, query.order_by(c).limit(2), ConnectionRow)
    if not found:
        raise NotFound("connection_not_found", f"there is no connection {prefix[:40]!r}")
    if len(found) > 1 and found[0].connection_id != prefix:
        raise Ambiguous(
            "connection_ambiguous", f"several connections begin with {prefix!r}: give more of it"
        )
    return found[0]


def visible_to(viewer: Identity) -> ColumnElement[bool]:
    """The rows that are the viewer's to see."""
    if viewer.is_admin:
        return true()
    own = select(workspaces.c.workspace_id).where(workspaces.c.owner == viewer.user)
    return or_(connections.c.user == viewer.user, connections.c.workspace_id.in_(own))
