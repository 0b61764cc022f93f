"""The states of an agent's life, as it reports them to the server, and which may follow which.

Law: no I/O, no clock. A life goes forward only: it is `created` once and ends once, and what has ended
can only be followed by another life (a workspace that was stopped and started under one agent).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class LifecycleState(StrEnum):
    """In the order in which they may be entered; any of them may be left out."""

    CREATED = "created"  # the agent runs, and has not heard of its workspace
    STARTING = "starting"  # the server has welcomed it
    START_TIMEOUT = "start_timeout"  # what was to be done at the start took too long
    START_ERROR = "start_error"  # it failed
    READY = "ready"  # people may come
    SHUTTING_DOWN = "shutting_down"  # sessions are being ended
    SHUTDOWN_TIMEOUT = "shutdown_timeout"  # it is over, and the stop script took too long
    SHUTDOWN_ERROR = "shutdown_error"  # it is over, and the stop script failed
    OFF = "off"  # it is over


_ORDER = tuple(LifecycleState)
FINAL = frozenset(
    {LifecycleState.SHUTDOWN_TIMEOUT, LifecycleState.SHUTDOWN_ERROR, LifecycleState.OFF}
)


class LifecycleRecord(
    msgspec.Struct, frozen=True, kw_only=True, tag="lifecycle", omit_defaults=True
):
    """An agent entered a state. It is of no connection, so that `connection_id` is empty."""

    instance_id: str
    """The run of the agent."""
    at: float
    """Unix seconds, the agent's clock."""
    state: str
    """A `LifecycleState` word."""
    connection_id: str = ""


def may_follow(before: LifecycleState | None, state: LifecycleState) -> bool:
    """Whether `state` may be entered after `before` (None: nothing yet)."""
    if state is LifecycleState.CREATED:
        return before is None or before in FINAL
    if before is None or before in FINAL:
        return False
    return _ORDER.index(state) > _ORDER.index(before)
