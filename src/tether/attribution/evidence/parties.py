"""What a program said, did, or suffered.

Law: see `evidence`: what was seen or said, never what was concluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tether.attribution.evidence.fact import Fact
from tether.attribution.vocabulary import Element, Party


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodbyeSaid(Fact):
    """A party said, before it closed, why it would. `cause` is a code of the catalogue."""

    kind: ClassVar[str] = "goodbye_said"
    by: Party
    cause: str
    actor: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived(Fact):
    """`party` was sent a signal; `sender` is "pid 1 uid 0" where the kernel told us."""

    kind: ClassVar[str] = "signal_received"
    party: Party
    signal: int
    sender: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousRunDied(Fact):
    """The next start of `party` found that its last run ended without a clean stop.

    What was found out besides: the `signal` that ended it and its `exit_status`, as its parent or
    its crash handlers saw them (0 and None: not told; 9 also where those handlers, which see every
    other signal, saw none); the `sender` of the signal that had told it to stop; whether it left a
    core; by how much the `oom_kill` counter of its memory cgroup rose, less whom the kernel's log
    names as others, and whether that log names this very process; whether its container is another
    one now; whether its program is; whether its disk was full.
    """

    kind: ClassVar[str] = "previous_run_died"
    party: Party
    host_rebooted: bool
    last_alive_at: float | None = None
    signal: int = 0
    sender: str = ""
    exit_status: int | None = None
    core: bool = False
    oom_kills: int | None = None
    oom_named: bool = False
    container_changed: bool = False
    upgraded: bool = False
    disk_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverReturned(Fact):
    """`party` was gone and did not come back within `waited_s` seconds."""

    kind: ClassVar[str] = "never_returned"
    party: Party
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded(Fact):
    """A newer connection of the same identity took this one's place, for the `turns`th time lately
    that these two took it from each other."""

    kind: ClassVar[str] = "superseded"
    by_instance: str
    turns: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalFailure(Fact):
    """`party` failed while it handled this connection: a bug of ours."""

    kind: ClassVar[str] = "internal_failure"
    party: Party
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMissing(Fact):
    """`party` is back and knows nothing of this connection: its journal was lost."""

    kind: ClassVar[str] = "report_missing"
    party: Party


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecorded(Fact):
    """Somebody had asked the server for something that ends this, `before_s` seconds before the end."""

    kind: ClassVar[str] = "intent_recorded"
    intent: str
    cause: str
    before_s: float
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTogether(Fact):
    """Of the connections that share an `element` with this one, `ended` ended within one window, this
    one included, and `alive` lived on."""

    kind: ClassVar[str] = "ended_together"
    element: Element
    ended: int
    alive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourEnded(Fact):
    """Another connection of `party` ended in the same outage, `before_s` seconds before this one, and
    both of its ends told why: `cause`."""

    kind: ClassVar[str] = "neighbour_ended"
    party: Party
    cause: str
    before_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverflowed(Fact):
    """`party` did not take what was sent to it: `queue` reached its bound of `limit`."""

    kind: ClassVar[str] = "queue_overflowed"
    party: Party
    queue: str
    limit: int
