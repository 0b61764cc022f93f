"""Nothing stays ongoing for ever: closes the tunnels that nobody will report, when their time is up.

Law: while the run of the agent that serves a tunnel is connected, the end of the tunnel is the agent's
to report, however long it is detached; only once the client has said goodbye does the agent's time to
report run out. Control links and carriers die separately, so the absence of an agent's link ends no
tunnel that may live: an agent that is gone is waited for for seconds where its process is known to have
ended, and for as long as tunnels are kept where it is not; a tunnel that a relay carries, or that was
last seen on a direct carrier, which the server cannot see, is closed only when that time is up, or when
its client has seen its agent's own stream end. An agent that came back as a new run has time to report
what the old one left. What is closed may be revised later by a party that knows better, and is reopened
where the agent's run comes back and still serves it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectionMethod, Party, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.tasks import Tasks
from tether.server.connlog.log import ConnectionLog
from tether.server.connlog.rows import ClientLeft, ClientLostAgent, Event, RowClosed
from tether.server.connlog.runs import PreviousRun
from tether.server.db.store import StoreUnavailable
from tether.server.db.tables.connections import ConnectionRow
from tether.server.settings import Graces

SWEEP_EVERY_S = 30.0
"""How often unused grants and orphaned IDE sessions are looked for."""

MAX_JOURNALS = 10_000
"""Agents that are waited for; beyond that, the wait of the longest gone is over."""

AGAIN_S = 5.0
"""When to look again at what could not be closed: a relay carries it, or the database cannot write."""

_log = get_logger("janitor")


@dataclass(slots=True)
class _Gone:
    """An agent that is waited for. Monotonic seconds, except `since_wall`."""

    since: float
    since_wall: float
    due: float
    """When to look again at its tunnels."""
    is_certain: Callable[[], bool]
    """Whether its process is known to have ended."""
    facts: tuple[ev.Evidence, ...] = ()


@dataclass(slots=True)
class _Here:
    """An agent that is there; `due`: when tunnels of its journal's earlier runs are closed."""

    instance_id: str
    due: float | None


class Janitor:
    """Closes tunnels when their time is up. Call `run` once."""

    def __init__(
        self,
        *,
        log: ConnectionLog,
        is_carried: Callable[[str], bool],
        end_left: Callable[[list[str]], Awaitable[None]],
        clock: Clock,
        graces: Graces,
    ) -> None:
        """
        Args:
            log: where tunnels are closed.
            is_carried: whether a relay carries a tunnel.
            end_left: has agents end tunnels that their clients have left, and that are closed here.
            clock: the time.
            graces: how long to wait for whom.
        """
        self._connections = log
        self._is_carried = is_carried
        self._end_left = end_left
        self._clock = clock
        self._graces = graces
        self._left: dict[str, float] = {}  # tunnel that its client left -> when it is closed
        self._lost_agent: set[str] = set()  # tunnels whose clients saw their agents' streams end
        self._gone: dict[str, _Gone] = {}  # by journal
        self._here: dict[str, _Here] = {}  # by journal
        self._changed = asyncio.Event()
        self._tasks = Tasks("janitor")

    def inherit(self, previous: PreviousRun) -> None:
        """The tunnels that the last run left open go on, if their agents come back."""
        now = self._clock.now()
        since = now.wall if previous.last_alive_at is None else previous.last_alive_at
        for journal_id in {tunnel.journal_id or "" for tunnel in previous.tunnels}:
            silent = journal_id in previous.silent
            due = now.mono + (self._graces.silent_s if silent else self._graces.restart_s)
            # who has not come back to a server that is there again for so long is gone
            self._gone[journal_id] = _Gone(now.mono, since, due, lambda: True, previous.death)
        self._changed.set()

    def log_changed(self, event: Event) -> None:
        """The connection log has changed."""
        match event:
            case ClientLeft(row, died=died):
                due = self._clock.now().mono + self._graces.report_s
                self._left.setdefault(row.connection_id, due)
                if died:  # its agent waits for somebody who cannot come, and is not told by anybody
                    self._tasks.spawn(self._tell_agent(row.connection_id), "tell-agent")
                self._changed.set()
            case ClientLostAgent(row):
                self._lost_agent.add(row.connection_id)
                if (gone := self._gone.get(row.journal_id or "")) is not None:
                    gone.due = min(gone.due, self._clock.now().mono)
                    self._changed.set()
            case RowClosed(row):
                self._left.pop(row.connection_id, None)
                self._lost_agent.discard(row.connection_id)
            case _:
                pass

    def agent_here(self, journal_id: str, instance_id: str) -> None:
        """An agent was welcomed."""
        self._gone.pop(journal_id, None)
        due = self._clock.now().mono + self._graces.report_s
        self._here[journal_id] = _Here(instance_id, due)
        self._changed.set()

    def agent_gone(self, journal_id: str, is_certain: Callable[[], bool]) -> None:
        """The last link of an agent is over; `is_certain` tells, when it was waited for, whether its
        process is known to have ended."""
        self._here.pop(journal_id, None)
        now = self._clock.now()
        due = now.mono + min(self._graces.agent_s, self._graces.silent_s)
        self._gone.pop(journal_id, None)
        self._gone[journal_id] = _Gone(now.mono, now.wall, due, is_certain)
        if len(self._gone) > MAX_JOURNALS:
            longest = next(iter(self._gone.values()))
            longest.due, longest.is_certain = now.mono, lambda: True
        self._changed.set()

    async def run(self) -> None:
        """Close what is due, until cancelled."""
        sweeping = self._tasks.keep(self._sweep, "sweep")
        try:
            while True:
                self._changed.clear()
                await self.close_due()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._until_next()):
                        await self._changed.wait()
        finally:
            sweeping.cancel()
            await self._tasks.cancel()

    def next_due(self) -> float | None:
        """When (monotonic seconds) something is to be closed; None: nothing is."""
        gone = [one.due for one in self._gone.values()]
        here = [one.due for one in self._here.values() if one.due is not None]
        return min((*self._left.values(), *gone, *here), default=None)

    def _until_next(self) -> float | None:
        due = self.next_due()
        return None if due is None else max(0.0, due - self._clock.now().mono)

    async def close_due(self) -> None:
        """Close what is due now."""
        now = self._clock.now().mono
        for connection_id in [c for c, due in self._left.items() if due <= now]:
            if await self._close(connection_id, (), None):
                self._left.pop(connection_id, None)
                await self._tell_agent(connection_id)
            elif connection_id in self._left:
                self._left[connection_id] = now + AGAIN_S
        for journal_id in [j for j, gone in self._gone.items() if gone.due <= now]:
            await self._give_up(journal_id, now)
        for journal_id in [
            j for j, here in self._here.items() if here.due is not None and here.due <= now
        ]:
            await self._close_earlier_runs(journal_id, now)

    async def _give_up(self, journal_id: str, now: float) -> None:
        """An agent has not come back in time: close those of its tunnels that cannot live any more."""
        gone = self._gone[journal_id]
        last = gone.since + self._graces.silent_s
        is_over = now >= last
        certain = is_over or gone.is_certain()
        never = ev.NeverReturned(
            vantage=Vantage.SERVER,
            at=self._clock.now().wall,
            party=Party.AGENT,
            waited_s=round(now - gone.since, 3),
        )
        facts = (never, *gone.facts)
        again = [] if certain else [last]
        for tunnel in await self._tunnels_of(journal_id, again, now):
            if self._is_carried(tunnel.connection_id):
                again.append(now + AGAIN_S)
            elif tunnel.connection_id not in self._lost_agent and not (
                is_over or (certain and not _may_be_direct(tunnel))
            ):
                again.append(last)
            elif not await self._close(tunnel.connection_id, facts, gone.since_wall):
                again.append(now + AGAIN_S)
        if self._gone.get(journal_id) is not gone:
            return  # it came back while we were at it
        if again:
            gone.due = min(again)
        else:
            del self._gone[journal_id]

    async def _close_earlier_runs(self, journal_id: str, now: float) -> None:
        """An agent's new run had its time to report what the old one left."""
        here = self._here[journal_id]
        again: list[float] = []
        for tunnel in await self._tunnels_of(journal_id, again, now):
            # what belonged to another run of an agent that is back cannot be carried any more
            if tunnel.agent_instance != here.instance_id and not await self._close(
                tunnel.connection_id, (), None
            ):
                again.append(now + AGAIN_S)
        here.due = min(again, default=None)

    async def _tunnels_of(
        self, journal_id: str, again: list[float], now: float
    ) -> list[ConnectionRow]:
        """A journal's ongoing tunnels; where they cannot be read now, `again` gets when to try."""
        try:
            tunnels = await self._connections.open_tunnels(journal_id=journal_id)
        except StoreUnavailable as wrong:
            _log.error("tunnels cannot be looked up now", error=str(wrong))
            again.append(now + AGAIN_S)
            return []
        return [one for one in tunnels if one.is_ongoing]

    async def _close(
        self, connection_id: str, facts: tuple[ev.Evidence, ...], ended_at: float | None
    ) -> bool:
        try:
            await self._connections.close_tunnel(connection_id, facts, ended_at=ended_at)
        except StoreUnavailable as wrong:
            _log.error("a tunnel's row cannot be closed now", error=str(wrong))
            return False
        return True

    async def _tell_agent(self, connection_id: str) -> None:
        try:
            await self._end_left([connection_id])
        except StoreUnavailable as wrong:  # done when the agent is welcomed the next time
            _log.error("a tunnel that its client left cannot be looked up now", error=str(wrong))

    def is_spared(self, tunnel: ConnectionRow) -> bool:
        """A grant that may have been used: a relay carries it, or its agent may still report it."""
        return self._is_carried(tunnel.connection_id) or tunnel.journal_id in self._gone

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                forgotten = await self._connections.forget_unused(self.is_spared)
                await self._connections.close_orphans()
            except StoreUnavailable as wrong:
                _log.error("unused grants cannot be forgotten now", error=str(wrong))
                continue
            if forgotten:
                _log.debug("unused grants forgotten", count=forgotten)


def _may_be_direct(tunnel: ConnectionRow) -> bool:
    """Whether a carrier may live that the server cannot see."""
    return tunnel.connection_method is ConnectionMethod.DIRECT and tunnel.detached_since is None
