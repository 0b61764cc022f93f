"""What a program said, did, or suffered.

Law: see `evidence`: what was seen or said, never what was concluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tether.attribution.evidence.fact import Fact
from tether.attribution.vocabulary import Party


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
    """The next start of `party` found that its last run ended without a clean stop."""

    kind: ClassVar[str] = "previous_run_died"
    party: Party
    host_rebooted: bool
    last_alive_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverReturned(Fact):
    """`party` was gone and did not come back within `waited_s` seconds."""

    kind: ClassVar[str] = "never_returned"
    party: Party
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded(Fact):
    """A newer connection of the same identity took this one's place."""

    kind: ClassVar[str] = "superseded"
    by_instance: str


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
