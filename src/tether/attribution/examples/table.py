"""One reachable case for each rule, in the order of the table of rules.

Law: data only. A new rule's example takes the same place in the module of the same name.
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
