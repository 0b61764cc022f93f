"""How the last run of a program ended: everything that the next start can find out, as facts.

Law: reads what the last run, its parent, its control group and the kernel left behind. Concludes one
thing only: a run that wrote nothing about its end, although its crash handlers were on, was ended by
SIGKILL, if machine and container are still the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, Vantage
from tether.net.clock import Clock
from tether.net.host.cgroup import oom_kills_of
from tether.net.host.identity import HostIdentity, identify
from tether.net.host.kernel_log import oom_victims
from tether.net.postmortem.crash_handlers import read_crash
from tether.net.postmortem.exit_note import ExitNote, read_note
from tether.net.postmortem.flight_recorder import (
    CRASH_FILE,
    FLIGHT_FILE,
    NOTE_FILE,
    Flight,
    read_flight,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFlight:
    """What the last run left, and what is found now."""

    flight: Flight
    now: HostIdentity
    """Where the present run is."""
    note: ExitNote | None = None
    """What its parent wrote."""
    crash_signal: int = 0
    """What its crash handlers saw; 0 for nothing."""
    crashed_in: str = ""
    """Where in the program they saw it, for people."""
    oom_rise: int | None = None
    """How many processes of its memory group, other than known ones, were killed since it last wrote."""
    oom_named: bool = False
    """Whether the kernel's log names it as killed for memory."""

    @property
    def ended_by(self) -> tuple[int, int | None]:
        """The signal that ended it (0 where none is known), and its exit status."""
        if self.note is not None:
            return self.note.signal, self.note.exit_status
        if self.flight.ended:
            return 0, None if self.flight.ended == "clean" else 1
        if self.crash_signal or self._moved or not self.flight.armed:
            return self.crash_signal, None
        return int(signal.SIGKILL), None

    @property
    def _moved(self) -> bool:
        before = self.flight.host
        return self.now.rebooted_since(before) or self.now.another_container_than(before)

    def facts(self, *, party: Party, at: float, version: str) -> tuple[Evidence, ...]:
        """How it ended, as facts of `party`, seen at wall-clock time `at` by the present `version`."""
        flight, vantage = self.flight, Vantage(str(party))
        number, status = self.ended_by
        another_container = self.now.another_container_than(flight.host)
        # A container that moved to another machine says nothing about a reboot of the old one.
        rebooted = self.now.rebooted_since(flight.host) and not another_container
        died = ev.PreviousRunDied(
            vantage=vantage,
            at=at,
            party=party,
            host_rebooted=rebooted,
            last_alive_at=flight.alive_at,
            signal=number,
            sender=flight.sender,
            exit_status=status,
            core=self.note is not None and self.note.core,
            oom_kills=self.oom_rise,
            oom_named=self.oom_named,
            container_changed=another_container,
            upgraded=version != flight.version,
            disk_full=flight.disk_full,
        )
        told: list[Evidence] = []
        if flight.signal:  # it was told to stop, and ended before it could do so in order
            told.append(
                ev.SignalReceived(
                    vantage=vantage,
                    at=flight.alive_at,
                    party=party,
                    signal=flight.signal,
                    sender=flight.sender,
                )
            )
        if flight.ended not in ("", "clean"):
            told.append(
                ev.InternalFailure(vantage=vantage, at=at, party=party, what=flight.ended[:200])
            )
        return (*told, died)


def take_over(directory: Path, clock: Clock) -> LastFlight | None:
    """`examine`, then rename the files (to `last-flight.json` and so on), which keeps them for
    people."""
    told = examine(directory, clock)
    for name in (FLIGHT_FILE, CRASH_FILE, NOTE_FILE):
        with contextlib.suppress(OSError):
            os.replace(directory / name, directory / f"last-{name}")
    return told


def examine(
    directory: Path,
    clock: Clock,
    *,
    now: Callable[[], HostIdentity] = identify,
    victims: Callable[[], Mapping[int, float] | None] = oom_victims,
) -> LastFlight | None:
    """Read what the last run left in `directory`; None where there is nothing that can be read."""
    flight = read_flight(directory / FLIGHT_FILE)
    if flight is None:
        return None
    crash_signal, crashed_in = read_crash(directory)
    rise, named = _oom(flight, clock, victims)
    return LastFlight(
        flight=flight,
        now=now(),
        note=read_note(directory, flight.pid, flight.started_at),
        crash_signal=crash_signal,
        crashed_in=crashed_in,
        oom_rise=rise,
        oom_named=named,
    )


def _oom(
    flight: Flight, clock: Clock, victims: Callable[[], Mapping[int, float] | None]
) -> tuple[int | None, bool]:
    """`LastFlight.oom_rise` and `oom_named`."""
    before, after = flight.oom_kills, oom_kills_of(flight.memory_group)
    rise = None if before is None or after is None else max(0, after - before)
    known = None if flight.ended == "clean" else victims()
    if known is None:
        return rise, False
    instant = clock.now()
    since = instant.mono - (instant.wall - flight.started_at)
    if known.get(flight.pid, float("-inf")) >= since:
        return rise, True
    others = sum(
        1 for at in known.values() if at >= instant.mono - (instant.wall - flight.alive_at)
    )
    return None if rise is None else max(0, rise - others), False
