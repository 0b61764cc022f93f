"""A program's black box: its watch over the machine, its flight recorder, and what the last run left.

Law: composition only. `open` is called first, in the main thread, before any loop and while the program
holds the lock of its directory: it takes over what the last run left, and switches the crash handlers
on. `begin` and `end` are called in the loop, `failed` when an exception ends the program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party
from tether.net.clock import Clock, clocks_of
from tether.net.host.cgroup import Cgroup
from tether.net.host.identity import identify
from tether.net.host.vital_signs import VitalSigns
from tether.net.host.watch import HostWatch
from tether.net.postmortem import crash_handlers
from tether.net.postmortem.flight_recorder import Flight, FlightRecorder
from tether.net.postmortem.last_flight import LastFlight, take_over
from tether.net.signals import Received
from tether.version import VERSION


class BlackBox:
    """Made by `open`."""

    def __init__(
        self,
        directory: Path,
        party: Party,
        clock: Clock,
        *,
        last: LastFlight | None,
        armed: bool,
        env: Mapping[str, str],
    ) -> None:
        """Use `open`, but in tests: this one leaves alone what belongs to the whole process."""
        self.last = last
        """What the last run left."""
        self._directory = directory
        self._party = party
        self._clock = clock
        self._armed = armed
        self._vitals = VitalSigns(directory, group=Cgroup())
        self.host = HostWatch(party, clock=clock, clocks=clocks_of(env), vitals=self._vitals)
        self._recorder: FlightRecorder | None = None

    @classmethod
    def open(
        cls, directory: Path, party: Party, clock: Clock, env: Mapping[str, str] = os.environ
    ) -> BlackBox:
        """Take over what the last run left in `directory`, and arm the crash handlers."""
        last = take_over(directory, clock)
        armed = crash_handlers.arm(directory)
        return cls(directory, party, clock, last=last, armed=armed, env=env)

    def begin(self, instance_id: str) -> None:
        """This run begins. Call in its loop."""
        now = self._clock.now().wall
        group = self._vitals.group
        flight = Flight(
            instance_id=instance_id,
            pid=os.getpid(),
            started_at=now,
            alive_at=now,
            version=VERSION,
            host=identify(),
            memory_group=group.identity,
            oom_kills=group.oom_kills(),
            armed=self._armed,
        )
        self._recorder = FlightRecorder.begin(self._directory, flight, self._vitals, self._clock)
        self.host.on_sample = self._recorder.sampled
        self.host.start()

    def death_of(self, instance_id: str) -> tuple[Evidence, ...]:
        """What is known about how run `instance_id` ended; nothing if another run was the last one
        here."""
        if self.last is None or self.last.flight.instance_id != instance_id:
            return ()
        return self.last.facts(party=self._party, at=self._clock.now().wall, version=VERSION)

    def signalled(self, received: Received) -> None:
        """A signal tells this run to stop."""
        if self._recorder is not None:
            self._recorder.signalled(received)

    def failed(self, wrong: BaseException) -> None:
        """This run ends by an exception."""
        if self._recorder is not None:
            self._recorder.failed(f"{type(wrong).__name__}: {wrong}")

    async def end(self) -> None:
        """This run ends in order."""
        self.host.stop()
        if self._recorder is not None:
            await self._recorder.ended()
