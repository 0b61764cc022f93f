"""What was merely observed of byte streams.

Law: rows only; see `rules`.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.predicates import HARD, LIVELY, SOFT, both, saw
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import Basis, Party, StreamEnd

RULES: tuple[Rule, ...] = (
    Rule(
        "client-stream-ended",
        saw(ev.StreamEnded, peer=Party.CLIENT, how=HARD),
        "client.vanished",
        Basis.INFERRED,
        "The client's stream ended at once and without a goodbye.",
    ),
    Rule(
        "client-stream-silent",
        saw(ev.StreamEnded, peer=Party.CLIENT, how=SOFT),
        "client.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the client.",
    ),
    Rule(
        "agent-stream-ended",
        saw(ev.StreamEnded, peer=Party.AGENT, how=HARD),
        "agent.vanished",
        Basis.INFERRED,
        "The agent's stream ended at once and without a goodbye.",
    ),
    Rule(
        "agent-frozen",
        both(saw(ev.StreamEnded, peer=Party.AGENT, how=StreamEnd.SILENT), LIVELY),
        "agent.unresponsive",
        Basis.INFERRED,
        "The agent fell silent while its kernel still acknowledged data.",
    ),
    Rule(
        "agent-stream-silent",
        saw(ev.StreamEnded, peer=Party.AGENT, how=SOFT),
        "agent.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the agent.",
    ),
    Rule(
        "server-stream-ended",
        saw(ev.StreamEnded, peer=Party.SERVER, how=HARD),
        "server.vanished",
        Basis.INFERRED,
        "The server's stream ended at once and without a goodbye.",
    ),
    Rule(
        "server-stream-silent",
        saw(ev.StreamEnded, peer=Party.SERVER, how=SOFT),
        "server.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the server.",
    ),
    Rule(
        "relay-stream-ended",
        saw(ev.StreamEnded, peer=Party.RELAY, how=HARD),
        "relay.crashed",
        Basis.INFERRED,
        "The relay's stream ended at once and without a goodbye.",
    ),
    Rule(
        "relay-stream-silent",
        saw(ev.StreamEnded, peer=Party.RELAY, how=SOFT),
        "relay.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the relay.",
    ),
)
