"""One case for each row of `rules.post_mortem`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution.examples.facts import A2C, S2A, died, ended
from tether.attribution.predicates import Case
from tether.attribution.vocabulary import Party, StreamEnd, Vantage

EXAMPLES: tuple[Case, ...] = (
    Case(A2C, (died(Party.AGENT, rebooted=True), ended(Party.AGENT, StreamEnd.SILENT))),
    Case(A2C, (died(Party.AGENT), ended(Party.AGENT, StreamEnd.EOF))),
    Case(
        S2A,
        (died(Party.SERVER), ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT)),
    ),
)
