"""What this client saw, kept for the server: its journal, its machine, and what earlier ones left.

Law: a connection that is over within a moment pays for none of it but a look at the clocks, so that a
sleep in its first second is told as well. The journal and the watch over the network begin
`JOURNAL_AFTER_S` after the tunnel is up, that over the machine and the handing in of what dead
processes left `WATCH_AFTER_S` after; what waits for the disk is done in threads. What is not handed in
now, or not committed by the server, stays on the disk for the next client.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.records import from_record, to_record
from tether.attribution.staleness import heard_ago_s
from tether.attribution.vocabulary import Party, Vantage
from tether.config import ClientFiles
from tether.net.clock import Clock, Look, clocks_of, look
from tether.net.link.host_context import LazyHostContext
from tether.net.tasks import Tasks
from tether.protocol.messages.base import facts_of, records_of
from tether.protocol.messages.reports import Ended
from tether.version import VERSION

if TYPE_CHECKING:
    from tether.client.report.journal import ClientJournal, OrphanedJournal
    from tether.client.report.link_status import LinkNote, LinkState
    from tether.net.host.network import NetworkChange, NetworkWatch
    from tether.net.host.time import TimeEvent
    from tether.net.host.vital_signs import VitalSample
    from tether.net.host.watch import HostWatch

JOURNAL_AFTER_S = 0.2
WATCH_AFTER_S = 1.0
ALIVE_EVERY_S = 30.0
RECENT_S = 120.0
"""Later than this a risen counter says nothing of one process: a desktop shares its group."""


SAME_S = 0.5
"""Two readings of the clocks that are no further apart are of the same moment."""


class HandIn(Protocol):
    """The way to the server: hand in items of a journal; True once it has committed them."""

    async def hand_in(
        self, journal_id: str, items: list[Ended], *, wait_s: float = ...
    ) -> bool: ...


class ClientRecorder:
    """One connection's. `start` when the tunnel is up; `report` its end, once; `close` last.

    `keep_links` is given where to note what becomes of the control links; `on_time` and `on_network`
    are told what may have cut every connection of this machine.
    """

    def __init__(
        self,
        files: ClientFiles,
        url: str,
        *,
        instance_id: str,
        clock: Clock,
        server: HandIn,
        keep_links: Callable[[LinkNote], None] = lambda note: None,
        on_time: Callable[[TimeEvent], None] = lambda event: None,
        on_network: Callable[[NetworkChange], None] = lambda change: None,
    ) -> None:
        self._directory = files.directory / "journal"
        self._url = url
        self._instance = instance_id
        self._clock = clock
        self._server = server
        self._keep_links = keep_links
        self._on_time = on_time
        self._on_network = on_network
        self._clocks = clocks_of(os.environ)
        self._first: Look | None = None
        self._connection_id = ""
        self._started_at = clock.now().wall
        self._tasks = Tasks("witness")
        self._timers: list[asyncio.TimerHandle] = []
        self._journal: ClientJournal | None = None
        self._watch: HostWatch | None = None
        self._network: NetworkWatch | None = None
        self._noted: set[Evidence] = set()
        self._oom_kills: int | None = None
        self.host_context = LazyHostContext()

    def start(self, connection_id: str) -> None:
        """The tunnel is up."""
        self._connection_id = connection_id
        self._first = look(self._clocks)
        loop = asyncio.get_running_loop()
        self._timers = [
            loop.call_later(JOURNAL_AFTER_S, self._begin_journal),
            loop.call_later(WATCH_AFTER_S, self._begin_watch),
        ]

    async def report(self, ended: Ended, *, linger: Callable[[], float] = lambda: 0.0) -> bool:
        """The connection has ended: tell the server, or else the disk; whether the server knows.

        Whatever happened to this machine within the last minute is told with it. `linger` is asked
        how long to try on where the server is away: nobody may wait for us any more after that.
        """
        known = facts_of(ended.facts)
        ends = [fact for fact in known if isinstance(fact, ev.StreamEnded)]
        silence_s = max((heard_ago_s(end, known) or 0.0 for end in ends), default=0.0)
        around = [
            fact
            for fact in self.host_context.since(silence_s)
            if not any(_same(fact, other) for other in known)
        ]
        ended = msgspec.structs.replace(ended, facts=[*records_of(tuple(around)), *ended.facts])
        handed_in = await self._server.hand_in(self._instance, [ended])
        if handed_in:
            if self._journal is not None:
                await asyncio.to_thread(self._journal.settled)
        else:
            await self._begin()
            await asyncio.to_thread(self._begun().ended, msgspec.to_builtins(ended))
            if (wait_s := linger()) > 0:
                handed_in = await self._server.hand_in(self._instance, [ended], wait_s=wait_s)
            if handed_in:
                await asyncio.to_thread(self._begun().settled)
        return handed_in

    async def close(self) -> None:
        """Watch no more; what is in the journal stays for an heir."""
        for timer in self._timers:
            timer.cancel()
        if self._watch is not None:
            self._watch.stop()
        if self._network is not None:
            self._network.stop()
        await self._tasks.cancel()
        if self._journal is not None:
            self._journal.close()

    # -- the journal ---------------------------------------------------------------------

    def _begun(self) -> ClientJournal:
        from tether.client.report.journal import ClientJournal

        if self._journal is None:
            self._journal = ClientJournal(self._directory, self._instance)
        return self._journal

    async def _begin(self) -> None:
        journal = self._begun()
        if not journal.begun:
            await asyncio.to_thread(lambda: journal.begin(self._run(), self._connection_id))
            self._keep_links(self._note_link)

    def _note_link(self, connection_id: str, state: LinkState) -> None:
        self._begun().link(connection_id, msgspec.to_builtins(state))

    def _begin_journal(self) -> None:
        from tether.net.host.network import NetworkWatch

        self._network = NetworkWatch(self._on_network)
        self._network.start()
        self._tasks.spawn(self._begin(), "journal")
        self._tasks.keep(self._keep_alive, "alive")

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            if self._journal is not None:
                self._journal.alive()

    def _run(self) -> dict[str, Any]:
        from tether.net.host.cgroup import Cgroup
        from tether.net.host.identity import identify

        group = Cgroup()
        self._oom_kills = group.oom_kills()
        return {
            "instance_id": self._instance,
            "url": self._url,
            "pid": os.getpid(),
            "version": VERSION,
            "started_at": self._started_at,
            "boot_id": identify().boot_id,
            "memory_group": group.identity,
            "oom_kills": self._oom_kills,
        }

    # -- the machine ---------------------------------------------------------------------

    def _begin_watch(self) -> None:
        from tether.net.host.cgroup import Cgroup
        from tether.net.host.vital_signs import VitalSigns
        from tether.net.host.watch import HostWatch

        def on_time(event: TimeEvent) -> None:
            self._note_news()
            self._on_time(event)

        self._watch = watch = HostWatch(
            Party.CLIENT,
            clock=self._clock,
            clocks=self._clocks,
            vitals=VitalSigns(None, group=Cgroup()),
            on_time=on_time,
            network=self._network,
        )
        watch.on_sample = self._sampled
        watch.start(self._first)
        self.host_context.begin(watch)
        self._tasks.spawn(self._hand_in_estates(), "estates")

    def _sampled(self, sample: VitalSample) -> None:
        """A kill for memory that we have survived will not explain our own death."""
        before, kills = self._oom_kills, sample.group.oom_kills
        if kills is None:  # not told this time: that says nothing
            return
        self._oom_kills = kills
        if self._journal is not None and before is not None and before != kills:
            self._journal.survived(kills)

    def _note_news(self) -> None:
        """Sleep and stalls go into the journal at once: this process may not live to tell."""
        if self._watch is None or self._journal is None:
            return
        for fact in self._watch.remembered:
            if fact not in self._noted:
                self._noted.add(fact)
                self._journal.note(to_record(fact))

    # -- what others left ----------------------------------------------------------------

    async def _hand_in_estates(self) -> None:
        from tether.client.report.journal import estates

        now = self._clock.now().wall
        left = await asyncio.to_thread(estates, self._directory, self._url, now)
        try:
            for estate in left:
                for journal_id, item in await asyncio.to_thread(testament, estate, self._clock):
                    if not await self._server.hand_in(journal_id, [item]):
                        return
                await asyncio.to_thread(estate.settled)
        finally:
            for estate in left:
                estate.close()


def _same(fact: Evidence, other: Evidence) -> bool:
    """Whether two facts tell of the same. A stream that has ended knows its own address, and so more of
    a change of addresses; what is handed in twice has its time from two readings of the clocks."""
    if type(fact) is not type(other) or abs(fact.at - other.at) > SAME_S:
        return False
    if isinstance(fact, ev.AddressChanged):
        fact = replace(fact, ours=getattr(other, "ours", False))
    return replace(fact, at=other.at) == other


def testament(estate: OrphanedJournal, clock: Clock) -> list[tuple[str, Ended]]:
    """What to tell the server of a process that is gone, each under the name of its journal: of its
    tunnel, of the control links whose ends it could not tell, and of the one that died with it."""
    from tether.client.report.link_status import LinkStatus

    instance_id, connection_id = str(estate.run["instance_id"]), str(estate.run["connection_id"])
    lost = [
        (id, msgspec.convert(end, Ended))
        for id, end in estate.links.items()
        if end != LinkStatus.UP
    ]
    if estate.end is not None:  # it left in order: a link that was up has heard its goodbye
        return [(instance_id, msgspec.convert(estate.end, Ended)), *lost]
    facts = records_of(
        (*(from_record(record) for record in estate.facts), _death(estate, clock)),
    )
    died_with_it = [
        connection_id,
        *(id for id, end in estate.links.items() if end == LinkStatus.UP),
    ]
    ends = [Ended(connection_id=id, at=estate.last_alive_at, facts=facts) for id in died_with_it]
    return [(instance_id, ends[0]), *((end.connection_id, end) for end in ends[1:]), *lost]


def _death(estate: OrphanedJournal, clock: Clock) -> ev.PreviousRunDied:
    from tether.net.host.cgroup import oom_kills_of
    from tether.net.host.identity import identify
    from tether.net.host.kernel_log import oom_victims

    run, now, boot_id = estate.run, clock.now(), identify().boot_id
    rebooted = bool(boot_id and run.get("boot_id") and boot_id != run["boot_id"])
    victims = None if rebooted else oom_victims()
    before, after = run.get("oom_kills"), oom_kills_of(str(run.get("memory_group", "")))
    rise: int | None = None
    if victims is not None:
        killed_at = victims.get(int(run.get("pid", 0)), float("-inf"))
        rise = int(killed_at >= now.mono - (now.wall - float(run["started_at"])))
    elif before is not None and after is not None and now.wall - estate.last_alive_at < RECENT_S:
        rise = max(0, after - before)
    return ev.PreviousRunDied(
        vantage=Vantage.CLIENT,
        at=now.wall,
        party=Party.CLIENT,
        host_rebooted=rebooted,
        last_alive_at=estate.last_alive_at,
        oom_kills=rise,
        oom_named=victims is not None and bool(rise),
    )
