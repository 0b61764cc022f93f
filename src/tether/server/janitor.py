"""Nothing stays ongoing for ever: closes the tunnels that nobody reports, when their time is up.

Law: a tunnel that the relay still carries is never closed here. One that is over is given the agent's
time to report; one whose agent is gone, the agent's time to come back; an agent that came back, the
time to report anew. What is closed here may be revised by whoever knows better, later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.tasks import Tasks
from tether.server.connlog import ConnectionLog
from tether.server.records import OpenTunnel
from tether.server.settings import Graces
from tether.server.store import StoreUnavailable

SWEEP_EVERY_S = 30.0
"""How often unused grants and orphaned IDE sessions are looked for."""

SAME_MOMENT_S = 1.0
"""A dying agent's legs and links end one after another, within this."""

MAX_JOURNALS = 10_000
RETRY_S = 5.0

_log = get_logger("janitor")


@dataclass(slots=True)
class _Awaited:
    """A tunnel that is over, whose end nobody has reported. Times are monotonic seconds."""

    journal_id: str
    over_at: float
    ended_at: float | None
    not_before: float = 0.0


class Janitor:
    """See the module's law. Call `run` once; tell it what happens through the other methods."""

    def __init__(
        self,
        *,
        log: ConnectionLog,
        lives: Callable[[str], bool],
        clock: Clock,
        graces: Graces,
    ) -> None:
        """`lives` asks the relay whether a tunnel is joined."""
        self._connections, self._lives, self._clock, self._graces = log, lives, clock, graces
        self._awaited: dict[str, _Awaited] = {}
        self._here_since: dict[str, float] = {}
        self._gone_since: dict[str, float] = {}
        self._started_at = clock.now().mono
        self._changed = asyncio.Event()
        self._tasks = Tasks("janitor")

    def inherit(self, tunnels: Iterable[OpenTunnel], ended_at: float | None) -> None:
        """The tunnels that the last run left open: the relay that carried them is gone."""
        for tunnel in tunnels:
            self._awaited[tunnel.connection_id] = _Awaited(
                tunnel.journal_id, self._started_at, ended_at
            )
        self._changed.set()

    def tunnel_over(self, connection_id: str, journal_id: str) -> None:
        """The relay saw a tunnel end, and its row is still open."""
        self._awaited[connection_id] = _Awaited(journal_id, self._clock.now().mono, None)
        self._changed.set()

    def closed(self, connection_id: str) -> None:
        """A row was closed."""
        self._awaited.pop(connection_id, None)

    def agent_here(self, journal_id: str) -> None:
        """An agent was welcomed."""
        self._gone_since.pop(journal_id, None)
        self._here_since[journal_id] = self._clock.now().mono
        self._changed.set()

    def agent_gone(self, journal_id: str) -> None:
        """The last link of an agent is over."""
        self._here_since.pop(journal_id, None)
        self._gone_since[journal_id] = self._clock.now().mono
        while len(self._gone_since) > MAX_JOURNALS:
            del self._gone_since[next(iter(self._gone_since))]
        self._changed.set()

    async def run(self) -> None:
        """Close what is due, until cancelled."""
        sweeping = self._tasks.spawn(self._sweep(), "sweep")
        try:
            while True:
                self._changed.clear()
                await self._close_due()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._until_next()):
                        await self._changed.wait()
        finally:
            sweeping.cancel()
            await self._tasks.cancel()

    def due_at(self, awaited: _Awaited) -> float:
        """When to wait no longer (monotonic seconds)."""
        reported_by = awaited.over_at + self._graces.report_s
        here_since = self._here_since.get(awaited.journal_id)
        if here_since is not None:
            due = max(reported_by, here_since + self._graces.report_s)
        else:
            back_by = self._gone_since_of(awaited.journal_id) + self._graces.agent_s
            due = min(reported_by, max(back_by, awaited.over_at))
        return max(due, awaited.not_before)

    def _gone_since_of(self, journal_id: str) -> float:
        return self._gone_since.get(journal_id, self._started_at)

    def _until_next(self) -> float | None:
        due = min((self.due_at(one) for one in self._awaited.values()), default=None)
        return None if due is None else max(0.0, due - self._clock.now().mono)

    async def _close_due(self) -> None:
        now = self._clock.now().mono
        due = [c for c, awaited in self._awaited.items() if self.due_at(awaited) <= now]
        for connection_id in due:
            awaited = self._awaited.pop(connection_id, None)
            if awaited is None or self._lives(connection_id):
                continue
            try:
                await self._connections.close_tunnel(
                    connection_id, self._facts(awaited), ended_at=awaited.ended_at
                )
            except StoreUnavailable as wrong:
                _log.error("a tunnel's row cannot be closed now", error=str(wrong))
                awaited.not_before = self._clock.now().mono + RETRY_S
                self._awaited[connection_id] = awaited

    def _facts(self, awaited: _Awaited) -> tuple[ev.Evidence, ...]:
        if awaited.journal_id in self._here_since:
            return ()
        now = self._clock.now()
        waited_s = now.mono - self._gone_since_of(awaited.journal_id)
        if waited_s < self._graces.agent_s - SAME_MOMENT_S:
            return ()
        return (
            ev.NeverReturned(
                vantage=Vantage.SERVER,
                at=now.wall,
                party=Party.AGENT,
                waited_s=round(waited_s, 3),
            ),
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                forgotten = await self._connections.forget_unused(self._lives)
                await self._connections.close_orphans()
            except StoreUnavailable as wrong:
                _log.error("unused grants cannot be forgotten now", error=str(wrong))
                continue
            if forgotten:
                _log.debug("unused grants forgotten", count=forgotten)
