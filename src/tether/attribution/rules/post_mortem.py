"""What the next run of a program found out about its last.

Law: rows only; see `rules`.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.predicates import CONTROL, both, saw
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import Basis, Party

RULES: tuple[Rule, ...] = (
    Rule(
        "agent-host-rebooted",
        saw(ev.PreviousRunDied, party=Party.AGENT, host_rebooted=True),
        "agent.host_rebooted",
        Basis.OBSERVED,
        "The agent's next run found another boot id and no clean stop.",
    ),
    Rule(
        "agent-post-mortem",
        saw(ev.PreviousRunDied, party=Party.AGENT),
        "agent.crashed",
        Basis.OBSERVED,
        "The agent's next run, on the same boot, found no clean stop.",
    ),
    Rule(
        "server-post-mortem",
        both(saw(ev.PreviousRunDied, party=Party.SERVER), CONTROL),
        "server.crashed",
        Basis.OBSERVED,
        "The server's next run found no clean stop.",
    ),
)
