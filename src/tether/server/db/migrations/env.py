"""Alembic's entry: bring the connection that `migrate.py` hands over to the newest revision.

Law: no configuration files, no URLs and no commits here; the caller owns the transaction.
"""

from __future__ import annotations

from alembic import context

from tether.server.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by rebuilding it
)
with context.begin_transaction():
    context.run_migrations()
