"""A machine that slept, a process that stood still or starved, and an intent behind a loss.

Law: rows only; see `table`. A party that tells of its own pause explains a silence with it, never an
orderly end: the rules of those come before.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.picks import by_intent
from tether.attribution.predicates.hosts import (
    agent_thrashing,
    busy,
    frozen,
    starved,
    stood_still,
    suspended,
)
from tether.attribution.predicates.predicate import (
    CONTROL,
    SESSION,
    Predicate,
    both,
    either,
    never,
    saw,
)
from tether.attribution.predicates.sessions import intended
from tether.attribution.predicates.streams import LOST, SILENT, UNHEARD, lively
from tether.attribution.predicates.testimony import tells_of_itself
from tether.attribution.rules.rule import Rule, Sight
from tether.attribution.vocabulary import Basis, Confidence, Party, StreamEnd


def unresponsive(party: Party) -> Predicate:
    """The party fell silent while its kernel still acknowledged, and it tells nothing of that itself."""
    return both(
        saw(ev.StreamEnded, peer=party, how=StreamEnd.SILENT),
        lively(party),
        never(tells_of_itself(party)),
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "intended",
        both(intended, LOST),
        by_intent,
        Basis.DECLARED,
        "Somebody had asked the server for it just before, though no goodbye came through.",
    ),
    Rule(
        "client-suspended",
        both(suspended(Party.CLIENT), LOST),
        "client.suspended",
        Basis.OBSERVED,
        "The client's boot time went on while its monotonic clock stood still.",
    ),
    Rule(
        "agent-suspended",
        both(suspended(Party.AGENT), LOST),
        "agent.suspended",
        Basis.OBSERVED,
        "The boot time of the workspace's machine went on while its monotonic clock stood still.",
    ),
    Rule(
        "agent-thrashing",
        both(
            SILENT,
            agent_thrashing,
        ),
        "agent.memory_thrashing",
        Basis.INFERRED,
        "The workspace stood still for want of memory while nothing was heard.",
        Confidence.MEDIUM,
    ),
    Rule(
        "agent-starved",
        both(SILENT, starved(Party.AGENT)),
        "agent.starved",
        Basis.INFERRED,
        "The agent wanted to run and got no CPU while nothing was heard.",
    ),
    Rule(
        "client-starved",
        both(SILENT, starved(Party.CLIENT)),
        "client.starved",
        Basis.INFERRED,
        "The client wanted to run and got no CPU while nothing was heard.",
    ),
    Rule(
        "server-starved",
        both(CONTROL, UNHEARD, either(starved(Party.SERVER), busy(Party.SERVER))),
        "server.overloaded",
        Basis.INFERRED,
        "The server's own loop did not turn while the link fell silent.",
    ),
    Rule(
        "agent-busy",
        both(SILENT, busy(Party.AGENT)),
        "agent.unresponsive",
        Basis.INFERRED,
        "The agent's own loop did not turn while nothing was heard, and used its CPU.",
        Confidence.MEDIUM,
    ),
    Rule(
        "agent-frozen",
        both(SILENT, frozen(Party.AGENT)),
        "agent.frozen",
        Basis.INFERRED,
        "The agent's process did not run for a while, did not wait to, and its machine was awake.",
        Confidence.MEDIUM,
    ),
    Rule(
        "client-frozen",
        both(SILENT, frozen(Party.CLIENT)),
        "client.frozen",
        Basis.INFERRED,
        "The client's process did not run for a while, did not wait to, and its machine was awake.",
        Confidence.MEDIUM,
    ),
    Rule(
        "server-frozen",
        both(CONTROL, UNHEARD, either(frozen(Party.SERVER), stood_still(Party.SERVER))),
        "server.unresponsive",
        Basis.INFERRED,
        "The server's process did not run for a while, and nobody tells that it waited to.",
        Confidence.MEDIUM,
    ),
    Rule(
        "relay-stood-still",
        both(
            SESSION,
            SILENT,
            either(
                starved(Party.RELAY),
                busy(Party.RELAY),
                frozen(Party.RELAY),
                stood_still(Party.RELAY),
            ),
        ),
        "relay.unresponsive",
        Basis.INFERRED,
        "The relay's own loop did not turn while nothing was heard over it.",
    ),
    Rule(
        "agent-stood-still",
        both(SILENT, stood_still(Party.AGENT)),
        "agent.unresponsive",
        Basis.INFERRED,
        "The agent's own loop did not turn while nothing was heard; why is not told.",
        Confidence.MEDIUM,
    ),
    Rule(
        "client-stood-still",
        both(SILENT, stood_still(Party.CLIENT)),
        "client.unresponsive",
        Basis.INFERRED,
        "The client's own loop did not turn while nothing was heard; why is not told.",
        Confidence.MEDIUM,
    ),
    Rule(
        "agent-unresponsive",
        unresponsive(Party.AGENT),
        "agent.unresponsive",
        Basis.INFERRED,
        "The agent fell silent while its kernel still acknowledged data.",
        Confidence.MEDIUM,
        sight=Sight.BLOCKED,
    ),
    Rule(
        "client-unresponsive",
        unresponsive(Party.CLIENT),
        "client.unresponsive",
        Basis.INFERRED,
        "The client fell silent while its kernel still acknowledged data.",
        Confidence.MEDIUM,
        sight=Sight.BLOCKED,
    ),
    Rule(
        "server-unresponsive",
        both(CONTROL, unresponsive(Party.SERVER)),
        "server.unresponsive",
        Basis.INFERRED,
        "The server fell silent while its kernel still acknowledged data.",
        Confidence.MEDIUM,
        sight=Sight.BLOCKED,
    ),
    Rule(
        "relay-unresponsive",
        unresponsive(Party.RELAY),
        "relay.unresponsive",
        Basis.INFERRED,
        "The relay fell silent while its kernel still acknowledged data.",
        Confidence.MEDIUM,
        sight=Sight.BLOCKED,
    ),
)
