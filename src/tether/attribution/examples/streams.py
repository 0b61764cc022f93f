"""One case for each row of `rules.streams`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import A2C, LOGGED_IN, S2A, ended
from tether.attribution.vocabulary import Party, StreamEnd, Vantage

EXAMPLES: tuple[Case, ...] = (
    Case(A2C, (LOGGED_IN, ended(Party.CLIENT, StreamEnd.EOF))),
    Case(A2C, (LOGGED_IN, ended(Party.CLIENT, StreamEnd.SILENT))),
    Case(S2A, (ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER),)),
    Case(S2A, (ended(Party.AGENT, StreamEnd.SILENT, Vantage.SERVER),)),
    Case(S2A, (ended(Party.SERVER, StreamEnd.RESET, Vantage.AGENT),)),
    Case(S2A, (ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT),)),
    Case(S2A, (ended(Party.SERVER, StreamEnd.SILENT, Vantage.AGENT),)),
    Case(
        A2C,
        (
            LOGGED_IN,
            ended(Party.RELAY, StreamEnd.EOF, Vantage.AGENT),
            ev.NeverReturned(vantage=Vantage.AGENT, at=60.0, party=Party.CLIENT, waited_s=50),
        ),
    ),
    Case(A2C, (LOGGED_IN, ended(Party.RELAY, StreamEnd.EOF, Vantage.AGENT))),
    Case(A2C, (LOGGED_IN, ended(Party.RELAY, StreamEnd.TIMED_OUT, Vantage.AGENT))),
)
