"""One reachable case per rule, in the order of the table. Docs and tests read them.

Law: data only. A rule that is added gets its example at the same place of the module of the same name.
"""

from __future__ import annotations

from tether.attribution.case import Case
from tether.attribution.examples import (
    absence,
    declared,
    host,
    ide,
    network,
    post_mortem,
    session,
    streams,
)

EXAMPLES: tuple[Case, ...] = (
    *declared.EXAMPLES,
    *ide.EXAMPLES,
    *session.EXAMPLES,
    *post_mortem.EXAMPLES,
    *host.EXAMPLES,
    *network.EXAMPLES,
    *streams.EXAMPLES,
    *absence.EXAMPLES,
)
"""One case per rule, in the order of the table."""
