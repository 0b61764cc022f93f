"""Rows of the connection log without a database."""

from __future__ import annotations

from typing import Any

import msgspec

from tether.attribution.classify import Verdict
from tether.server.connlog.judge import columns_of
from tether.server.db.tables.connections import ConnectionRow


def connection_row(connection_id: str = "c1", **more: Any) -> ConnectionRow:
    """An ongoing tunnel, with what `more` says otherwise."""
    given = {
        "seq": 1,
        "connection_id": connection_id,
        "status": "ongoing",
        "connect_type": "agent_to_client",
        "type": "tunnel",
        "created_at": 1.0,
        "connected_at": 1.0,
        **more,
    }
    missing = {
        field.name: None
        for field in msgspec.structs.fields(ConnectionRow)
        if field.required and field.name not in given
    }
    return msgspec.convert({**missing, **given}, ConnectionRow)


def closed_row(verdict: Verdict, **more: Any) -> ConnectionRow:
    """A tunnel that was closed by this verdict."""
    columns = {**columns_of(verdict), "status": "closed", "disconnected_at": 2.0, **more}
    return connection_row(**columns)
