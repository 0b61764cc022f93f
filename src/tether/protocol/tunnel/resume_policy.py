"""How long a tunnel without a carrier waits for its peer: one table, by how its last carrier ended.

Law: pure. The first row that matches decides. The short wait is for what is known to have ended: a FIN
of the peer's own stream, on a carrier that leads to the peer itself. What a proxy, a load balancer or a
NAT can have made (an RST; an end that a relay tells of, whose leg may lead through one), the end of a
relay, and a silence say nothing about the peer. A peer that left a carrier because of forged frames
lives, and comes by another one.

A second observer may still know: where the server has seen the control link of the peer end for certain,
too, `ends_with_its_link` says which waits are over by that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.messages.tunnel import RESUME_S
from tether.protocol.timestamp import Timestamp
from tether.protocol.tunnel.carrier import FORGED_CODE

VANISHED_S = 15.0
"""How long a peer may take to come back that was seen to end."""

_AT_ONCE = (StreamEnd.EOF, StreamEnd.RESET, StreamEnd.CLOSED, StreamEnd.ABORTED, StreamEnd.OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long to wait: `policy_s`, by the server's policy, for a peer that may come back much later."""

    vanished_s: float = VANISHED_S
    policy_s: float = RESUME_S


@dataclass(frozen=True, slots=True)
class WaitRow:
    """One row. `example` is an end that it decides, seen by an agent whose peer is the client."""

    name: str
    when: Callable[[Evidence, Party], bool]
    wait: Callable[[Waits], float]
    says: str
    example: Evidence


def ends_with_its_link(fact: Evidence, peer: Party) -> bool:
    """Whether a carrier's end is one of `peer`'s own stream, as it is of a process that ends. By itself
    that proves nothing; it does once the peer's control link was seen to end in this way, too."""
    ended = isinstance(fact, ev.StreamEnded) and fact.peer is peer and fact.how in _AT_ONCE
    return ended and not left_for_forgery(fact)


def shows_the_peers_end(fact: Evidence, peer: Party) -> bool:
    """Whether we saw the FIN of the peer's own stream ourselves; a relay's legs may lead elsewhere."""
    return (
        isinstance(fact, ev.StreamEnded)
        and fact.peer is peer
        and fact.how is StreamEnd.EOF
        and fact.vantage is not Vantage.RELAY
    )


def _relay_ended(fact: Evidence, peer: Party) -> bool:
    match fact:
        case ev.StreamEnded(peer=ended):
            return ended is not peer
        case ev.GoodbyeSaid(by=Party.RELAY) | ev.ProtocolViolated(by=Party.RELAY):
            return True
        case _:
            return False


ROWS: tuple[WaitRow, ...] = (
    WaitRow(
        "peer-ended",
        shows_the_peers_end,
        lambda waits: min(waits.vanished_s, waits.policy_s),
        "that the peer's process has ended",
        ev.StreamEnded(vantage=Vantage.AGENT, at=0.0, peer=Party.CLIENT, how=StreamEnd.EOF),
    ),
    WaitRow(
        "peer-or-something-between",
        ends_with_its_link,
        lambda waits: waits.policy_s,
        "that a process or a middlebox has ended the stream, and not which of the two",
        ev.StreamEnded(vantage=Vantage.RELAY, at=0.0, peer=Party.CLIENT, how=StreamEnd.EOF),
    ),
    WaitRow(
        "relay-ended",
        _relay_ended,
        lambda waits: waits.policy_s,
        "nothing about the peer",
        ev.StreamEnded(vantage=Vantage.AGENT, at=0.0, peer=Party.RELAY, how=StreamEnd.RESET),
    ),
    WaitRow(
        "left-for-forgery",
        lambda fact, peer: left_for_forgery(fact),
        lambda waits: waits.policy_s,
        "a peer that lives, and a carrier that is meddled with",
        ev.StreamEnded(
            vantage=Vantage.RELAY,
            at=0.0,
            peer=Party.CLIENT,
            how=StreamEnd.CLOSED,
            close_code=FORGED_CODE,
        ),
    ),
    WaitRow(
        "silence",
        lambda fact, peer: True,
        lambda waits: waits.policy_s,
        "a sleeping or cut-off peer",
        ev.StreamEnded(vantage=Vantage.RELAY, at=0.0, peer=Party.CLIENT, how=StreamEnd.SILENT),
    ),
)


def left_for_forgery(fact: Evidence) -> bool:
    """Whether the other end of a carrier has left it because of frames that were not ours."""
    return isinstance(fact, ev.StreamEnded) and fact.close_code == FORGED_CODE


def row_of(fact: Evidence, peer: Party) -> WaitRow:
    """The row that decides about a carrier that ended by `fact`."""
    return next(row for row in ROWS if row.when(fact, peer))


def wait_s(fact: Evidence, peer: Party, waits: Waits) -> float:
    """How long to wait for `peer` after the last carrier ended by `fact`."""
    return row_of(fact, peer).wait(waits)


def not_resumed(fact: Evidence, vantage: Vantage, waited_s: float, now: Timestamp) -> Evidence:
    """The fact that ends a tunnel whose last carrier ended by `fact` now, after a wait of `waited_s`.

    It is `fact` itself, but for an agent whose relay died: that began the wait, and what ended the
    tunnel is that the client, who could have come by another relay, did not return. This cannot be said
    of a relay that fell silent, which may be the network's doing, nor of one that left and said why,
    nor by a client of its agent, which the network may keep from it.
    """
    relay_died = (
        isinstance(fact, ev.StreamEnded) and fact.peer is Party.RELAY and fact.how in _AT_ONCE
    )
    if vantage is not Vantage.AGENT or not relay_died:
        return fact
    return ev.NeverReturned(
        vantage=vantage, at=now.wall + waited_s, party=Party.CLIENT, waited_s=waited_s
    )
