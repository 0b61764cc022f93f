"""One case for each row of `rules.network`, in its order.

Law: data only.
"""

from __future__ import annotations

from dataclasses import replace

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import (
    LOGGED_IN,
    PIPE_CLOSED,
    a2c,
    c2s,
    counters,
    ended,
    redial,
    returned,
    s2a,
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
    s2a(
        _AGENT_SILENT,
        ev.EndedTogether(vantage=Vantage.SERVER, at=4.0, element=Element.NODE, ended=5, alive=0),
    ),
    a2c(
        LOGGED_IN,
        _CLIENT_SILENT,
        ev.RouteChanged(
            vantage=Vantage.CLIENT, at=2.0, party=Party.CLIENT, interface="tun0", tunnel=True
        ),
    ),
    a2c(LOGGED_IN, _CLIENT_SILENT, _changed(Party.CLIENT)),
    a2c(LOGGED_IN, _CLIENT_SILENT, _down(Party.CLIENT)),
    s2a(_AGENT_SILENT, _changed(Party.AGENT)),
    s2a(_AGENT_SILENT, _down(Party.AGENT)),
    c2s(ended(Party.SERVER, StreamEnd.ABORTED, Vantage.CLIENT)),
    s2a(ended(Party.SERVER, StreamEnd.ABORTED, Vantage.AGENT)),
    a2c(
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
    a2c(_CLIENT_SILENT, _CLIENT_HEARS, _RELAY_DEAF_TO_CLIENT),
    a2c(
        ended(Party.CLIENT, StreamEnd.TIMED_OUT, Vantage.RELAY),
        _RELAY_TO_CLIENT_GONE,
        _CLIENT_DEAF,
        _RELAY_HEARS_CLIENT,
    ),
    s2a(
        _AGENT_SILENT,
        counters(Vantage.AGENT, Party.SERVER, acked_ms=2_000, retransmits=5, unacked=3),
        counters(Vantage.SERVER, Party.AGENT, acked_ms=30_000),
    ),
    s2a(
        _SERVER_SILENT,
        counters(Vantage.SERVER, Party.AGENT, acked_ms=2_000, retransmits=5, unacked=3),
        counters(Vantage.AGENT, Party.SERVER, acked_ms=30_000),
    ),
    s2a(
        _AGENT_SILENT,
        counters(Vantage.SERVER, Party.AGENT, acked_ms=1_000, retransmits=6, unacked=4, lost=2),
        counters(Vantage.AGENT, Party.SERVER, acked_ms=1_500),
    ),
    s2a(ended(Party.AGENT, StreamEnd.EOF, Vantage.SERVER, idle_s=60.2), returned(Party.AGENT)),
    s2a(
        ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER, idle_s=12.2),
        ended(Party.SERVER, StreamEnd.RESET, Vantage.AGENT, idle_s=12.2),
        ev.CutWhenIdle(vantage=Vantage.SERVER, at=4.0, party=Party.AGENT, cuts=2, idle_s=12.2),
    ),
    c2s(
        ended(Party.CLIENT, StreamEnd.RESET, Vantage.SERVER),
        ended(Party.SERVER, StreamEnd.RESET, Vantage.CLIENT),
        redial(DialStage.HTTP, status=200),
    ),
    s2a(
        ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER),
        ended(Party.SERVER, StreamEnd.RESET, Vantage.AGENT),
    ),
    s2a(
        ended(Party.AGENT, StreamEnd.EOF, Vantage.SERVER),
        ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT),
    ),
    s2a(
        _AGENT_SILENT,
        counters(Vantage.SERVER, Party.AGENT, acked_ms=5_700, retransmits=4, unacked=1),
        ended(Party.SERVER, StreamEnd.RESET, Vantage.AGENT),
    ),
    c2s(
        ended(Party.CLIENT, StreamEnd.SILENT, Vantage.SERVER, silence_s=60.0),
        counters(Vantage.CLIENT, Party.SERVER, acked_ms=46_000),
        ended(Party.SERVER, StreamEnd.RESET, Vantage.CLIENT),
    ),
    a2c(
        ended(Party.RELAY, StreamEnd.RESET, Vantage.CLIENT),
        ev.EndedTogether(vantage=Vantage.SERVER, at=4.0, element=Element.RELAY, ended=1, alive=9),
    ),
    a2c(_CLIENT_SILENT, returned(Party.CLIENT, same_address=False)),
    s2a(_AGENT_SILENT, returned(Party.AGENT, same_address=False)),
    s2a(
        _AGENT_SILENT,
        _SERVER_SILENT,
        ev.OthersAnswered(vantage=Vantage.AGENT, at=4.0, party=Party.AGENT, asked=2, answered=2),
    ),
    a2c(
        ended(Party.RELAY, StreamEnd.TIMED_OUT, Vantage.AGENT),
        ended(Party.AGENT, StreamEnd.SILENT, Vantage.CLIENT, silence_s=8.0),
        counters(Vantage.CLIENT, Party.RELAY, acked_ms=8_000, retransmits=5, unacked=1),
    ),
    s2a(_AGENT_SILENT, _SERVER_SILENT),
    a2c(
        ended(Party.AGENT, StreamEnd.SILENT, Vantage.CLIENT, silence_s=60.0),
        ended(Party.CLIENT, StreamEnd.CLOSED, Vantage.AGENT),
    ),
    c2s(ended(Party.SERVER, StreamEnd.RESET, Vantage.CLIENT), redial(DialStage.PROXY)),
    c2s(ended(Party.SERVER, StreamEnd.RESET, Vantage.CLIENT), redial(DialStage.TLS)),
    c2s(ended(Party.SERVER, StreamEnd.SILENT, Vantage.CLIENT), redial(DialStage.DNS)),
    s2a(_SERVER_SILENT, ended(Party.AGENT, StreamEnd.EOF, Vantage.SERVER)),
    c2s(ended(Party.CLIENT, StreamEnd.EOF, Vantage.SERVER), returned(Party.CLIENT)),
    s2a(ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER), returned(Party.AGENT)),
    a2c(
        LOGGED_IN,
        counters(Vantage.CLIENT, Party.AGENT, acked_ms=40),
        replace(PIPE_CLOSED, signal=1, unanswered_s=9.0),
    ),
    a2c(LOGGED_IN, replace(PIPE_CLOSED, signal=1, unanswered_s=9.0)),
)
