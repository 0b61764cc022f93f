"""The states of this agent's life: each is entered once, in order, and goes to the server.

Law: a state goes through the journal, so that a missing link delays it and loses none. Only the
shutdown waits for a state to be written: for the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tether.log import get_logger
from tether.net.clock import Clock
from tether.protocol.messages.reports import FINAL, LifecycleRecord, LifecycleState, may_follow

_log = get_logger("agent")


class Lifecycle:
    """Enters and reports the states of one run of an agent, which may live more than once."""

    def __init__(
        self,
        post: Callable[[LifecycleRecord], asyncio.Future[int | None]],
        clock: Clock,
        *,
        instance_id: str,
    ) -> None:
        """`post` puts a record into the journal; its future is done once it is on the disk."""
        self._written: asyncio.Future[int | None] | None = None  # of the newest state
        self._post = post
        self._clock = clock
        self._instance_id = instance_id
        self.state: LifecycleState | None = None

    @property
    def is_over(self) -> bool:
        """Whether this life has ended; another one may begin."""
        return self.state in FINAL

    def enter(self, state: LifecycleState) -> None:
        """Be in `state` from now on, and say so."""
        if not may_follow(self.state, state):
            _log.warning(
                "attempted to set lifecycle state to a previous state",
                current=str(self.state),
                state=str(state),
            )
            return
        self.state = state
        at = self._clock.now().wall
        self._written = self._post(
            LifecycleRecord(instance_id=self._instance_id, at=at, state=state)
        )
        _log.info("lifecycle state", state=str(state))

    async def written(self) -> None:
        """Wait until the newest state is on the disk, or the disk has refused it."""
        if self._written is not None:
            await asyncio.wait({self._written})

    def come_up(self) -> None:
        """The workspace runs: begin a life if there is none, and be ready."""
        if self.state is None or self.is_over:
            self.enter(LifecycleState.CREATED)
        if self.state is LifecycleState.CREATED:
            self.enter(LifecycleState.STARTING)
            self.enter(LifecycleState.READY)

    def go_down(self) -> None:
        """Sessions are being ended. Nothing happens where that was so already."""
        if not self.is_over and self.state is not LifecycleState.SHUTTING_DOWN:
            self.enter(LifecycleState.SHUTTING_DOWN)

    def end(self, state: LifecycleState) -> None:
        """This life is over, in one of the ways of `FINAL`. Nothing happens where it was over."""
        if not self.is_over:
            self.enter(state)
