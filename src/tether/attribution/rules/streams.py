"""What was merely observed of byte streams.

Law: rows only; see `table`.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.predicates.predicate import CONTROL, both, never, saw
from tether.attribution.predicates.testimony import missed
from tether.attribution.rules.rule import Rule, Sight
from tether.attribution.vocabulary import (
    ABRUPT_ENDS,
    SILENT_ENDS,
    Basis,
    Confidence,
    Party,
    StreamEnd,
    Vantage,
)

RULES: tuple[Rule, ...] = (
    Rule(
        "client-stream-ended",
        saw(ev.StreamEnded, peer=Party.CLIENT, how=ABRUPT_ENDS),
        "client.vanished",
        Basis.INFERRED,
        "The client's stream ended at once and without a goodbye.",
        Confidence.MEDIUM,
        sight=Sight.BLURRED,
    ),
    Rule(
        "client-stream-silent",
        saw(ev.StreamEnded, peer=Party.CLIENT, how=SILENT_ENDS),
        "client.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the client.",
        Confidence.MEDIUM,
    ),
    Rule(
        "agent-stream-ended",
        both(
            saw(ev.StreamEnded, peer=Party.AGENT, how=ABRUPT_ENDS),
            never(missed(Party.AGENT, Party.CLIENT)),
        ),
        "agent.vanished",
        Basis.INFERRED,
        "The agent's stream ended at once and without a goodbye.",
        Confidence.MEDIUM,
        sight=Sight.BLURRED,
    ),
    Rule(
        "agent-stream-silent",
        both(
            saw(ev.StreamEnded, peer=Party.AGENT, how=SILENT_ENDS),
            never(missed(Party.AGENT, Party.CLIENT)),
        ),
        "agent.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the agent.",
        Confidence.MEDIUM,
    ),
    Rule(
        "server-stream-reset",
        both(CONTROL, saw(ev.StreamEnded, peer=Party.SERVER, how=StreamEnd.RESET)),
        "network.middlebox_reset",
        Basis.INFERRED,
        "The link was reset; a server that ends, even a killed one, as a rule closes it.",
        Confidence.LOW,
    ),
    Rule(
        "server-stream-ended",
        saw(ev.StreamEnded, peer=Party.SERVER, how=ABRUPT_ENDS),
        "server.vanished",
        Basis.INFERRED,
        "The server's stream ended at once and without a goodbye.",
        Confidence.MEDIUM,
        sight=Sight.BLURRED,
    ),
    Rule(
        "server-stream-silent",
        saw(ev.StreamEnded, peer=Party.SERVER, how=SILENT_ENDS),
        "server.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the server.",
        Confidence.MEDIUM,
    ),
    Rule(
        "client-never-returned",
        both(
            saw(ev.NeverReturned, party=Party.CLIENT),
            never(saw(ev.StreamEnded, vantage=Vantage.CLIENT, peer=Party.RELAY)),
            never(saw(ev.PreviousRunDied, party=Party.SERVER)),
        ),
        "client.unreachable",
        Basis.INFERRED,
        "The tunnel had lost its relay, and its client, which does not tell of that, did not come back.",
        Confidence.MEDIUM,
    ),
    Rule(
        "relay-stream-ended",
        saw(ev.StreamEnded, peer=Party.RELAY, how=ABRUPT_ENDS),
        "relay.crashed",
        Basis.INFERRED,
        "The relay's stream ended at once and without a goodbye.",
        Confidence.MEDIUM,
        sight=Sight.BLURRED,
    ),
    Rule(
        "relay-stream-silent",
        saw(ev.StreamEnded, peer=Party.RELAY, how=SILENT_ENDS),
        "relay.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the relay.",
        Confidence.MEDIUM,
    ),
)
