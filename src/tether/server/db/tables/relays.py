"""The tables about relays: their tokens, and the DERP map that was set.

Law: as `schema`, whose metadata they are in; whoever makes or compares the whole schema imports both.
"""

from __future__ import annotations

from sqlalchemy import Column, Double, Integer, String, Table

from tether.server.db.schema import JSON_COLUMN, metadata

__all__ = ["derp_map", "metadata", "relay_tokens"]

relay_tokens = Table(
    "relay_tokens",
    metadata,
    Column("token_id", String, primary_key=True),
    Column("token_hash", String, nullable=False, unique=True),  # SHA-256, hexadecimal
    Column("label", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", String, nullable=False),  # an actor
    Column("expires_at", Double),  # NULL: never
    Column("revoked_at", Double),
)
"""Tokens of standalone relays. They speak for no user, so they are not among the others."""

derp_map = Table(
    "derp_map",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1
    Column("regions", JSON_COLUMN, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("updated_by", String, nullable=False),
)
"""The regions that an administrator set through the API; no row: whatever registers is in use."""
