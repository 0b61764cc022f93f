"""One case for each row of `rules.ide`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution.case import Case
from tether.attribution.examples.facts import A2C, backend, ide_closed
from tether.attribution.vocabulary import Party

EXAMPLES: tuple[Case, ...] = (
    Case(A2C, (backend(signal="KILL", oom_kills=1),)),
    Case(A2C, (backend(signal="TERM"),)),
    Case(A2C, (backend(0),)),
    Case(A2C, (backend(3),)),
    Case(A2C, (backend(oom_kills=None),)),
    Case(A2C, (ide_closed(Party.CLIENT),)),
    Case(A2C, (ide_closed(Party.AGENT),)),
)
