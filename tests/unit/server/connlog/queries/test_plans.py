"""How SQLite finds the rows: what is asked all the time may not read a log of millions of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from tests.support.server.log_reader import ADMIN
from tests.support.server.parts import Parts, parts
from tether.server.connlog.pages import LogPages
from tether.server.connlog.records import IS_ONGOING, IS_OPEN, IS_PENDING, IS_TUNNEL, find_all

pytestmark = pytest.mark.anyio

WHOLE = ("SCAN connections", "ix_connections_parent_id (parent_id=?)")
"""Plans that read every row, or every row that has no parent."""


async def plans(made: Parts, *asked: Any) -> list[str]:
    """How SQLite answers each statement that is executed for these."""
    said: list[tuple[str, Any]] = []
    engine = made.store._reader.sync_engine
    note = lambda _c, _k, statement, values, *_: said.append((statement, values))  # noqa: E731
    event.listen(engine, "before_cursor_execute", note)
    try:
        for one in asked:
            await one
    finally:
        event.remove(engine, "before_cursor_execute", note)

    async def explained(tx: Any) -> list[str]:
        return [
            str(row[-1])
            for statement, values in said
            for row in await tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]

    return await made.store.read(explained)


def wholes(found: list[str]) -> list[str]:
    return [plan for plan in found if any(whole in plan for whole in WHOLE)]


async def test_the_first_screen_reads_its_day_only(tmp_path: Path) -> None:
    async with parts(tmp_path) as made:
        pages = LogPages(made.store, made.clock)
        found = await plans(made, pages.overview(ADMIN, 86_400), pages.relays(86_400))
    assert any("ix_connections_disconnected_at" in plan for plan in found)
    assert wholes(found) == []


async def test_open_tunnels_are_found_among_the_open_rows(tmp_path: Path) -> None:
    async with parts(tmp_path) as made:
        read = made.store.read
        found = await plans(
            made,
            *(
                read(lambda tx, is_so=is_so: find_all(tx, IS_TUNNEL, is_so))  # type: ignore[misc]
                for is_so in (IS_ONGOING, IS_OPEN, IS_PENDING)
            ),
        )
    assert len([plan for plan in found if "ix_connections_open" in plan]) == 3, found
    assert wholes(found) == []


async def test_what_reads_everything_is_seen_here(tmp_path: Path) -> None:
    async with parts(tmp_path) as made:
        everything = text("SELECT * FROM connections WHERE parent_id IS NULL AND rx_bytes > 5")
        found = await plans(made, made.store.read(lambda tx: tx.execute(everything)))
    assert len(wholes(found)) == 1, found
