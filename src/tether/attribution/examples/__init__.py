"""One reachable case per rule, in the order of the table. Docs and tests read them.

Law: data only. A rule that is added gets its example at the same place of the module of the same name.
"""

from __future__ import annotations

from tether.attribution.examples import absence, ide, post_mortem, session, spoken, streams
from tether.attribution.predicates import Case

EXAMPLES: tuple[Case, ...] = (
    *spoken.EXAMPLES,
    *ide.EXAMPLES,
    *session.EXAMPLES,
    *post_mortem.EXAMPLES,
    *streams.EXAMPLES,
    *absence.EXAMPLES,
)
"""One case per rule, in the order of the table."""
