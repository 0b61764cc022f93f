"""One row of the catalogue.

Law: a row is data; what follows from it is a property here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution.vocabulary import COARSE, Correction, Element, Initiator, Reason

NOTHING = "Nothing needs to be done."
"""The advice where all is well."""

KERNEL_OOM = "kernel:oom"
"""The actor behind a kill for want of memory."""

MIDDLEBOX = "middlebox"
"""The actor behind what something between the two ends did."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One way a connection can end. `title`, `sentence` and `advice` are what people read."""

    code: str
    reason: Reason
    initiator: Initiator
    expected: bool
    title: str
    sentence: str
    advice: str
    element: Element | None = None
    """What ends of this cause share with others, which makes them one incident; None: nothing."""
    actor: str = ""
    """Who is behind it, where that is all that can be known of them."""
    corrected_by: tuple[Correction, ...] = ()
    """What the server looks up, or hears later, before it leaves the verdict at this cause."""
    ends_session: bool = False
    """Whether the record of a session that the agent ended names this cause; where it does not, the exit
    status or the signal says enough."""
    holds_for_tunnels: bool = False
    """Whether a control link that ended so tells of the same party's tunnels in the same outage."""

    @property
    def coarse_reason(self) -> Reason:
        """The word of the original vocabulary, for old readers."""
        return COARSE[self.reason]
