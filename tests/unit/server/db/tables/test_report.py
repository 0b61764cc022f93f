"""The report's roll-ups say what a scan of the log says, whatever becomes of its rows."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.clock import EPOCH, HandClock
from tests.support.server.log_reader import ADMIN
from tests.support.server.log_rig import (
    AGENT,
    AGENT_EOF,
    ALICE,
    BOB,
    CLIENT_EOF,
    EXITED,
    LogRig,
    ended,
)
from tests.support.server.parts import MemoryHub
from tether.protocol.messages.reports import SessionRecord
from tether.server.auth.accounts import Accounts
from tether.server.connlog.filter import RowSearch, Values
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.log import BELONGINGS, ConnectionLog
from tether.server.db.migrate import migrate
from tether.server.db.store import Store
from tether.server.db.tables.accounts import users
from tether.server.db.tables.connections import connections
from tether.server.db.tables.report import (
    DAY_S,
    ends_by_day,
    ends_by_hour,
    ends_by_place_day,
    ends_by_place_month,
)
from tether.server.db.tables.workspaces import workspaces
from tether.server.identity import Identity
from tether.server.metrics import Metrics
from tether.server.workspaces import Workspaces

FACTS = {"nothing": (), "agent": (AGENT_EOF,), "client": (CLIENT_EOF,), "exit": EXITED}
PLACES = (("w1", "dev", "alice"), ("w2", "other", "bob"), ("w2", "other", "alice"))

steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.sampled_from(PLACES), st.sampled_from([None, "7"])),
        st.tuples(st.just("close"), st.integers(0, 9), st.sampled_from(sorted(FACTS))),
        st.tuples(st.just("report"), st.integers(0, 9), st.sampled_from(sorted(FACTS))),
        st.tuples(st.just("refine"), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(
            st.just("move"),
            st.sampled_from([1.5, 1799.25, 3600.0, 40_000.0, 86_400.0, 1_400_000.0]),
        ),
    ),
    min_size=4,
    max_size=24,
)
DAWN = EPOCH - EPOCH % DAY_S
moments = (
    st.none()
    | st.sampled_from([DAWN, EPOCH, EPOCH + 3600, DAWN + DAY_S, DAWN + 30 * DAY_S])
    | st.floats(EPOCH - DAY_S, EPOCH + 4 * DAY_S, width=32)
    | st.floats(EPOCH - 40 * DAY_S, EPOCH + 90 * DAY_S, width=32)
)


def some_of(*words: Any) -> st.SearchStrategy[Values]:
    """Mostly no filter; else any of some words, or none of them."""
    few = st.lists(st.sampled_from(words), min_size=1, max_size=2, unique=True).map(tuple)
    nothing = st.just(Values())
    return st.one_of(nothing, nothing, few.map(Values), few.map(lambda some: Values((), some)))


COLUMNS = {
    "workspace": "workspace",
    "user": "user",
    "type": "type",
    "reason": "disconnect_reason",
    "cause": "disconnect_cause",
    "initiator": "disconnect_initiator",
    "expected": "disconnect_expected",
}
filters = st.builds(
    RowSearch,
    values=st.fixed_dictionaries(
        {
            "workspace": some_of("dev", "other"),
            "user": some_of("alice", "bob"),
            "type": some_of("sftp", "tunnel", "ssh"),
            "reason": some_of("graceful", "unknown"),
            "cause": some_of("agent.vanished", "unknown", "client.vanished"),
            "initiator": some_of("client", "agent"),
            "expected": some_of(True, False),
        }
    ).map(lambda values: {name: some for name, some in values.items() if some}),
    lived_since=moments,
    ended_until=moments,
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with two users, each with a workspace."""
    path = tmp_path_factory.mktemp("empty") / "server.db"
    with _sync(path) as tx:
        migrate(tx)
        for user, workspace_id, name in (("alice", "w1", "dev"), ("bob", "w2", "other")):
            tx.execute(sa.insert(users).values(name=user, role="member", created_at=0.0))
            tx.execute(
                sa.insert(workspaces).values(
                    workspace_id=workspace_id,
                    name=name,
                    owner=user,
                    state="running",
                    created_at=0.0,
                )
            )
    return path


@contextmanager
def _sync(path: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as tx:
        yield tx
    engine.dispose()


async def _live(rig: LogRig, step: tuple[Any, ...], opened: list[str]) -> None:
    match step:
        case ("open", (workspace_id, workspace, user), region):
            name = f"{len(opened):04x}"
            opened.append(name)
            await rig.tunnel(
                name, user, workspace_id=workspace_id, workspace=workspace, relay_region=region
            )
        case ("move", seconds):
            rig.move(seconds)
        case (what, number, *more) if opened:
            name = opened[number % len(opened)]
            facts = FACTS[more[0]] if more else ()
            if what == "close":
                await rig.log.close_tunnel(name, facts)
            elif what == "report":
                for workspace_id in ("w1", "w2"):
                    by = Reporter(vantage=AGENT, since=EPOCH, workspace_id=workspace_id)
                    at = rig.clock.now().wall
                    await rig.report(ended(name, *facts, at=at), by=by)
            elif what == "refine":
                sftp = SessionRecord(
                    connection_id=name, session_id="s1", session_type="sftp", pty=False,
                    started_at=EPOCH,
                )  # fmt: skip
                for workspace_id in ("w1", "w2"):
                    by = Reporter(vantage=AGENT, since=EPOCH, workspace_id=workspace_id)
                    await rig.report(sftp, by=by)
            else:
                await rig.store.write(lambda tx: _forget(tx, name))


async def _forget(tx: AsyncConnection, connection_id: str) -> None:
    for table in (*BELONGINGS, connections):
        await tx.execute(sa.delete(table).where(table.c.connection_id == connection_id))


def _has(value: Any, values: Values) -> bool:
    return (not values.wanted or value in values.wanted) and value not in values.unwanted


def _scanned(rows: list[dict[str, Any]], wanted: RowSearch, viewer: Identity) -> dict[str, Any]:
    """The report, by one look at each row."""
    owned = {"alice": "w1", "bob": "w2"}.get(viewer.user)
    since, until = wanted.lived_since, wanted.ended_until
    mine = [
        row
        for row in rows
        if row["status"] == "closed"
        and (viewer.is_admin or row["user"] == viewer.user or row["workspace_id"] == owned)
        and all(_has(row[COLUMNS[name]], values) for name, values in wanted.values.items())
        and (since is None or row["disconnected_at"] >= since)
        and (until is None or row["disconnected_at"] < until)
    ]
    columns = {
        "cause": "disconnect_cause",
        "reason": "disconnect_reason",
        "initiator": "disconnect_initiator",
        "workspace": "workspace",
        "user": "user",
        "relay": "relay_region",
    }
    lived = sum(round((row["disconnected_at"] - row["connected_at"]) * 1000) for row in mine)
    return {
        "ends": len(mine),
        "unexpected": sum(not row["disconnect_expected"] for row in mine),
        "unknown": sum(row["disconnect_reason"] == "unknown" for row in mine),
        "incidents": len({row["incident_id"] for row in mine} - {None}),
        "mean_duration_s": round(lived / 1000 / len(mine), 3) if mine else 0.0,
        "by": {
            name: dict(Counter(row[column] or "" for row in mine))
            for name, column in columns.items()
        },
        "days": len({int(row["disconnected_at"]) // DAY_S for row in mine}),
    }


def _shown(told: dict[str, Any]) -> dict[str, Any]:
    by = dict(told["by"])
    days = len(by.pop("day"))
    return {
        **{name: told[name] for name in ("ends", "unexpected", "unknown", "incidents")},
        "mean_duration_s": told["mean_duration_s"],
        "by": {name: {one["value"]: one["ends"] for one in groups} for name, groups in by.items()},
        "days": days,
    }


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes minutes here
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(life=steps, wanted=st.lists(filters, min_size=1, max_size=3))
def test_the_report_of_any_history_is_what_a_scan_of_its_rows_counts(
    life: list[tuple[Any, ...]], wanted: list[RowSearch], empty: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(empty, tmp_path / "server.db"))
    for side in ("-wal", "-shm"):
        Path(f"{path}{side}").unlink(missing_ok=True)

    async def lived() -> list[tuple[RowSearch, Identity, dict[str, Any]]]:
        store, clock, opened = await Store.open(path), HandClock(), list[str]()
        try:
            metrics = Metrics()
            log = ConnectionLog(store, clock, metrics)
            workspaces = Workspaces(store, Accounts(store, clock), MemoryHub(), clock)
            rig = LogRig(store, clock, metrics, workspaces, log, "w1", "w2")
            for step in life:
                await _live(rig, step, opened)
            return [
                (one, viewer, await rig.read.report(one, viewer))
                for one in (RowSearch(), *wanted)
                for viewer in (ADMIN, ALICE, BOB)
            ]
        finally:
            await store.close()

    told = asyncio.run(lived())
    with _sync(path) as tx:
        rows = [dict(row) for row in tx.execute(sa.select(connections)).mappings()]
        for table in (ends_by_hour, ends_by_day, ends_by_place_day, ends_by_place_month):
            assert not tx.execute(sa.select(table).where(table.c.ends <= 0)).all()
    for one, viewer, report in told:
        assert _shown(report) == _scanned(rows, one, viewer)


def test_what_was_closed_before_the_roll_ups_is_counted_by_the_migration(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    with _sync(path) as tx:
        migrate(tx, "0004")
        tx.exec_driver_sql(
            "INSERT INTO connections (connection_id, status, connect_type, type, workspace,"
            " created_at, connected_at, disconnected_at, disconnect_reason, disconnect_expected,"
            " disconnect_initiator, disconnect_cause, disconnect_basis, coarse_reason, rule)"
            " SELECT value, 'closed', 'agent_to_client', 'ssh', 'dev', 0, 10.5, 7000.0 + value,"
            " 'graceful', 1, 'client', 'session.exit', 'declared', 'graceful', 'r'"
            " FROM json_each('[0, 100, 400]')"
        )
        migrate(tx)
        counted = tx.execute(
            sa.select(ends_by_hour.c.hour, ends_by_hour.c.ends, ends_by_hour.c.lived_ms)
        ).all()
        by_day = tx.execute(
            sa.select(ends_by_day.c.day, ends_by_day.c.ends, ends_by_day.c.lived_ms)
        ).all()
        by_place = [
            tx.execute(sa.select(table)).all() for table in (ends_by_place_day, ends_by_place_month)
        ]
    assert [tuple(row) for row in counted] == [(1, 2, 14_079_000), (2, 1, 7_389_500)]
    assert [tuple(row) for row in by_day] == [(0, 3, 21_468_500)]
    assert by_place == [[(0, 1, True, False, 3, 21_468_500)]] * 2
