"""What happened to this machine and this process lately, as facts for a link that ends now.

Law: collects and remembers, concludes nothing. Every fact is one about the party whose process this is.
Changes of the network are told from the point of view of one stream: whether the address that is gone
was its own, and whether the link that went down was the one that it ran over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import OomVictim, Party, Resource, Vantage
from tether.net.clock import Clock, Clocks, Look
from tether.net.host.kernel_log import oom_victims
from tether.net.host.network import NetworkChange, NetworkWatch
from tether.net.host.network_evidence import network_facts
from tether.net.host.pressure import PressureReading
from tether.net.host.time import ClockSet, Slept, Stalled, TimeEvent, TimeWatch
from tether.net.host.vital_signs import VitalSample, VitalSigns
from tether.net.unexpected import unexpected

LATELY_S = 60.0
"""Facts that are older than this are told only where a silence was longer."""

SAMPLE_EVERY_S = 1.0

KEPT = 64
"""Facts that are remembered."""

PRESSED = 10.0
"""Pressure is told where at least this share of the time was lost, in percent."""

NEARLY = 0.8
"""A pressure that is at least this share of the highest is as high as that."""

_SHARES: tuple[tuple[Resource, Callable[[PressureReading], float | None]], ...] = (
    (Resource.MEMORY, attrgetter("memory_full")),
    (Resource.IO, attrgetter("io_full")),
    (Resource.CPU, attrgetter("cpu_full")),
)

NAMED_S = 3600.0
"""Where the kernel's log names the pid of a child that was killed longer ago, it means another process:
pids are used again, and ours lived until now."""

CHILD_LATE_S = 2.0
"""How far apart the rise of the counter of kills and the end of the child that was killed may be
seen."""


class HostWatch:
    """Watches one process and its machine. Call `start` in the loop to be watched, and `stop` in it."""

    def __init__(
        self,
        party: Party,
        *,
        clock: Clock,
        clocks: Clocks,
        vitals: VitalSigns | None = None,
        with_network: bool = True,
        network: NetworkWatch | None = None,
        victims: Callable[[], Mapping[int, float] | None] = oom_victims,
        on_time: Callable[[TimeEvent], None] | None = None,
        on_network: Callable[[NetworkChange], None] | None = None,
    ) -> None:
        """Args: party: whose process this is. clock: for the times of facts. clocks: show sleep and
        steps of the wall clock. vitals: takes the samples; None to take none. with_network: whether to
        watch the network, too. network: a watch that was started before, instead of one of its own.
        victims: tells whom the kernel's log names as killed for memory; None where nobody may read it.
        on_time: is told at once what happened to time, for a caller that must act on it. on_network: is
        told at once what changed in the network.
        """
        self._party = party
        self._clock = clock
        self._vantage = Vantage(str(party))
        self.vitals = vitals
        self._on_time = on_time
        self.on_network = on_network
        """Called at each change of the network; may be set later."""
        self.time = TimeWatch(clocks, self._time_event)
        self.network = network or NetworkWatch(self._network_change)
        self._with_network = with_network and network is None
        self._facts: deque[tuple[float, Evidence]] = deque(maxlen=KEPT)  # with the loop's times
        self._sampling: asyncio.TimerHandle | None = None  # takes the next sample
        self._loop: asyncio.AbstractEventLoop
        self._out_of: set[Resource] = set()  # resources that have run out, and were told of
        self._child_killed_at = float("-inf")  # when SIGKILL last ended a child, by the loop's time
        self._claimed = 0  # the count of kills up to which each is some child's
        self._victims = victims
        self.on_sample: Callable[[VitalSample], None] = lambda sample: None
        """Called after each sample."""

    def start(self, since: Look | None = None) -> None:
        """Begin to watch; what happened to time since an earlier look is told, too."""
        self._loop = asyncio.get_running_loop()
        self.time.start(since)
        if self._with_network:
            self.network.start()
        if self.vitals is not None:
            self._sample()

    def stop(self) -> None:
        """End watching."""
        self.time.stop()
        self.network.stop()
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None

    @property
    def remembered(self) -> tuple[Evidence, ...]:
        """All facts that are kept."""
        return tuple(fact for _, fact in self._facts)

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        """What happened lately; see `HostContext`."""
        self.time.check()
        within_s = max(LATELY_S, silence_s + SAMPLE_EVERY_S)
        now, wall = self._loop.time(), self._now()
        told = [
            replace(fact, at=wall if _goes_on(fact, *self._out_of) else wall - (now - at))
            for at, fact in self._facts
            if now - at <= within_s
        ]
        told += network_facts(
            self.network, within_s, silence_s, local_address, self._party, self._vantage, wall
        )
        return [*told, *self._pressure()]

    def exhausted(self, of: Resource, where: str) -> None:
        """Keep as a fact that a resource has run out; `where` says of which limit or disk."""
        self._keep(
            ev.Exhausted(
                vantage=self._vantage, at=self._now(), party=self._party, resource=of, where=where
            )
        )

    def killed_for_memory(self, pid: int | None) -> bool:
        """Whether a child of ours that SIGKILL has just ended was killed because memory ran out.

        It was if the kernel's log names it, or, where that cannot be read, if the counter of our memory
        group has just risen. Each rise is counted for one child only.

        Args:
            pid: the child; None for a child of it, of which only the counter can tell.
        """
        self._child_killed_at = self._loop.time()
        for index, (at, fact) in enumerate(self._facts):
            if isinstance(fact, ev.OomKills) and self._child_killed_at - at <= CHILD_LATE_S:
                self._facts[index] = (at, replace(fact, victim=OomVictim.CHILD))
        rise = self._unclaimed_kills()
        if pid is not None and (victims := self._victims()) is not None:
            named = victims.get(pid, float("-inf")) >= self._clock.now().mono - NAMED_S
            self._claimed += int(named and rise > 0)
            return named
        self._claimed += int(rise > 0)
        return rise > 0

    def _unclaimed_kills(self) -> int:
        """By how much the counter rose in the last seconds, less what was counted for other children."""
        now = None if self.vitals is None else self.vitals.group.oom_kills()
        if self.vitals is None or now is None:
            return 0
        earliest = self._clock.now().wall - CHILD_LATE_S - SAMPLE_EVERY_S
        known = [
            sample.group.oom_kills
            for sample in self.vitals.ring
            if sample.at >= earliest and sample.group.oom_kills is not None
        ]
        before = max(known[0] if known else now, self._claimed)
        self._claimed = before
        return max(0, now - before)

    # -- what is seen ------------------------------------------------------------------

    def _time_event(self, event: TimeEvent) -> None:
        vantage, at, party = self._vantage, self._now(), self._party
        match event:
            case Slept(for_s=gap):
                self._keep(ev.Suspended(vantage=vantage, at=at, party=party, gap_s=gap))
            case Stalled(for_s=gap, cpu_s=cpu, waited_s=waited):
                self._keep(
                    ev.LoopStalled(
                        vantage=vantage,
                        at=at,
                        party=party,
                        gap_s=gap,
                        cpu_s=cpu,
                        waited_s=waited,
                        throttled_s=self._throttled(),
                    )
                )
            case ClockSet(by_s=delta):
                self._keep(ev.ClockStepped(vantage=vantage, at=at, party=party, delta_s=delta))
        if self._on_time is not None:
            self._on_time(event)

    def _network_change(self, change: NetworkChange) -> None:
        if self.on_network is not None:
            self.on_network(change)

    def _throttled(self) -> float | None:
        """For how many seconds our control group was throttled since the last sample."""
        if self.vitals is None or not self.vitals.ring:
            return None
        before = self.vitals.ring[-1].group.throttled_s
        now = self.vitals.group.read().throttled_s
        return None if before is None or now is None else now - before

    def _sample(self) -> None:
        self._sampling = self._loop.call_later(SAMPLE_EVERY_S, self._sample)
        try:
            self._take_sample()
        except Exception as wrong:  # a collector that fails costs a sample, and nothing else
            unexpected("a sample of the machine", wrong)

    def _take_sample(self) -> None:
        assert self.vitals is not None, "armed only with it"
        before = self.vitals.ring[-1] if self.vitals.ring else None
        sample = self.vitals.sample(self._now(), self.time.lag_s)
        if before is not None:
            self._compare(before, sample)
        self._note_shortage(Resource.DISK, sample.disk_full, str(self.vitals.directory or ""))
        limit = f"limit of {sample.descriptor_limit}"
        self._note_shortage(Resource.DESCRIPTORS, sample.out_of_descriptors, limit)
        self.on_sample(sample)

    def _compare(self, before: VitalSample, sample: VitalSample) -> None:
        kills = _rise(before.group.oom_kills, sample.group.oom_kills)
        if kills:
            recent = self._loop.time() - self._child_killed_at <= CHILD_LATE_S
            self._keep(
                ev.OomKills(
                    vantage=self._vantage,
                    at=sample.at,
                    party=self._party,
                    count=kills,
                    victim=OomVictim.CHILD if recent else OomVictim.OTHER,
                    scope=self.vitals.group.scope if self.vitals is not None else "",
                )
            )
        if _rise(before.group.forks_refused, sample.group.forks_refused):
            self.exhausted(Resource.PROCESSES, f"limit of {sample.group.process_limit}")

    def _note_shortage(self, of: Resource, short: bool, where: str) -> None:
        """Keep one fact for each time that a resource runs out, not one for each sample."""
        if short == (of in self._out_of):
            return
        if short:
            self.exhausted(of, where)
            self._out_of.add(of)
        else:
            now = self._loop.time()
            self._facts = deque(
                ((now if _goes_on(fact, of) else at, fact) for at, fact in self._facts),
                maxlen=KEPT,
            )
            self._out_of.discard(of)

    def _pressure(self) -> Iterator[Evidence]:
        """The highest pressure in the samples that are kept, where it is worth telling, each as of when
        it had last been about as high: a mean of ten seconds falls off only slowly after that."""
        ring = () if self.vitals is None else self.vitals.ring
        for of, share_in in _SHARES:
            shares = [(share_in(sample.pressure) or 0.0, sample.at) for sample in ring]
            worst = max((share for share, _ in shares), default=0.0)
            if worst >= PRESSED:
                yield ev.Pressure(
                    vantage=self._vantage,
                    at=next(at for share, at in reversed(shares) if share >= NEARLY * worst),
                    party=self._party,
                    resource=of,
                    full_avg10=worst,
                )

    def _keep(self, fact: Evidence) -> None:
        self._facts.append((self._loop.time(), fact))

    def _now(self) -> float:
        return self._clock.now().wall


def _goes_on(fact: Evidence, *short: Resource) -> bool:
    """Whether what a fact tells of is not over yet, while these resources are short."""
    return isinstance(fact, ev.Exhausted) and fact.resource in short


def _rise(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else max(0, after - before)
