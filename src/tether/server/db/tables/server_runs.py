"""The tables of the server's own state: its runs, its place in each journal, its last probe."""

from __future__ import annotations

from tether.server.db.tables.base import BigInt, IntKey, Key, Row, table


class ServerRunRow(Row, frozen=True, kw_only=True):
    run_id: Key  # the server's instance id
    started_at: float
    last_alive_at: float
    stopped_cleanly_at: float | None  # NULL: it died, or it still runs
    version: str = ""  # of the server; '' where it was not kept yet


runs = table("runs", ServerRunRow)


class ReportCursorRow(Row, frozen=True, kw_only=True):
    journal_id: Key
    reporter: Key  # an agent's workspace_id, or `user:NAME`
    seq: BigInt  # applied up to and including this item
    updated_at: float


report_cursors = table("report_cursors", ReportCursorRow)
"""Keyed by both, so that nobody can move another's cursor by naming another's journal."""


class HealthRow(Row, frozen=True, kw_only=True):
    id: IntKey
    checked_at: float


health = table("health", HealthRow)
"""One row that `/readyz` writes, to know that a write works."""
