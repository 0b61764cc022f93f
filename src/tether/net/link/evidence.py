"""Facts about the end of a stream, from what a relay says, and about resources that have run out.

Law: pure. A stream that stopped is a fact about the peer of that very stream. What a relay says of the
other leg is a fact about the tunnel's other party, seen by the relay. A table says which errno means
that which resource has run out.
"""

from __future__ import annotations

import errno

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import SILENT_ENDS, Party, Reach, Resource, StreamEnd, Vantage
from tether.net.transport.streams import MessageStream, StreamLost
from tether.protocol.messages.base import Garbage
from tether.protocol.messages.derp import PeerGone, RelayGoodbye, Restarting, decode_word


def fact_of_loss(
    lost: StreamLost,
    *,
    vantage: Vantage,
    peer: Party,
    at: float,
    idle_s: float | None = None,
    heard_ago_s: float | None = None,
    stream: MessageStream | None = None,
) -> Evidence:
    """The end of a stream as a fact.

    Args:
        lost: how it ended.
        vantage: whose end of the stream saw it.
        peer: to whom the stream led.
        at: when (wall clock).
        idle_s: for how long nothing had gone either way, where that is known. It is left out of a
            stream that ended by silence, which was not idle: something on it was not answered.
        heard_ago_s: how long before the end the peer's last byte had come, where that is known.
        stream: what ended, which knows how far we could see on it.
    """
    if lost.fact is not None:
        return lost.fact
    if lost.violation:
        return ev.ProtocolViolated(vantage=vantage, at=at, by=peer, what=lost.violation)
    return ev.StreamEnded(
        vantage=vantage,
        at=at,
        peer=peer,
        how=lost.how,
        errno=lost.errno_name,
        close_code=lost.close_code,
        silence_s=lost.silence_s,
        idle_s=None if idle_s is None or lost.how in SILENT_ENDS else round(idle_s, 3),
        heard_ago_s=None if heard_ago_s is None else round(heard_ago_s, 3),
        reach=Reach.UNKNOWN if stream is None else stream.reach,
        proxy="" if stream is None else stream.proxy,
    )


def fact_of_word(text: str, *, vantage: Vantage, other: Party, at: float) -> Evidence | None:
    """What a relay's word says of our leg, where the other leg is `other`'s; None if the leg goes on."""
    try:
        word = decode_word(text)
    except Garbage as garbage:  # the relay's, not the other end's: that one never sends text
        return ev.ProtocolViolated(vantage=vantage, at=at, by=Party.RELAY, what=str(garbage))
    match word:
        case PeerGone(how=how, errno=name, close_code=code, silence_s=silence):
            return ev.StreamEnded(
                vantage=Vantage.RELAY,
                at=at,
                peer=other,
                how=StreamEnd(how) if how in StreamEnd._value2member_map_ else StreamEnd.OTHER,
                errno=name,
                close_code=code,
                silence_s=silence,
            )
        case RelayGoodbye(cause=cause, actor=actor, detail=detail):
            return ev.GoodbyeSaid(
                vantage=Vantage.RELAY,
                at=at,
                by=Party.RELAY,
                cause=cause,
                actor=actor,
                detail=detail,
            )
        case _:
            return None


def restart_of_word(text: str) -> float | None:
    """In how many seconds a relay that announces its restart will be back; None if it announces none."""
    match decode_word(text):
        case Restarting(reconnect_in_s=seconds):
            return seconds
        case _:
            return None


_RESOURCES = {
    errno.ENOSPC: Resource.DISK,
    errno.EDQUOT: Resource.DISK,
    errno.EMFILE: Resource.DESCRIPTORS,
    errno.ENFILE: Resource.DESCRIPTORS,
    errno.ENOMEM: Resource.MEMORY,
}


def exhausted(
    wrong: BaseException | None, *, party: Party, at: float, starting: bool = False
) -> ev.Exhausted | None:
    """`wrong` as a fact about a resource that has run out; None where it means something else.

    Args:
        wrong: what was raised.
        party: whose process raised it.
        at: when (wall clock).
        starting: whether a process was being started: only then EAGAIN means that there are too many.
    """
    number = wrong.errno if isinstance(wrong, OSError) else None
    of = _RESOURCES.get(number or 0)
    if starting and number == errno.EAGAIN:
        of = Resource.PROCESSES
    if of is None or not isinstance(wrong, OSError):
        return None
    where = str(wrong.filename or "")
    return ev.Exhausted(vantage=Vantage(str(party)), at=at, party=party, resource=of, where=where)
