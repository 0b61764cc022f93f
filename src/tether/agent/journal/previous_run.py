"""What the last run of this agent left open, and why it ended: nobody dies in silence.

Law: pure. The previous run's marker, its open connections and what was found out about its death go
in; the `Ended` items that it can no longer write itself come out. It tells what is known and guesses
nothing: a run that stopped in order but could not write everything down leaves an end without facts.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.protocol.messages.base import records_of
from tether.protocol.messages.reports import Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMarker:
    """One run of the agent. `boot_id` is "" where the system has none."""

    instance_id: str
    boot_id: str
    pid: int
    started_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledRun:
    """What the journal knows about the run before this one. Times are its own wall clock."""

    marker: RunMarker
    last_alive_at: float
    stopped_cleanly_at: float | None
    open_connections: tuple[str, ...]

    @property
    def died(self) -> bool:
        """Whether it ended without a clean stop."""
        return self.stopped_cleanly_at is None

    def host_rebooted(self, boot_id: str) -> bool:
        """Whether `boot_id`, the present one, proves that the kernel was started anew."""
        return bool(boot_id and self.marker.boot_id and boot_id != self.marker.boot_id)


def post_mortem(
    previous: JournaledRun | None, *, boot_id: str, at: float, found: tuple[ev.Evidence, ...] = ()
) -> list[Ended]:
    """The ends that `previous` owes.

    Args:
        previous: the run before this one; None for the first run.
        boot_id: of the present boot.
        at: now, unix seconds.
        found: what its black box says about its death; nothing where there was none.
    """
    if previous is None:
        return []
    facts: tuple[ev.Evidence, ...] = found if previous.died else ()
    if previous.died and not found:
        facts = (
            ev.PreviousRunDied(
                vantage=Vantage.AGENT,
                at=at,
                party=Party.AGENT,
                host_rebooted=previous.host_rebooted(boot_id),
                last_alive_at=previous.last_alive_at,
            ),
        )
    return [
        Ended(connection_id=connection_id, at=at, facts=records_of(facts))
        for connection_id in previous.open_connections
    ]
