"""The connection log: every connection from its grant to its attributed end, and every revision.

Law: the one writer of the tables of connections and of what ran over them, and of `runs`. A log line,
a metric and a waiter learn of a change only after it is committed, and of each change once.
Times are the server's receipt times; the times that others report are evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from typing import TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.derp.splice import CarrierEnding
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.base import Garbage
from tether.protocol.messages.control import Hello
from tether.protocol.messages.reports import Report
from tether.protocol.token_bucket import TokenBuckets
from tether.server.connlog import ide_rows, ingest, own_words, path_rows, rows, runs
from tether.server.connlog.filter import RowSearch
from tether.server.connlog.judge import Testimony
from tether.server.connlog.live import LiveFeed
from tether.server.connlog.publish import Publisher
from tether.server.connlog.queries.explain import last_agent_end
from tether.server.connlog.records import (
    IS_ONGOING,
    IS_OPEN,
    IS_PENDING,
    IS_TUNNEL,
    NewConnection,
    find,
    find_all,
    find_tunnel,
)
from tether.server.connlog.rejudge import Rejudged, rejudge_all
from tether.server.connlog.rows import Event
from tether.server.connlog.testimonies import (
    add_testimony,
    has_carriers_end,
    last_carriers_end,
)
from tether.server.connlog.withdrawn import (
    WithdrawnTunnel,
    not_to_be_served,
    withdrawn_tunnels,
)
from tether.server.db.store import Store, StoreUnavailable
from tether.server.db.tables.activity import file_operations, forwards, sessions
from tether.server.db.tables.connections import (
    ConnectionRow,
    ConnectionStatus,
    connections,
    evidence,
    path_events,
    revisions,
)
from tether.server.identity import Identity
from tether.server.metrics import Metrics, ReportOutcome

PENDING_LIFE_S = 120.0
"""A grant that nobody used is forgotten after this: a failed dial is not a disconnect."""

MAX_ITEMS = 1024
"""Items of one report; ours have 256 at most."""

ITEMS_AT_ONCE = 32
"""Items of a report that are applied in one transaction: others write between two of them."""

ITEMS_BURST, ITEMS_PER_S, MAX_PAUSE_S = 4_000, 200.0, 10.0
"""Items that one reporter may report at once, and a second from then on; beyond that its reports wait,
each at most so long that its link does not look dead."""

MAX_REPORTERS = 10_000

RETRY_S = 0.5
RETRY_AT_MOST_S = 30.0

BELONGINGS = (evidence, revisions, sessions, forwards, file_operations, path_events)
"""The tables of what belongs to one connection."""

T = TypeVar("T")
_log = get_logger("connections")


class ConnectionLog:
    """The record of connections. Fulfils the relay's `CarrierLog`."""

    def __init__(self, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._publisher = Publisher(metrics)
        self.live = LiveFeed()
        self.subscribe(self.live.publish)
        self._kinds_not_kept: set[str] = set()  # of report items; each is logged once
        self._reporting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._items = TokenBuckets(burst=ITEMS_BURST, per_s=ITEMS_PER_S, most=MAX_REPORTERS)
        self._waiting = 0  # writes that wait for the database to work again

    def subscribe(self, observer: Callable[[Event], None]) -> None:
        """Call `observer` with each change from now on, after it is committed."""
        self._publisher.subscribe(observer)

    def publish(self, events: Iterable[Event]) -> None:
        """These changes are committed: log and count them, and pass them to waiters and subscribers."""
        self._publisher.publish(events)

    # -- runs of the server -----------------------------------------------------------------

    async def start_run(
        self,
        run_id: str,
        *,
        booted_at: float | None,
        death_of: runs.DeathOf = runs.no_black_box,
    ) -> runs.PreviousRun:
        """Begin this run, and close what the last one left open and cannot go on.

        Args:
            run_id: this run's instance id.
            booted_at: when the host booted; None where that is not known.
            death_of: what the black box knows of the last run.
        """
        now = self._clock.now().wall
        found, events = await self._store.write(
            lambda tx: runs.begin(tx, run_id, now=now, booted_at=booted_at, death_of=death_of)
        )
        still_open = len(found.tunnels) + found.pending + found.children
        self._metrics.connections_open.set(still_open + len(events))
        self.publish(events)
        return found

    async def beat(self, run_id: str) -> None:
        """Note that this run lives."""
        now = self._clock.now().wall
        await self._store.write(lambda tx: runs.beat(tx, run_id, now))

    async def end_run(self, run_id: str) -> None:
        """Note that this run stopped in order. Call last, when every row is settled."""
        now = self._clock.now().wall
        await self._store.write(lambda tx: runs.end(tx, run_id, now))

    # -- beginnings -------------------------------------------------------------------------

    async def grant(self, new: NewConnection) -> None:
        """A tunnel was granted: its row is pending until the tunnel is joined."""
        await self._insert(new, ConnectionStatus.PENDING)

    async def open(self, new: NewConnection) -> None:
        """A connection is up from the start (control links)."""
        await self._insert(new, ConnectionStatus.ONGOING)

    async def _insert(self, new: NewConnection, status: ConnectionStatus) -> None:
        now = self._clock.now().wall
        ongoing = status is ConnectionStatus.ONGOING

        async def work(tx: AsyncConnection) -> list[Event]:
            await tx.execute(
                insert(connections).values(
                    **asdict(new),
                    status=status,
                    created_at=now,
                    connected_at=now if ongoing else None,
                )
            )
            row = await find(tx, new.connection_id)
            return [rows.RowOpened(row)] if ongoing and row is not None else []

        events = await self._store.write(work)
        self._metrics.connections_open.inc()
        self.publish(events)

    async def carrier_joined(self, carrier: CarrierId) -> None:
        """A relay has joined two legs: the tunnel is up once its agent has reported it open."""

    async def forget_unused(self, spared: Callable[[ConnectionRow], bool]) -> int:
        """Delete the grants that nobody used in time; how many there were."""
        before = self._clock.now().wall - PENDING_LIFE_S

        async def work(tx: AsyncConnection) -> int:
            found = await find_all(tx, IS_PENDING, connections.c.created_at < before)
            unused = [row.connection_id for row in found if not spared(row)]
            for table in (*BELONGINGS, connections):
                await tx.execute(delete(table).where(table.c.connection_id.in_(unused)))
            return len(unused)

        forgotten = await self._store.write(work)
        self._metrics.connections_open.dec(forgotten)
        return forgotten

    # -- ends -------------------------------------------------------------------------------

    async def close_control(
        self, connection_id: str, facts: Iterable[ev.Evidence], symptoms: Iterable[ev.Evidence]
    ) -> None:
        """A control link is over; `facts` and `symptoms` are those of its close cell."""
        now = self._clock.now().wall
        testimony = Testimony(Vantage.SERVER, now, tuple(facts), tuple(symptoms))

        async def work(tx: AsyncConnection) -> list[Event]:
            row = await find(tx, connection_id)
            if row is None:
                return []
            await add_testimony(tx, connection_id, testimony)
            events = await rows.settle(tx, row, ended_at=now, now=now)
            for event in tuple(events):
                events += await rows.rejudge_same_host(tx, event.row, now)
            return events

        self.publish(await self._surely(work))

    async def learned(self, connection_id: str, fact: ev.Evidence) -> None:
        """One more fact is known of a control link that is over: judge it again."""
        await self.close_control(connection_id, (fact,), ())

    async def carrier_ended(self, carrier: CarrierId, ending: CarrierEnding) -> None:
        """A relay's carrier is over: keep what it saw. The tunnel ends when its agent reports that."""
        now = self._clock.now().wall
        connection_id = carrier.connection_id
        seen = Testimony(Vantage.RELAY, now, ending.facts, ending.symptoms, carrier.number)

        async def work(tx: AsyncConnection) -> list[Event]:
            row = await find_tunnel(tx, connection_id)
            if row is None or await has_carriers_end(tx, connection_id, carrier.number):
                return []  # a relay that was cut off reports it again
            await add_testimony(tx, connection_id, seen)
            closed = row.is_closed
            if not (closed and (row.rx_bytes or row.tx_bytes)):  # the agent's sums are better
                await tx.execute(
                    update(connections)
                    .where(connections.c.connection_id == connection_id)
                    .values(
                        rx_bytes=connections.c.rx_bytes + ending.rx_bytes,
                        tx_bytes=connections.c.tx_bytes + ending.tx_bytes,
                    )
                )
            if not closed:
                await path_rows.carrier_ended(tx, row, carrier.number, now)
                return []
            return await rows.settle(tx, row, ended_at=now, now=now)

        self.publish(await self._surely(work))

    async def close_tunnel(
        self, connection_id: str, facts: Iterable[ev.Evidence], *, ended_at: float | None = None
    ) -> None:
        """Close a tunnel that its agent does not report, with `facts` of the server's own."""
        now = self._clock.now().wall
        own = tuple(facts)

        async def work(tx: AsyncConnection) -> list[Event]:
            row = await find(tx, connection_id)
            if row is None or row.is_closed:
                return []
            return await self._close(tx, row, own, now, ended_at)

        self.publish(await self._store.write(work))

    async def announce(self, connection_ids: Collection[str], said: ev.GoodbyeSaid) -> None:
        """Put on file what the server has an agent end these tunnels for, before it is told: an agent's
        own word for that is hearsay."""
        now = self._clock.now().wall
        await self._store.write(lambda tx: own_words.announce(tx, connection_ids, said, now))

    async def close_orphans(self) -> None:
        """Close the IDE sessions whose connection is over and whose end nobody reports."""
        now = self._clock.now().wall
        self.publish(await self._store.write(lambda tx: ide_rows.close_orphans(tx, now=now)))

    async def reconcile(
        self,
        workspace_id: str,
        journal_id: str,
        known: Collection[str],
        is_carried: Callable[[str], bool],
        instance_id: str = "",
    ) -> None:
        """An agent is back: close what its journal should know of and does not.

        A tunnel that a relay carries may be so new that the agent's hello could not name it; that of
        another run of the agent is over, whatever its carriers look like."""
        now = self._clock.now().wall
        missing = ev.ReportMissing(vantage=Vantage.SERVER, at=now, party=Party.AGENT)

        async def work(tx: AsyncConnection) -> list[Event]:
            events: list[Event] = []
            mine = connections.c.workspace_id == workspace_id
            its = connections.c.journal_id == journal_id
            for row in await find_all(tx, IS_TUNNEL, IS_ONGOING, mine, its):
                of_this_run = row.agent_instance in (None, instance_id)
                if row.connection_id in known or (of_this_run and is_carried(row.connection_id)):
                    continue
                events += await self._close(tx, row, (missing,), now)
            return events

        self.publish(await self._store.write(work))

    async def reopen(self, journal_id: str, instance_id: str, serving: Collection[str]) -> None:
        """A run of an agent has come back and serves these: where one was closed for its absence, it
        goes on."""
        now = self._clock.now().wall

        async def work(tx: AsyncConnection) -> list[Event]:
            events: list[Event] = []
            for connection_id in serving:
                row = await find_tunnel(tx, connection_id)
                if row is None or not row.is_closed or row.journal_id != journal_id:
                    continue
                if row.agent_instance != instance_id:
                    continue
                returned = ev.PeerReturned(
                    vantage=Vantage.SERVER,
                    at=now,
                    party=Party.AGENT,
                    after_s=round(max(0.0, now - (row.disconnected_at or now)), 3),
                    same_run=True,
                )
                events += await rows.reopen(tx, row, returned, now)
            return events

        if serving:
            self.publish(await self._store.write(work))

    async def _close(
        self,
        tx: AsyncConnection,
        row: ConnectionRow,
        facts: tuple[ev.Evidence, ...],
        now: float,
        ended_at: float | None = None,
    ) -> list[Event]:
        """Close a tunnel and its IDE sessions: when a relay saw its last carrier end, or `ended_at`."""
        if facts:
            await add_testimony(tx, row.connection_id, Testimony(Vantage.SERVER, now, facts))
        seen_at = await last_carriers_end(tx, row.connection_id)
        at = next((time for time in (seen_at, ended_at) if time is not None), now)
        events = await rows.settle(tx, row, ended_at=at, now=now)
        return events + await ide_rows.close_orphans(tx, now=now, of=row)

    async def _surely(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What only this run knows is written as soon as the database works again."""
        delay = RETRY_S
        while True:
            try:
                return await self._store.write(work)
            except StoreUnavailable as wrong:
                if not self._waiting:  # thousands of links may end with the database
                    _log.error("the connection log cannot be written", error=str(wrong))
                self._waiting += 1
                try:
                    await asyncio.sleep(delay)
                finally:
                    self._waiting -= 1
                delay = min(delay * 2, RETRY_AT_MOST_S)

    # -- reports and returns ----------------------------------------------------------------

    async def apply(self, reporter: ingest.Reporter, report: Report) -> int:
        """Apply a report; committed when this returns.

        Returns:
            The number up to which the journal may forget.

        Raises:
            Garbage: the report makes no sense.
            StoreUnavailable: nothing was applied; the reporter is to send it again.
        """
        if len(report.items) > MAX_ITEMS:
            raise Garbage(f"a report of {len(report.items)} items, and {MAX_ITEMS} is the most")
        acked = 0
        turn = self._reporting.setdefault(reporter.key, asyncio.Lock())
        async with turn:  # one writer's turn at a time for each reporter, so that others get theirs
            now = self._clock.now().mono
            pause_s = self._items.of(reporter.key, now).take(now, len(report.items))
            if pause_s > 0:
                self._metrics.reported(ReportOutcome.DELAYED, len(report.items))
                await asyncio.sleep(min(pause_s, MAX_PAUSE_S))
            for part in ingest.parts_of(report, ITEMS_AT_ONCE):
                acked = await self._apply(reporter, part)
        return acked

    async def _apply(self, reporter: ingest.Reporter, report: Report) -> int:
        now = self._clock.now().wall
        applied = await self._store.write(lambda tx: ingest.apply(tx, reporter, report, now))
        self.publish(applied.events)
        self._publisher.count(applied.tallies)
        for outcome, items in applied.outcomes().items():
            self._metrics.reported(outcome, items)
        for kind in applied.not_kept - self._kinds_not_kept:
            self._kinds_not_kept.add(kind)
            _log.warning("report items not kept", kind=kind, reporter=reporter.key)
        if applied.refused:
            _log.warning(
                "report items refused",
                reporter=reporter.key,
                vantage=str(reporter.vantage),
                connection_ids=applied.refused[:10],
                count=len(applied.refused),
            )
        return applied.acked

    async def agent_returned(self, connection_id: str, hello: Hello) -> None:
        """An agent is welcomed on this link: judge again how its last one ended."""
        now = self._clock.now().wall
        events = await self._store.write(
            lambda tx: rows.agent_returned(tx, connection_id, hello.instance_id, hello.boot_id, now)
        )
        self.publish(events)

    async def client_returned(self, connection_id: str, returned: ev.PeerReturned) -> None:
        """The client of this control link is back: judge again how the link ended."""
        now = self._clock.now().wall
        events = await self._store.write(
            lambda tx: rows.client_returned(tx, connection_id, returned, now)
        )
        self.publish(events)

    async def rejudge(self, filters: RowSearch, viewer: Identity, *, write: bool) -> Rejudged:
        """Judge the closed rows that match by today's rules; with `write`, append what changes."""
        now = self._clock.now().wall
        found = Rejudged()
        async for found in rejudge_all(self._store, filters, viewer, write=write, now=now):
            self.publish(found.events)
        return found

    # -- what control links ask -------------------------------------------------------------

    async def open_tunnels(
        self,
        *,
        workspace_id: str | None = None,
        user: str | None = None,
        journal_id: str | None = None,
        token_ids: Collection[str] | None = None,
    ) -> Sequence[ConnectionRow]:
        """The tunnels of a workspace, a user, an agent's journal or clients' tokens that are not
        closed, the pending ones included."""
        where = [IS_TUNNEL, IS_OPEN]
        if workspace_id is not None:
            where.append(connections.c.workspace_id == workspace_id)
        if user is not None:
            where.append(connections.c.user == user)
        if journal_id is not None:
            where.append(connections.c.journal_id == journal_id)
        if token_ids is not None:
            where.append(connections.c.token_id.in_(token_ids))
        return await self._store.read(lambda tx: find_all(tx, *where))

    async def count_open_tunnels(self, user: str) -> int:
        """How many tunnels of a user are not closed, the pending ones included."""
        counted = (
            select(func.count())
            .select_from(connections)
            .where(IS_TUNNEL, IS_OPEN, connections.c.user == user)
        )
        return await self._store.read(lambda tx: tx.scalar(counted)) or 0

    async def find_tunnel(
        self, connection_id: str, user: str | None = None
    ) -> ConnectionRow | None:
        """The row of a tunnel; None if there is none (of `user`'s)."""
        return await self._store.read(lambda tx: find_tunnel(tx, connection_id, user))

    async def withdrawn_tunnels(self) -> list[WithdrawnTunnel]:
        """The ongoing tunnels whose user, token or browser was withdrawn or has run out."""
        now = self._clock.now().wall
        return await self._store.read(lambda tx: withdrawn_tunnels(tx, now))

    async def not_to_be_served(
        self, connection_ids: Collection[str], journal_id: str
    ) -> list[WithdrawnTunnel]:
        """Those of these tunnels of an agent that may not live, or that were ended in its absence."""
        now = self._clock.now().wall
        return await self._store.read(
            lambda tx: not_to_be_served(tx, connection_ids, journal_id, now)
        )

    async def left_by_clients(
        self, connection_ids: Collection[str]
    ) -> Sequence[tuple[ConnectionRow, str]]:
        """Those of these tunnels that their clients have left for good, and the causes they gave."""
        return await self._store.read(lambda tx: ingest.left_by_clients(tx, connection_ids))

    async def last_agent_end(self, workspace_id: str) -> str:
        """One sentence about how the workspace's last control link ended; "" if there was none."""
        return await self._store.read(lambda tx: last_agent_end(tx, workspace_id))

    async def wait_closed(self, connection_ids: Collection[str], timeout: float) -> set[str]:
        """Wait until all these rows are closed, at most `timeout` seconds; those that are not."""
        with self._publisher.waiting_for(connection_ids) as waiting:
            wanted = select(connections.c.connection_id).where(
                connections.c.connection_id.in_(list(waiting.left)), IS_OPEN
            )

            async def still_open(tx: AsyncConnection) -> set[str]:
                return set((await tx.execute(wanted)).scalars())

            waiting.left.intersection_update(await self._store.read(still_open))
            await waiting.until_closed(timeout)
        return waiting.left
