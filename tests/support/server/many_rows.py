"""A connection log of millions of rows, written with SQL in seconds.

Law: rows as the log would store them, without their evidence; causes come as often as they do in the
field. The same `rows` and `end` make the same log, ids apart.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from sqlalchemy import create_engine

from tether.attribution.causes.catalogue import CATALOGUE
from tether.server.db.migrate import migrate

DAYS, USERS, WORKSPACES = 365, 500, 1_000

FREQUENT = (
    "session.exit", "session.exit", "session.exit", "client.closed", "client.closed",
    "client.suspended", "client.unreachable", "client.vanished", "agent.vanished",
)  # fmt: skip
"""The everyday causes, and how often they come beside the rare ones."""


def fill(path: Path, rows: int, end: float) -> float:
    """Make a database with a year behind it.

    Triggers rest meanwhile: whoever opens the store migrates it, which counts in bulk.

    Args:
        path: of the SQLite file to make.
        rows: how many connections; each is closed.
        end: when the last of them ended, in unix seconds.

    Returns:
        The seconds that took.
    """
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as tx:
        migrate(tx, "0004")
    engine.dispose()
    began = time.monotonic()
    with sqlite3.connect(path) as raw:
        raw.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-400000"
        )
        raw.executemany(
            "INSERT INTO users (name, role, created_at) VALUES (?, 'member', 0)",
            [(f"u{n}",) for n in range(USERS)],
        )
        raw.executemany(
            "INSERT INTO workspaces (workspace_id, name, owner, state, created_at)"
            " VALUES (?, ?, ?, 'running', 0)",
            [(f"{n:032x}", f"w{n}", f"u{n % USERS}") for n in range(WORKSPACES)],
        )
        raw.execute(
            "CREATE TEMP TABLE causes"
            " (n INTEGER PRIMARY KEY, cause, reason, expected, initiator, coarse)"
        )
        weighted = [*FREQUENT * 40, *CATALOGUE]
        raw.executemany(
            "INSERT INTO causes VALUES (?, ?, ?, ?, ?, ?)",
            [
                (n, c.code, str(c.reason), c.expected, str(c.initiator), str(c.coarse_reason))
                for n, c in enumerate(CATALOGUE[code] for code in weighted)
            ],
        )
        indexes = [
            (name, sql)
            for name, sql in raw.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
                " AND tbl_name = 'connections'"
            )
        ]
        for name, _ in indexes:
            raw.execute(f"DROP INDEX {name}")
        span = DAYS * 86_400
        raw.execute(
            f"""
            WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {rows}),
            r AS (SELECT i, (i * 2654435761 >> 9) % 1000003 AS a, (i * 40503661 >> 5) % 999983 AS b,
                  (i * 97531 >> 3) % 100003 AS c, {end - span} + i * {span / rows} AS at FROM n)
            INSERT INTO connections (connection_id, status, connect_type, type, workspace_id,
                workspace, agent, user, client_ip, connection_method, journal_id, agent_instance,
                created_at, connected_at, disconnected_at, rx_bytes, tx_bytes, disconnect_reason,
                disconnect_expected, disconnect_initiator, disconnect_detail, disconnect_cause,
                disconnect_basis, disconnect_actor, coarse_reason, rule, revision, node_id,
                relay_region, confidence, incident_id, incident_key)
            SELECT lower(hex(randomblob(16))), 'closed', 'agent_to_client',
                CASE b % 10 WHEN 0 THEN 'sftp' WHEN 1 THEN 'port_forward' WHEN 2 THEN 'vscode'
                ELSE 'ssh' END, printf('%032x', a % {WORKSPACES}), 'w' || (a % {WORKSPACES}),
                'host', 'u' || ((a + CASE WHEN b % 8 THEN 0 ELSE 1 + c % 3 END) % {USERS}), '10.0.0.9',
                'derp', printf('%032x', a % {WORKSPACES}), 'run', at - c % 7200, at - c % 7200, at,
                1000, 2000, reason, expected, initiator, 'What was seen of its end, in a sentence.',
                cause, 'observed', '', coarse, 'some-rule', 1, 'boot-' || (a % 200),
                CASE b % 3 WHEN 0 THEN '1' WHEN 1 THEN '2' END, 'high',
                CASE WHEN b % 20 = 0 THEN printf('%032x', i / 400) END,
                CASE WHEN b % 20 = 0 THEN 'relay:1' END
            FROM r JOIN causes ON causes.n = (r.c / 3 + r.b) % {len(weighted)}
            """
        )
        raw.commit()
        for name, sql in indexes:  # those that the migration replaces need not be built
            replaced = name.endswith(("_seq", "_incident_id")) and "workspace_id" not in name
            raw.execute(f"{sql} WHERE 0" if replaced else sql)
    raw.close()
    return time.monotonic() - began
