"""One case for each row of `rules.host`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import A2C, C2S, LOGGED_IN, S2A, counters, ended, stalled
from tether.attribution.vocabulary import Party, Resource, StreamEnd, Vantage

_CLIENT_SILENT = ended(Party.CLIENT, StreamEnd.SILENT)
_AGENT_SILENT = ended(Party.AGENT, StreamEnd.SILENT, Vantage.SERVER)
_SERVER_SILENT = ended(Party.SERVER, StreamEnd.SILENT, Vantage.AGENT)

EXAMPLES: tuple[Case, ...] = (
    Case(
        S2A,
        (
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
    ),
    Case(
        A2C,
        (
            LOGGED_IN,
            _CLIENT_SILENT,
            ev.Suspended(vantage=Vantage.CLIENT, at=93.0, party=Party.CLIENT, gap_s=90.0),
        ),
    ),
    Case(
        S2A,
        (
            _AGENT_SILENT,
            ev.Suspended(vantage=Vantage.AGENT, at=93.0, party=Party.AGENT, gap_s=90.0),
        ),
    ),
    Case(
        S2A,
        (
            _AGENT_SILENT,
            ev.Pressure(
                vantage=Vantage.AGENT,
                at=2.0,
                party=Party.AGENT,
                resource=Resource.MEMORY,
                full_avg10=88.0,
            ),
        ),
    ),
    Case(S2A, (_AGENT_SILENT, stalled(Party.AGENT, waited_s=44.0))),
    Case(A2C, (_CLIENT_SILENT, stalled(Party.CLIENT, waited_s=44.0))),
    Case(S2A, (_SERVER_SILENT, stalled(Party.SERVER, cpu_s=20.0, gap_s=21.0))),
    Case(S2A, (_AGENT_SILENT, stalled(Party.AGENT, cpu_s=44.0))),
    Case(S2A, (_AGENT_SILENT, stalled(Party.AGENT))),
    Case(A2C, (_CLIENT_SILENT, stalled(Party.CLIENT))),
    Case(S2A, (_SERVER_SILENT, stalled(Party.SERVER))),
    Case(
        A2C,
        (ended(Party.AGENT, StreamEnd.SILENT, Vantage.CLIENT), stalled(Party.RELAY)),
    ),
    Case(S2A, (_AGENT_SILENT, stalled(Party.AGENT, waited_s=None))),
    Case(A2C, (_CLIENT_SILENT, stalled(Party.CLIENT, cpu_s=None, waited_s=None))),
    Case(S2A, (_AGENT_SILENT, counters(Vantage.SERVER, Party.AGENT, acked_ms=900))),
    Case(
        C2S,
        (
            ended(Party.CLIENT, StreamEnd.SILENT, Vantage.SERVER),
            counters(Vantage.SERVER, Party.CLIENT, acked_ms=900),
        ),
    ),
    Case(S2A, (_SERVER_SILENT, counters(Vantage.AGENT, Party.SERVER, acked_ms=900))),
    Case(
        A2C,
        (
            ended(Party.RELAY, StreamEnd.SILENT, Vantage.CLIENT),
            counters(Vantage.CLIENT, Party.RELAY, acked_ms=900),
        ),
    ),
)
