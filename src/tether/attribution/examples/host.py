"""One case for each row of `rules.host`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import LOGGED_IN, a2c, c2s, counters, ended, s2a, stalled
from tether.attribution.vocabulary import Party, Resource, StreamEnd, Vantage

_CLIENT_SILENT = ended(Party.CLIENT, StreamEnd.SILENT)
_AGENT_SILENT = ended(Party.AGENT, StreamEnd.SILENT, Vantage.SERVER)
_SERVER_SILENT = ended(Party.SERVER, StreamEnd.SILENT, Vantage.AGENT)

EXAMPLES: tuple[Case, ...] = (
    s2a(
        ended(Party.AGENT, StreamEnd.EOF, Vantage.SERVER),
        ev.IntentRecorded(
            vantage=Vantage.SERVER,
            at=3.0,
            intent="evict",
            cause="workspace.evicted",
            before_s=5.0,
            actor="platform",
        ),
    ),
    a2c(
        LOGGED_IN,
        _CLIENT_SILENT,
        ev.Suspended(vantage=Vantage.CLIENT, at=93.0, party=Party.CLIENT, gap_s=90.0),
    ),
    s2a(_AGENT_SILENT, ev.Suspended(vantage=Vantage.AGENT, at=93.0, party=Party.AGENT, gap_s=90.0)),
    s2a(
        _AGENT_SILENT,
        ev.Pressure(
            vantage=Vantage.AGENT,
            at=2.0,
            party=Party.AGENT,
            resource=Resource.MEMORY,
            full_avg10=88.0,
        ),
    ),
    s2a(_AGENT_SILENT, stalled(Party.AGENT, waited_s=44.0)),
    a2c(_CLIENT_SILENT, stalled(Party.CLIENT, waited_s=44.0)),
    s2a(_SERVER_SILENT, stalled(Party.SERVER, cpu_s=20.0, gap_s=21.0)),
    s2a(_AGENT_SILENT, stalled(Party.AGENT, cpu_s=44.0)),
    s2a(_AGENT_SILENT, stalled(Party.AGENT)),
    a2c(_CLIENT_SILENT, stalled(Party.CLIENT)),
    s2a(_SERVER_SILENT, stalled(Party.SERVER)),
    a2c(ended(Party.AGENT, StreamEnd.SILENT, Vantage.CLIENT), stalled(Party.RELAY)),
    s2a(_AGENT_SILENT, stalled(Party.AGENT, waited_s=None)),
    a2c(_CLIENT_SILENT, stalled(Party.CLIENT, cpu_s=None, waited_s=None)),
    s2a(_AGENT_SILENT, counters(Vantage.SERVER, Party.AGENT, acked_ms=900)),
    c2s(
        ended(Party.CLIENT, StreamEnd.SILENT, Vantage.SERVER),
        counters(Vantage.SERVER, Party.CLIENT, acked_ms=900),
    ),
    s2a(_SERVER_SILENT, counters(Vantage.AGENT, Party.SERVER, acked_ms=900)),
    a2c(
        ended(Party.RELAY, StreamEnd.SILENT, Vantage.CLIENT),
        counters(Vantage.CLIENT, Party.RELAY, acked_ms=900),
    ),
)
