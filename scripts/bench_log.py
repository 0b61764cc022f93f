"""How the connection log does at scale: pages and reports over millions of rows, and reports per second.

    python scripts/bench_log.py [--rows 10000000] [--dir TMP] [--write docs/benchmarks.md]

Rows are made in bulk with SQL in a temporary directory, without evidence; what is asked goes through the
code that the API asks. The disk has to hold about 1.2 KB a row. `--write` replaces this script's own
section of the page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import structlog

from tests.support.server.many_rows import DAYS, FREQUENT, USERS, WORKSPACES, fill
from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.vocabulary import (
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Party,
    Vantage,
)
from tether.net.clock import SystemClock
from tether.protocol.messages.base import records_of
from tether.protocol.messages.reports import Ended, Opened, Report
from tether.server.connlog.filter import DEFAULT_LIMIT, RowSearch, Values
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.log import ConnectionLog
from tether.server.connlog.queries import search
from tether.server.connlog.queries.report import count_ends
from tether.server.connlog.records import NewConnection
from tether.server.db.store import Store
from tether.server.identity import Identity
from tether.server.metrics import Metrics

BYTES_A_ROW = 1_200
END = 1_800_000_000
ADMIN = Identity(kind="user", user="admin", role="admin")
SOMEONE = Identity(kind="user", user="u7", role="member")
HEADING = "## The connection log at scale"


async def timed(ask: Callable[[], Awaitable[Any]], times: int) -> list[float]:
    """Milliseconds of each call."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def searching(**filters: Any) -> RowSearch:
    """Connections with these values; bounds as `RowSearch` has them."""
    bounds = {name: filters.pop(name) for name in tuple(filters) if name in RowSearch.__slots__}
    return RowSearch(values={name: Values((value,)) for name, value in filters.items()}, **bounds)


def pages() -> dict[str, Callable[[], RowSearch]]:
    """Filters of a page, made anew for each call."""
    rare = [code for code in CATALOGUE if code not in FREQUENT]
    one = lambda name, most: f"{name}{random.randrange(most)}"  # noqa: E731
    return {
        "no filter": RowSearch,
        "workspace": lambda: searching(workspace=one("w", WORKSPACES)),
        "user": lambda: searching(user=one("u", USERS)),
        "a frequent cause": lambda: searching(cause="session.exit"),
        "a rare cause": lambda: searching(cause=random.choice(rare)),
        "unexpected": lambda: searching(expected=False),
        "workspace, unexpected": lambda: searching(workspace=one("w", WORKSPACES), expected=False),
        "workspace and a rare cause": lambda: searching(
            workspace=one("w", WORKSPACES), cause=random.choice(rare)
        ),
        "user, type, reason": lambda: searching(
            user=one("u", USERS), type=ConnectionType.SFTP, reason=CATALOGUE["session.exit"].reason
        ),
        "since an hour": lambda: searching(lived_since=END - 3600),
        "since an hour, a rare cause": lambda: searching(
            lived_since=END - 3600, cause=random.choice(rare)
        ),
        "since an hour, a workspace, unexpected": lambda: searching(
            lived_since=END - 3600, workspace=one("w", WORKSPACES), expected=False
        ),
        "since an hour, unexpected, one user": lambda: searching(
            lived_since=END - 3600, user=one("u", USERS), expected=False
        ),
        "since a day, unexpected": lambda: searching(lived_since=END - 86_400, expected=False),
        "a day half a year ago": lambda: searching(
            lived_since=END - 180 * 86_400, lived_until=END - 179 * 86_400
        ),
        "an hour long ago, a frequent cause": lambda: searching(
            lived_since=END - 300 * 86_400,
            lived_until=END - 300 * 86_400 + 3600,
            cause="session.exit",
        ),
        "an incident": lambda: searching(incident=f"{random.randrange(20_000):032x}"),
    }


def reports() -> dict[str, tuple[RowSearch, Identity, *tuple[Sequence[str], ...]]]:
    """Filters of a report, who asks, and for which breakdowns: all, if none are named."""
    return {
        "everything, by cause": (RowSearch(), ADMIN, ("cause",)),
        "everything, by workspace": (RowSearch(), ADMIN, ("workspace",)),
        "everything, by relay": (RowSearch(), ADMIN, ("relay",)),
        "everything, by day": (RowSearch(), ADMIN, ("day",)),
        "everything": (RowSearch(), ADMIN),
        "unexpected": (searching(expected=False), ADMIN),
        "one cause": (searching(cause="session.exit"), ADMIN),
        "the last 7 days": (searching(lived_since=END - 7 * 86_400 - 1234.5), ADMIN),
        "the last 2 hours": (searching(lived_since=END - 7200 - 12.5), ADMIN),
        "one workspace": (searching(workspace="w77"), ADMIN),
        "what a member sees": (RowSearch(), SOMEONE),
    }


async def look(path: Path, times: int) -> tuple[list[str], list[str], float]:
    """The two tables, and the seconds that counting the rows took at the migration."""
    began = time.monotonic()
    store = await Store.open(path)
    counted_s = time.monotonic() - began
    try:
        page_rows = []
        for name, wanted in pages().items():
            taken = await timed(
                lambda make=wanted: store.read(
                    lambda tx: search.page(tx, make(), ADMIN, END, limit=DEFAULT_LIMIT)
                ),
                times,
            )
            p95 = statistics.quantiles(taken, n=20)[-1]
            page_rows.append(f"| {name} | {statistics.median(taken):.1f} | {p95:.1f} |")
            print(page_rows[-1], flush=True)
        report_rows = []
        for name, asked in reports().items():
            taken = await timed(
                lambda asked=asked: store.read(lambda tx: count_ends(tx, *asked)), 3
            )
            report_rows.append(f"| {name} | {statistics.median(taken):.0f} | {max(taken):.0f} |")
            print(report_rows[-1], flush=True)
    finally:
        await store.close()
    return page_rows, report_rows, counted_s


def items(ids: list[str]) -> list[Any]:
    """What an agent reports of a life: up, and over with a few facts, as a login shell leaves them."""
    seen: tuple[ev.Evidence, ...] = (
        ev.Authenticated(vantage=Vantage.AGENT, at=END, user="u1", method="publickey"),
        ev.SessionEnded(vantage=Vantage.AGENT, at=END, exit_code=0, open_sessions=0),
        ev.SshDisconnected(
            vantage=Vantage.AGENT, at=END, by=Party.CLIENT, code=11, open_sessions=0
        ),
    )
    return [
        item
        for one in ids
        for item in (
            Opened(connection_id=one, at=END),
            Ended(connection_id=one, at=END, facts=records_of(seen), rx_bytes=10, tx_bytes=20),
        )
    ]


async def acknowledge(path: Path, agents: int, at_once: int, lives: int) -> float:
    """Report items acknowledged per second: `agents` that each report `at_once` and wait for it."""
    await (await Store.open(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute(
            "INSERT OR IGNORE INTO users (name, role, created_at) VALUES ('u1', 'member', 0)"
        )
        raw.executemany(
            "INSERT OR IGNORE INTO workspaces (workspace_id, name, owner, state, created_at)"
            " VALUES (?, ?, 'u1', 'running', 0)",
            [(f"b{n}", f"b{n}") for n in range(agents)],
        )
    raw.close()
    store = await Store.open(path)
    log = ConnectionLog(store, SystemClock(), Metrics())
    try:
        theirs: dict[str, list[str]] = {f"b{n}": [] for n in range(agents)}
        for workspace_id, ids in theirs.items():
            for _ in range(lives):
                ids.append(random.randbytes(16).hex())
                await log.grant(
                    NewConnection(
                        connection_id=ids[-1],
                        connect_type=ConnectType.AGENT_TO_CLIENT,
                        type=ConnectionType.TUNNEL,
                        workspace_id=workspace_id,
                        workspace=workspace_id,
                        user="u1",
                        client_ip="10.0.0.9",
                        journal_id=workspace_id,
                        connection_method=ConnectionMethod.DERP,
                    )
                )
        journal = random.randbytes(8).hex()

        async def one_agent(workspace_id: str, ids: list[str]) -> int:
            told, reporter = (
                items(ids),
                Reporter(vantage=Vantage.AGENT, since=0.0, workspace_id=workspace_id),
            )
            for begin in range(0, len(told), at_once):
                some = told[begin : begin + at_once]
                report = Report(journal_id=journal, first_seq=begin + 1, items=some)
                await log.apply(reporter, report)
            return len(told)

        began = time.monotonic()
        told = await asyncio.gather(*(one_agent(*one) for one in theirs.items()))
        return sum(told) / (time.monotonic() - began)
    finally:
        await store.close()


async def rates(root: Path) -> list[str]:
    """Lines of the table of reports."""
    listed = []
    for name, agents, at_once, lives in (
        ("one agent, 256 items a report", 1, 256, 1024),
        ("64 agents, 2 items a report", 64, 2, 24),
    ):
        rate = await acknowledge(root / "rate.db", agents, at_once, lives)
        listed.append(f"| {name} | {rate:,.0f} |")
        print(listed[-1], flush=True)
    return listed


def page(rows: int, size: int, found: dict[str, Any]) -> str:
    """This script's section."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "?",
    )
    machine = (
        f"{os.cpu_count()} CPUs ({cpu}), {platform.platform()}, Python {sys.version.split()[0]}"
    )
    counted = (
        f" The migration that made the roll-ups took {found['counted_s']:.0f} s."
        if found["counted_s"]
        else ""
    )
    return "\n".join(
        (
            HEADING,
            "",
            f"Written by `scripts/bench_log.py` on {datetime.now(UTC):%Y-%m-%d}; never edited by hand."
            f" {rows:,} closed rows of {WORKSPACES:,} workspaces and {USERS} users in {DAYS} days, an"
            f" SQLite file of {size / 1e9:.1f} GB; milliseconds, through the code that the API asks."
            f" A page has {DEFAULT_LIMIT} rows; a report has all seven breakdowns where none is named."
            f" The machine's load average was {os.getloadavg()[1]:.1f}.{counted}",
            "",
            f"Machine: {machine}.",
            "",
            "| page | p50 | p95 |",
            "|---|---|---|",
            *found["pages"],
            "",
            "| report | p50 | slowest of 3 |",
            "|---|---|---|",
            *found["reports"],
            "",
            "| reports, committed and acknowledged | items/s |",
            "|---|---|",
            *found["rates"],
            "",
        )
    )


def put(where: Path, section: str) -> None:
    """Put the section into the page, in the place of what was there."""
    text = where.read_text()
    before, _, rest = text.partition(HEADING)
    after = rest[rest.find("\n## ") + 1 :] if "\n## " in rest else ""
    where.write_text(before.rstrip() + "\n\n" + section + ("\n" + after if after else ""))


def main() -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=40, help="pages of each kind")
    parser.add_argument("--dir", type=Path, help="where to make the temporary directory")
    parser.add_argument(
        "--keep", type=Path, help="use this database; make it where it is not there"
    )
    parser.add_argument("--write", type=Path, help="put the section into this page")
    parser.add_argument("--only-rates", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    root = Path(tempfile.mkdtemp(prefix="bench-log-", dir=options.dir))
    try:
        if options.only_rates:
            asyncio.run(rates(root))
            return 0
        path = options.keep or root / "log.db"
        made = not path.exists()
        if made:
            free = shutil.disk_usage(path.parent).free
            if free < 2 * options.rows * BYTES_A_ROW:
                print(f"SKIPPED: {free / 1e9:.0f} GB free: give fewer --rows")
                return 0
            print(f"filled in {fill(path, options.rows, END):.0f} s", flush=True)
        page_rows, report_rows, counted_s = asyncio.run(look(path, options.times))
        if options.keep and not made:
            counted_s = 0.0  # that was done when it was made
        found = {"pages": page_rows, "reports": report_rows, "counted_s": counted_s}
        found["rates"] = asyncio.run(rates(root))
        section = page(options.rows, path.stat().st_size, found)
        if options.write:
            put(options.write, section)
    finally:
        shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
