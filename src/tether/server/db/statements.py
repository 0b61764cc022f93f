"""SQL that is kept in files: each is frozen with the migration that brought it.

Law: reads only. A file is named after its migration and never changes; the schema uses the newest one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib import resources

FOLDER = resources.files("tether.server.db.migrations") / "sql"


def read_statements(name: str) -> Iterator[str]:
    """The statements of a file; those within a trigger are a part of it."""
    statement = ""
    for line in (FOLDER / name).read_text().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip().removesuffix(";")
            statement = ""
