"""Path events of a tunnel, as its agent reports them: none of them is an end.

Law: types only. Detached is not disconnected; a row shows it, and its history is kept, bounded.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class PathWord(StrEnum):
    """What happened to a tunnel's way."""

    USED = "used"  # the first carrier, or another one took over without a gap
    LOST = "lost"  # a carrier ended that was not the one in use
    DETACHED = "detached"  # the carrier in use ended, and no other is there
    RESUMED = "resumed"  # a carrier is in use again, after `gap_s`


class PathRecord(msgspec.Struct, frozen=True, kw_only=True, tag="path", omit_defaults=True):
    """One path event. `how` and the rest of the stream's end are set for `lost` and `detached`."""

    connection_id: str
    at: float
    event: str
    """A `PathWord` word."""
    carrier: int
    method: str
    """A `ConnectionMethod` word."""
    where: str = ""
    """The DERP region, or the endpoint."""
    peer: str = ""
    """Whose stream ended: the relay's own, or the other end's (as the relay or we saw it)."""
    how: str = ""
    """A `StreamEnd` word."""
    errno: str = ""
    gap_s: float = 0.0
    resent_bytes: int = 0
