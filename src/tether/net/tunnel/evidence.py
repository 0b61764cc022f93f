"""What happens to a tunnel's carriers, as context for the record of its end.

Law: pure; none of these facts ends the tunnel. The end of a standby is recorded like that of the carrier
in use, so that the record shows when everything ended at once.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Reach, StreamEnd, Vantage
from tether.net.tunnel.stream import AttachedCarrier, TunnelStream
from tether.protocol.tunnel.events import CarrierLost, Detached, PathEvent, Resumed


def path_fact(
    event: PathEvent, stream: TunnelStream, *, vantage: Vantage, at: float
) -> Evidence | None:
    """`event` as a fact; None for what a record does not need."""
    match event:
        case CarrierLost(carrier=number, fact=fact) | Detached(carrier=number, fact=fact):
            carrier = stream.carrier(number)
            return None if carrier is None else carrier_ended(carrier, fact)
        case Resumed(carrier=number, gap_s=gap_s, resent_bytes=resent):
            carrier = stream.carrier(number)
            if carrier is None:
                return None
            return ev.TunnelResumed(
                vantage=vantage,
                at=at,
                carrier=number,
                method=carrier.method,
                where=carrier.where,
                gap_s=gap_s,
                resent_bytes=resent,
            )
        case _:
            return None


def carrier_ended(carrier: AttachedCarrier, fact: Evidence) -> ev.CarrierEnded:
    """The end of `carrier`, whose stream ended as `fact` says."""
    ended = fact if isinstance(fact, ev.StreamEnded) else None
    return ev.CarrierEnded(
        vantage=fact.vantage,
        at=fact.at,
        carrier=carrier.number,
        method=carrier.method,
        where=carrier.where,
        peer=carrier.peer if ended is None else ended.peer,
        how=StreamEnd.CLOSED if ended is None else ended.how,
        errno="" if ended is None else ended.errno,
        silence_s=None if ended is None else ended.silence_s,
        reach=Reach.UNKNOWN if ended is None else ended.reach,
        said=fact.cause if isinstance(fact, ev.GoodbyeSaid) else "",
    )
