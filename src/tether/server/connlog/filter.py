"""Which connections somebody asks for. Law: values only."""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution.vocabulary import ConnectionType, Initiator, Reason
from tether.server.db.tables.connections import ConnectionStatus

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_FILES = 10_000
"""File operations that one answer lists at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFilter:
    """Which connections to list. None: any.

    `since` and `until` (unix seconds) frame a span of time; a connection matches if it lived within
    it: it began (`created_at`) before `until`, and is still open or ended at or after `since`.
    """

    workspace: str | None = None
    user: str | None = None
    type: ConnectionType | None = None
    reason: Reason | None = None
    cause: str | None = None
    initiator: Initiator | None = None
    expected: bool | None = None
    status: ConnectionStatus | None = None
    since: float | None = None
    until: float | None = None
    incident: str | None = None
    limit: int = DEFAULT_LIMIT
