"""One case for each row of `rules.ide`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution.case import Case
from tether.attribution.examples.facts import a2c, backend, ide_closed
from tether.attribution.vocabulary import Party

EXAMPLES: tuple[Case, ...] = (
    a2c(backend(signal="KILL", oom_kills=1)),
    a2c(backend(signal="TERM")),
    a2c(backend(0)),
    a2c(backend(3)),
    a2c(backend(oom_kills=None)),
    a2c(ide_closed(Party.CLIENT)),
    a2c(ide_closed(Party.AGENT)),
)
