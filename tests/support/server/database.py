"""A server's empty database, as its migrations make it, without running them for every test.

Law: the file is made once in a process, by the product's own migrations, and copied.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from tether.server.db.migrate import migrate


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "server.db")
        engine = sa.create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            migrate(connection)
        engine.dispose()
        return path.read_bytes()


def put_empty(path: Path) -> Path:
    """Make `path` a migrated database, unless there is one."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_migrated())
    return path
