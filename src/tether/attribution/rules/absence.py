"""What can be said when nobody saw an end.

Law: rows only; see `table`.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import UNKNOWN
from tether.attribution.predicates.predicate import SESSION, anything, both, saw
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import Basis, Confidence, Party

RULES: tuple[Rule, ...] = (
    Rule(
        "relay-died-with-server",
        both(SESSION, saw(ev.PreviousRunDied, party=Party.SERVER)),
        "relay.crashed",
        Basis.INFERRED,
        "The server whose relay carried the connection ended without a clean stop.",
        Confidence.MEDIUM,
    ),
    Rule(
        "agent-never-returned",
        saw(ev.NeverReturned, party=Party.AGENT),
        "agent.vanished",
        Basis.INFERRED,
        "The agent was gone and did not come back.",
        Confidence.LOW,
    ),
    Rule(
        "no-evidence",
        anything,
        UNKNOWN,
        Basis.INFERRED,
        "Nothing that was seen or said explains this end.",
        Confidence.LOW,
    ),
)
