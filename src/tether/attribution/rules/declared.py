"""What the owner of a connection by_goodbye, and what was refused before anything ran.

Law: rows only; see `table`.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.picks import (
    by_failed,
    by_goodbye,
    by_intent,
    by_offender,
    by_policy,
    by_refusal,
    by_slow,
    by_stop,
)
from tether.attribution.predicates.predicate import both, has, never, saw
from tether.attribution.predicates.sessions import (
    LOGGED_IN,
    NOT_CLIENT,
    ONLY_LOOKS,
    intended,
    only_refused,
    stop_declared,
)
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import Basis, Party, Resource

FAILED_INSIDE = saw(ev.InternalFailure, party=Party.AGENT)

RULES: tuple[Rule, ...] = (
    Rule(
        "agent-descriptors-exhausted",
        both(FAILED_INSIDE, saw(ev.Exhausted, party=Party.AGENT, resource=Resource.DESCRIPTORS)),
        "agent.descriptors_exhausted",
        Basis.OBSERVED,
        "The agent failed as it had no file descriptor left.",
    ),
    Rule(
        "internal-failure",
        FAILED_INSIDE,
        "agent.internal_error",
        Basis.OBSERVED,
        "The agent caught an error of its own while it handled the connection.",
    ),
    Rule(
        "duplicate-agent",
        has(ev.Superseded, "turns>1", lambda fact: fact.turns > 1),
        "agent.duplicate",
        Basis.OBSERVED,
        "Two agents took the same workspace from each other again and again.",
    ),
    Rule(
        "superseded",
        saw(ev.Superseded),
        "agent.superseded",
        Basis.OBSERVED,
        "The server saw a newer connection with the same identity and ended this one.",
    ),
    Rule(
        "no-common-algorithm",
        both(saw(ev.NoCommonAlgorithm), never(ONLY_LOOKS)),
        "client.no_common_algorithm",
        Basis.OBSERVED,
        "The client's offer of algorithms and the agent's have none in common for one purpose.",
    ),
    Rule(
        "protocol-violated",
        saw(ev.ProtocolViolated),
        by_offender,
        Basis.OBSERVED,
        "Bytes arrived that mean nothing in the protocol.",
    ),
    Rule(
        "slow-reader",
        saw(ev.QueueOverflowed),
        by_slow,
        Basis.OBSERVED,
        "What was to be sent piled up to its bound, because nobody took it.",
    ),
    Rule(
        "stopped-as-intended",
        both(saw(ev.GoodbyeSaid, by=Party.AGENT, cause="agent.shutdown"), intended),
        by_intent,
        Basis.DECLARED,
        "The agent was stopped just after somebody had asked the server for it.",
    ),
    Rule(
        "stopped-as-declared",
        both(saw(ev.GoodbyeSaid, by=Party.AGENT, cause="agent.shutdown"), stop_declared),
        by_stop,
        Basis.DECLARED,
        "The agent was stopped because the server had said that the workspace was to stop.",
    ),
    Rule(
        "goodbye",
        saw(ev.GoodbyeSaid, by=NOT_CLIENT),
        by_goodbye,
        Basis.DECLARED,
        "The party that left said so, and why, before it closed.",
    ),
    Rule(
        "failed-elsewhere",
        saw(ev.InternalFailure),
        by_failed,
        Basis.OBSERVED,
        "A program of ours caught an error of its own while it handled the connection.",
    ),
    Rule(
        "refused",
        both(saw(ev.AccessRefused), never(LOGGED_IN)),
        by_refusal,
        Basis.OBSERVED,
        "Every credential that the client offered was refused.",
    ),
    Rule(
        "handshake-timeout",
        saw(ev.HandshakeTimedOut, by=Party.CLIENT),
        "client.handshake_timeout",
        Basis.OBSERVED,
        "The client connected and did not finish its handshake in time.",
    ),
    Rule(
        "refused-by-policy",
        only_refused,
        by_policy,
        Basis.OBSERVED,
        "The workspace's policy refused what the client had come for.",
    ),
)
