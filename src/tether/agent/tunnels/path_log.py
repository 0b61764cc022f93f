"""What becomes of a tunnel's carriers, as items of the journal.

Law: none of these items is an end. They are bounded: of a tunnel that changes its carriers again and
again, only the first `MAX_ITEMS` changes are reported.
"""

from __future__ import annotations

from collections.abc import Callable

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.net.clock import Clock
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.reports import PathRecord, PathWord, ReportItem
from tether.protocol.tunnel.events import CarrierLost, Detached, PathEvent, Resumed, Used

MAX_ITEMS = 500
"""Path events of one tunnel that are reported."""


class PathLog:
    """The log of one tunnel. `changes` counts all, the unreported ones too."""

    def __init__(
        self, stream: TunnelStream, *, clock: Clock, post: Callable[[ReportItem], object]
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._post = post
        self.changes = 0
        stream.listen(self._happened)

    def _happened(self, event: PathEvent) -> None:
        match event:
            case Used(carrier=number, resent_bytes=resent):
                self._record(PathWord.USED, number, resent_bytes=resent)
            case Resumed(carrier=number, gap_s=gap_s, resent_bytes=resent):
                self._record(PathWord.RESUMED, number, gap_s=gap_s, resent_bytes=resent)
            case CarrierLost(carrier=number, fact=fact):
                self._record(PathWord.LOST, number, fact)
            case Detached(carrier=number, fact=fact):
                self._record(PathWord.DETACHED, number, fact)
            case _:
                pass

    def _record(
        self,
        word: PathWord,
        number: int,
        fact: Evidence | None = None,
        *,
        gap_s: float = 0.0,
        resent_bytes: int = 0,
    ) -> None:
        self.changes += 1
        carrier = self._stream.carrier(number)
        if self.changes > MAX_ITEMS or carrier is None:
            return
        ended = fact if isinstance(fact, ev.StreamEnded) else None
        said = fact if isinstance(fact, ev.GoodbyeSaid | ev.ProtocolViolated) else None
        self._post(
            PathRecord(
                connection_id=self._stream.connection_id,
                at=self._clock.now().wall,
                event=str(word),
                carrier=number,
                method=str(carrier.method),
                where=carrier.where,
                peer=str(ended.peer if ended else said.by if said else ""),
                how=str(ended.how)
                if ended
                else "goodbye"
                if isinstance(said, ev.GoodbyeSaid)
                else "",
                errno=ended.errno if ended else "",
                gap_s=round(gap_s, 3),
                resent_bytes=resent_bytes,
            )
        )
