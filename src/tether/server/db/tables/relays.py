"""The tables about relays: their tokens, and the DERP map that was set."""

from __future__ import annotations

from typing import Annotated, Any

from tether.server.db.tables.base import IntKey, Key, Row, column, table


class RelayTokenRow(Row, frozen=True, kw_only=True):
    token_id: Key
    token_hash: Annotated[str, column(unique=True)]  # SHA-256, hexadecimal
    label: str
    created_at: float
    created_by: str  # an actor
    expires_at: float | None  # NULL: never
    revoked_at: float | None


relay_tokens = table("relay_tokens", RelayTokenRow)
"""Tokens of standalone relays. They speak for no user, so they are not among the others."""


class DerpMapRow(Row, frozen=True, kw_only=True):
    id: IntKey  # 1
    regions: list[dict[str, Any]]
    updated_at: float
    updated_by: str


derp_map = table("derp_map", DerpMapRow)
"""The regions that an administrator set through the API; no row: whatever registers is in use."""
