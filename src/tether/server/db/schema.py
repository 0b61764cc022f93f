"""The whole schema of the server's database.

Law: definitions only. A table is in `metadata` once its module is imported, so whoever makes or compares
the schema takes `metadata` from here. A change of a table needs a migration in `migrations/versions`;
`tests/unit/server/db/test_migrations.py` compares the two.
"""

from __future__ import annotations

from tether.server.db.tables import (
    accounts,
    activity,
    agent_states,
    connections,
    relays,
    report,
    server_runs,
    web,
    workspaces,
)
from tether.server.db.tables.base import metadata

__all__ = ["TABLES", "metadata"]

TABLES = (
    accounts,
    activity,
    agent_states,
    connections,
    relays,
    report,
    server_runs,
    web,
    workspaces,
)
"""The modules of `db.tables` that define tables: all of them."""
