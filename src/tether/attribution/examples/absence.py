"""One case for each row of `rules.absence`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import LOGGED_IN, a2c, died
from tether.attribution.vocabulary import Party, Vantage

EXAMPLES: tuple[Case, ...] = (
    a2c(
        LOGGED_IN,
        died(Party.SERVER),
        ev.NeverReturned(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT, waited_s=15),
    ),
    a2c(
        LOGGED_IN, ev.NeverReturned(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT, waited_s=15)
    ),
    a2c(ev.ReportMissing(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT)),
)
