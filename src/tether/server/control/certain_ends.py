"""Which control links are known to have ended at their peers, and not somewhere in between.

Law: only a FIN counts, for anything in between may make an RST; only where no proxy is named in the
request, whose FIN it could be; and only where no link of another peer ended in the same moment, as they
do when a load balancer goes that names itself nowhere. Asked some seconds after the end, when the other
links have been noted, too.
"""

from __future__ import annotations

from collections import deque

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd

TOGETHER_S = 2.0
"""Links of one load balancer end within this, in seconds, however busy this machine is."""

MOST = 4096
"""Ends that are remembered."""

_AT_ONCE = frozenset({StreamEnd.EOF, StreamEnd.RESET, StreamEnd.ABORTED})


class LinkEnd:
    """The end of one link. Made by `CertainEnds.note`."""

    def __init__(self, ends: CertainEnds, at: float, whose: str, *, may_be_certain: bool) -> None:
        self.at = at
        self.whose = whose
        self._ends = ends
        self._may_be_certain = may_be_certain

    def is_certain(self) -> bool:
        """Whether the peer's own process is known to have ended the link, as far as is known by now."""
        return self._may_be_certain and self._ends.is_alone(self)


class CertainEnds:
    """The last ends of control links, of whatever kind of peer."""

    def __init__(self) -> None:
        self._lost: deque[LinkEnd] = deque(maxlen=MOST)

    def note(
        self,
        facts: tuple[Evidence, ...],
        peer: Party,
        *,
        at: float,
        whose: str,
        proxied: bool,
    ) -> LinkEnd:
        """A link is over.

        Args:
            facts: of its close cell.
            peer: who was at its other end.
            at: when (monotonic seconds).
            whose: who the peer is: a person, or a workspace.
            proxied: whether a proxy is known to be in between.
        """
        first = next((f for f in facts if isinstance(f, ev.StreamEnded | ev.GoodbyeSaid)), None)
        by_stream = first.how if isinstance(first, ev.StreamEnded) and first.peer is peer else None
        end = LinkEnd(self, at, whose, may_be_certain=by_stream is StreamEnd.EOF and not proxied)
        if by_stream in _AT_ONCE:
            self._lost.append(end)
        return end

    def is_alone(self, end: LinkEnd) -> bool:
        """Whether no other peer's link was lost in the same moment."""
        return not any(
            other.whose != end.whose and abs(other.at - end.at) <= TOGETHER_S
            for other in self._lost
        )
