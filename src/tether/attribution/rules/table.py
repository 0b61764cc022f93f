"""From facts to a cause: an ordered table. The first rule that matches decides.

Law: the order *is* the precedence, readable top-down: what the owner of a connection declared, then
what SSH itself said, then what the other side declared, then post-mortems, then what was merely
observed, then absence. Rules never read `detail`, never subtract two observers' clocks, never look
outside the case. `examples` holds one reachable case per rule, in the order of the table; the tests hold
every rule to the eight laws (no rule shadowed, none idle, order of facts irrelevant, total, …). The rows
lie in this package's modules; the order of the modules is the order below.
"""

from __future__ import annotations

from tether.attribution.rules import (
    absence,
    declared,
    host,
    ide,
    network,
    post_mortem,
    session,
    streams,
)
from tether.attribution.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    *declared.RULES,
    *ide.RULES,
    *session.RULES,
    *post_mortem.RULES,
    *host.RULES,
    *network.RULES,
    *streams.RULES,
    *absence.RULES,
)
