"""Which names of workspaces and users a viewer can have meant.

Law: reads only; a name that the viewer may not see is none.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.connlog.queries.listing import visible_to
from tether.server.connlog.queries.search import FIELDS
from tether.server.db.tables.accounts import users
from tether.server.db.tables.connections import connections
from tether.server.db.tables.workspaces import workspaces
from tether.server.identity import Identity


async def is_on_file(tx: AsyncConnection, subject: str, name: str, viewer: Identity) -> bool:
    """Whether a "workspace" or a "user" of this name is there now, or has a row of the log."""
    if name in await names_of(tx, subject, viewer):
        return True
    row = select(connections.c.seq).where(FIELDS[subject] == name, visible_to(viewer)).limit(1)
    return (await tx.execute(row)).first() is not None


async def names_of(tx: AsyncConnection, subject: str, viewer: Identity) -> list[str]:
    """The names of those that are there now, deleted ones and those of the log left out."""
    if subject == "workspace":
        query = select(workspaces.c.name).where(workspaces.c.deleted_at.is_(None))
        if not viewer.is_admin:
            query = query.where(workspaces.c.owner == viewer.user)
    else:
        query = select(users.c.name)
        if not viewer.is_admin:
            query = query.where(users.c.name == viewer.user)
    return [str(name) for name in await tx.scalars(query)]
