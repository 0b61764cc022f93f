"""One case for each row of `rules.network`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import (
    A2C,
    C2S,
    LOGGED_IN,
    S2A,
    counters,
    ended,
    redial,
    returned,
)
from tether.attribution.vocabulary import DialStage, Element, Party, StreamEnd, Vantage

_CLIENT_SILENT = ended(Party.CLIENT, StreamEnd.SILENT, Vantage.RELAY, silence_s=30.0)
_CLIENT_HEARS = counters(Vantage.CLIENT, Party.RELAY, acked_ms=2_000, retransmits=5, unacked=3)
_CLIENT_DEAF = counters(Vantage.CLIENT, Party.RELAY, acked_ms=30_000)
_RELAY_DEAF_TO_CLIENT = counters(Vantage.RELAY, Party.CLIENT, acked_ms=30_000)
_RELAY_HEARS_CLIENT = counters(
    Vantage.RELAY, Party.CLIENT, acked_ms=2_000, retransmits=5, unacked=3
)
_RELAY_TO_CLIENT_GONE = ended(Party.RELAY, StreamEnd.TIMED_OUT, Vantage.CLIENT)
_AGENT_SILENT = ended(Party.AGENT, StreamEnd.TIMED_OUT, Vantage.SERVER)
_SERVER_SILENT = ended(Party.SERVER, StreamEnd.TIMED_OUT, Vantage.AGENT)


def _changed(party: Party) -> ev.AddressChanged:
    return ev.AddressChanged(
        vantage=Vantage(str(party)),
        at=2.0,
        party=party,
        removed="10.0.0.2",
        added="10.1.0.2",
        ours=True,
    )


def _down(party: Party) -> ev.LinkChanged:
    return ev.LinkChanged(
        vantage=Vantage(str(party)), at=2.0, party=party, interface="eth0", up=False
    )


EXAMPLES: tuple[Case, ...] = (
    Case(
        S2A,
        (
            _AGENT_SILENT,
            ev.EndedTogether(
                vantage=Vantage.SERVER, at=4.0, element=Element.NODE, ended=5, alive=0
            ),
        ),
    ),
    Case(
        A2C,
        (
            LOGGED_IN,
            _CLIENT_SILENT,
            ev.RouteChanged(
                vantage=Vantage.CLIENT, at=2.0, party=Party.CLIENT, interface="tun0", tunnel=True
            ),
        ),
    ),
    Case(A2C, (LOGGED_IN, _CLIENT_SILENT, _changed(Party.CLIENT))),
    Case(A2C, (LOGGED_IN, _CLIENT_SILENT, _down(Party.CLIENT))),
    Case(S2A, (_AGENT_SILENT, _changed(Party.AGENT))),
    Case(S2A, (_AGENT_SILENT, _down(Party.AGENT))),
    Case(C2S, (ended(Party.SERVER, StreamEnd.ABORTED, Vantage.CLIENT),)),
    Case(S2A, (ended(Party.SERVER, StreamEnd.ABORTED, Vantage.AGENT),)),
    Case(
        A2C,
        (
            LOGGED_IN,
            ended(Party.AGENT, StreamEnd.SILENT, Vantage.CLIENT, silence_s=10.0),
            ended(Party.CLIENT, StreamEnd.CLOSED, Vantage.AGENT),
            ev.NeighbourEnded(
                vantage=Vantage.SERVER,
                at=4.0,
                party=Party.CLIENT,
                cause="network.client_download_lost",
                before_s=19.0,
            ),
        ),
    ),
    Case(A2C, (_CLIENT_SILENT, _CLIENT_HEARS, _RELAY_DEAF_TO_CLIENT)),
    Case(
        A2C,
        (
            ended(Party.CLIENT, StreamEnd.TIMED_OUT, Vantage.RELAY),
            _RELAY_TO_CLIENT_GONE,
            _CLIENT_DEAF,
            _RELAY_HEARS_CLIENT,
        ),
    ),
    Case(
        S2A,
        (
            _AGENT_SILENT,
            counters(Vantage.AGENT, Party.SERVER, acked_ms=2_000, retransmits=5, unacked=3),
            counters(Vantage.SERVER, Party.AGENT, acked_ms=30_000),
        ),
    ),
    Case(
        S2A,
        (
            _SERVER_SILENT,
            counters(Vantage.SERVER, Party.AGENT, acked_ms=2_000, retransmits=5, unacked=3),
            counters(Vantage.AGENT, Party.SERVER, acked_ms=30_000),
        ),
    ),
    Case(
        S2A,
        (
            _AGENT_SILENT,
            counters(Vantage.SERVER, Party.AGENT, acked_ms=1_000, retransmits=6, unacked=4, lost=2),
            counters(Vantage.AGENT, Party.SERVER, acked_ms=1_500),
        ),
    ),
    Case(
        S2A,
        (
            ended(Party.AGENT, StreamEnd.EOF, Vantage.SERVER, idle_s=60.2),
            returned(Party.AGENT),
        ),
    ),
    Case(
        S2A,
        (
            ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER, idle_s=12.2),
            ended(Party.SERVER, StreamEnd.RESET, Vantage.AGENT, idle_s=12.2),
            ev.CutWhenIdle(vantage=Vantage.SERVER, at=4.0, party=Party.AGENT, cuts=2, idle_s=12.2),
        ),
    ),
    Case(
        S2A,
        (
            ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER),
            ended(Party.SERVER, StreamEnd.RESET, Vantage.AGENT),
        ),
    ),
    Case(
        S2A,
        (
            ended(Party.AGENT, StreamEnd.EOF, Vantage.SERVER),
            ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT),
        ),
    ),
    Case(
        S2A,
        (
            _AGENT_SILENT,
            counters(Vantage.SERVER, Party.AGENT, acked_ms=5_700, retransmits=4, unacked=1),
            ended(Party.SERVER, StreamEnd.RESET, Vantage.AGENT),
        ),
    ),
    Case(
        C2S,
        (
            ended(Party.CLIENT, StreamEnd.SILENT, Vantage.SERVER, silence_s=60.0),
            counters(Vantage.CLIENT, Party.SERVER, acked_ms=46_000),
            ended(Party.SERVER, StreamEnd.RESET, Vantage.CLIENT),
        ),
    ),
    Case(
        A2C,
        (
            ended(Party.RELAY, StreamEnd.RESET, Vantage.CLIENT),
            ev.EndedTogether(
                vantage=Vantage.SERVER, at=4.0, element=Element.RELAY, ended=1, alive=9
            ),
        ),
    ),
    Case(A2C, (_CLIENT_SILENT, returned(Party.CLIENT, same_address=False))),
    Case(S2A, (_AGENT_SILENT, returned(Party.AGENT, same_address=False))),
    Case(
        S2A,
        (
            _AGENT_SILENT,
            _SERVER_SILENT,
            ev.OthersAnswered(
                vantage=Vantage.AGENT, at=4.0, party=Party.AGENT, asked=2, answered=2
            ),
        ),
    ),
    Case(
        A2C,
        (
            ended(Party.RELAY, StreamEnd.TIMED_OUT, Vantage.AGENT),
            ended(Party.AGENT, StreamEnd.SILENT, Vantage.CLIENT, silence_s=8.0),
            counters(Vantage.CLIENT, Party.RELAY, acked_ms=8_000, retransmits=5, unacked=1),
        ),
    ),
    Case(S2A, (_AGENT_SILENT, _SERVER_SILENT)),
    Case(
        A2C,
        (
            ended(Party.AGENT, StreamEnd.SILENT, Vantage.CLIENT, silence_s=60.0),
            ended(Party.CLIENT, StreamEnd.CLOSED, Vantage.AGENT),
        ),
    ),
    Case(
        C2S,
        (ended(Party.SERVER, StreamEnd.RESET, Vantage.CLIENT), redial(DialStage.PROXY)),
    ),
    Case(
        C2S,
        (ended(Party.SERVER, StreamEnd.RESET, Vantage.CLIENT), redial(DialStage.TLS)),
    ),
    Case(
        C2S,
        (ended(Party.SERVER, StreamEnd.SILENT, Vantage.CLIENT), redial(DialStage.DNS)),
    ),
    Case(S2A, (_SERVER_SILENT, ended(Party.AGENT, StreamEnd.EOF, Vantage.SERVER))),
    Case(C2S, (ended(Party.CLIENT, StreamEnd.EOF, Vantage.SERVER), returned(Party.CLIENT))),
    Case(S2A, (ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER), returned(Party.AGENT))),
)
