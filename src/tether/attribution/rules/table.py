"""From facts to a cause: an ordered table. The first rule that matches decides.

Law: the order is the precedence, read from the top: what the owner of a connection declared, what SSH
itself said, what the other side declared, post-mortems, what was merely observed, and absence. Rules
never read `detail`, never subtract two observers' clocks, and never look outside the case. `examples`
holds one reachable case for each rule, in the order of the table. The tests hold every rule to eight
laws (none is shadowed, none idle, the order of the facts does not matter, any facts are judged, …).
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
