"""One case for each row of `rules.absence`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import A2C, LOGGED_IN, died
from tether.attribution.vocabulary import Party, Vantage

EXAMPLES: tuple[Case, ...] = (
    Case(
        A2C,
        (
            LOGGED_IN,
            died(Party.SERVER),
            ev.NeverReturned(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT, waited_s=15),
        ),
    ),
    Case(
        A2C,
        (
            LOGGED_IN,
            ev.NeverReturned(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT, waited_s=15),
        ),
    ),
    Case(A2C, (ev.ReportMissing(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT),)),
)
