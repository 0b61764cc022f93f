"""One case for each row of `rules.streams`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import LOGGED_IN, a2c, ended, s2a
from tether.attribution.vocabulary import Party, StreamEnd, Vantage

EXAMPLES: tuple[Case, ...] = (
    a2c(LOGGED_IN, ended(Party.CLIENT, StreamEnd.EOF)),
    a2c(LOGGED_IN, ended(Party.CLIENT, StreamEnd.SILENT)),
    s2a(ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER)),
    s2a(ended(Party.AGENT, StreamEnd.SILENT, Vantage.SERVER)),
    s2a(ended(Party.SERVER, StreamEnd.RESET, Vantage.AGENT)),
    s2a(ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT)),
    s2a(ended(Party.SERVER, StreamEnd.SILENT, Vantage.AGENT)),
    a2c(
        LOGGED_IN,
        ended(Party.RELAY, StreamEnd.EOF, Vantage.AGENT),
        ev.NeverReturned(vantage=Vantage.AGENT, at=60.0, party=Party.CLIENT, waited_s=50),
    ),
    a2c(LOGGED_IN, ended(Party.RELAY, StreamEnd.EOF, Vantage.AGENT)),
    a2c(LOGGED_IN, ended(Party.RELAY, StreamEnd.TIMED_OUT, Vantage.AGENT)),
)
