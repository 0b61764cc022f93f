"""One case for each row of `rules.post_mortem`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import a2c, c2s, died, ended, s2a
from tether.attribution.vocabulary import Party, StreamEnd, Vantage

_AGENT_GONE = ended(Party.AGENT, StreamEnd.EOF)
_SERVER_GONE = ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT)
_CLIENT_SILENT = ended(Party.CLIENT, StreamEnd.SILENT)

EXAMPLES: tuple[Case, ...] = (
    a2c(
        died(Party.AGENT, signal=9),
        _AGENT_GONE,
        ev.IntentRecorded(
            vantage=Vantage.SERVER,
            at=3.0,
            intent="stop",
            cause="workspace.evicted",
            before_s=11.0,
            actor="platform",
        ),
    ),
    a2c(died(Party.AGENT, host_rebooted=True), ended(Party.AGENT, StreamEnd.SILENT)),
    a2c(died(Party.AGENT, signal=9, oom_kills=1), _AGENT_GONE),
    a2c(
        ev.SignalReceived(
            vantage=Vantage.AGENT, at=2.0, party=Party.AGENT, signal=15, sender="pid 1 uid 0"
        ),
        died(Party.AGENT, signal=9),
        _AGENT_GONE,
    ),
    a2c(died(Party.AGENT, container_changed=True), _AGENT_GONE),
    a2c(died(Party.AGENT, upgraded=True, signal=9, last_alive_at=5.0), _AGENT_GONE),
    a2c(died(Party.AGENT, signal=9, oom_kills=0), _AGENT_GONE),
    a2c(died(Party.AGENT, signal=9), _AGENT_GONE),
    a2c(died(Party.AGENT, signal=11, core=True), _AGENT_GONE),
    s2a(died(Party.SERVER, host_rebooted=True), _SERVER_GONE),
    s2a(died(Party.SERVER, oom_named=True), _SERVER_GONE),
    s2a(
        ev.SignalReceived(
            vantage=Vantage.SERVER,
            at=3.0,
            party=Party.SERVER,
            signal=15,
            sender="pid 1 uid 0",
        ),
        died(Party.SERVER, signal=9, sender="pid 1 uid 0"),
        _SERVER_GONE,
    ),
    s2a(died(Party.SERVER, signal=9), _SERVER_GONE),
    s2a(died(Party.SERVER, signal=11, core=True), _SERVER_GONE),
    a2c(died(Party.RELAY), ended(Party.RELAY, StreamEnd.SILENT, Vantage.AGENT)),
    c2s(died(Party.CLIENT, host_rebooted=True), _CLIENT_SILENT),
    a2c(died(Party.CLIENT, oom_kills=2), _CLIENT_SILENT),
    a2c(died(Party.CLIENT), _CLIENT_SILENT),
)
