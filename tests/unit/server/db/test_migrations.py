"""The migrations make the schema, can be undone, and travel with the package."""

from __future__ import annotations

import pkgutil
import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from tether.server.db import tables
from tether.server.db.migrate import alembic_config, migrate
from tether.server.db.schema import TABLES, metadata
from tether.server.db.statements import FOLDER
from tether.server.db.store import Store, StoreUnavailable
from tether.server.db.tables.report import TRIGGERS


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/migrated.db")
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def _statements(connection: sa.Connection) -> dict[str, str]:
    """What the database was told to make, without what Alembic keeps for itself."""
    found = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'"
    )
    made = {name: " ".join(sql.split()) for name, sql in found}
    made.pop("alembic_version", None)
    return made


def _parts(statement: str) -> list[str]:
    """What a statement lists, in no order: a column that was added stands behind the constraints."""
    depth, parts = 0, [""]
    for char in statement:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if depth == 1 and char in "(,":
            parts.append("")
        else:
            parts[-1] += char
    return sorted(part.strip(" )") for part in parts)


def test_the_migrated_schema_equals_the_metadata(connection: sa.Connection, tmp_path: Path) -> None:
    migrate(connection)
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    assert compare_metadata(context, metadata) == []

    engine = sa.create_engine(f"sqlite:///{tmp_path}/made.db")
    with engine.begin() as made:
        metadata.create_all(made)
        wanted = _statements(made)
    engine.dispose()
    migrated = _statements(connection)
    # CHECKs and AUTOINCREMENT are not compared by Alembic, so the statements themselves are.
    assert {name: _parts(sql) for name, sql in migrated.items()} == {
        name: _parts(sql) for name, sql in wanted.items()
    }


def test_migrating_twice_changes_nothing(connection: sa.Connection) -> None:
    migrate(connection)
    before = _statements(connection)
    migrate(connection)
    assert _statements(connection) == before


def test_the_migrations_can_be_undone(connection: sa.Connection) -> None:
    migrate(connection)
    command.downgrade(alembic_config(connection), "base")
    assert _statements(connection) == {}
    migrate(connection)
    assert "connections" in _statements(connection)


def test_rows_of_the_first_version_survive_the_second(connection: sa.Connection) -> None:
    migrate(connection, "0001")
    connection.exec_driver_sql(
        "INSERT INTO connections (connection_id, status, connect_type, type, created_at)"
        " VALUES ('c1', 'ongoing', 'agent_to_client', 'ssh', 1.0)"
    )
    migrate(connection)
    found = connection.exec_driver_sql("SELECT connection_id, parent_id, app FROM connections")
    assert found.fetchall() == [("c1", None, "")]


@pytest.mark.anyio
async def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    await (await Store.open(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(StoreUnavailable) as refused:
        await Store.open(path)
    assert str(refused.value) == (
        "the server's database was written by a newer version of Tether; run that version"
    )
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    raw.close()


def test_the_scripts_travel_with_the_package() -> None:
    folder = resources.files("tether.server.db") / "migrations"
    assert (folder / "env.py").is_file()
    for name in ("v0001_initial.py", "v0002_contents.py", "v0003_paths.py"):
        assert (folder / "versions" / name).is_file()
    assert (folder / "sql" / TRIGGERS).is_file()


def test_every_module_of_tables_is_a_part_of_the_schema() -> None:
    modules = {found.name for found in pkgutil.iter_modules(tables.__path__)}
    known = {module.__name__.rpartition(".")[2] for module in TABLES}
    assert modules == known | {"base"}


def test_the_triggers_of_the_schema_are_those_of_the_newest_migration_that_changed_them() -> None:
    files = (one.name for one in FOLDER.iterdir())
    assert max(name for name in files if name.startswith("report_triggers_")) == TRIGGERS


def test_the_schema_compiles_for_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))
    made = str(CreateTable(metadata.tables["connections"]).compile(dialect=dialect))
    assert "seq BIGSERIAL NOT NULL" in made
    assert "JSONB" in str(CreateTable(metadata.tables["evidence"]).compile(dialect=dialect))
