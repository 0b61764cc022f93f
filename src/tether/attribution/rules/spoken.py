"""What the owner of a connection declared, and what was refused before anything ran.

Law: rows only; see `rules`.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.predicates import (
    LOGGED_IN,
    NOT_CLIENT,
    both,
    by_offender,
    by_policy,
    by_refusal,
    declared,
    never,
    only_refused,
    saw,
)
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import Basis, Party

RULES: tuple[Rule, ...] = (
    Rule(
        "internal-failure",
        saw(ev.InternalFailure, party=Party.AGENT),
        "agent.internal_error",
        Basis.OBSERVED,
        "The agent caught an error of its own while it handled the connection.",
    ),
    Rule(
        "superseded",
        saw(ev.Superseded),
        "agent.superseded",
        Basis.OBSERVED,
        "The server saw a newer connection with the same identity and ended this one.",
    ),
    Rule(
        "protocol-violated",
        saw(ev.ProtocolViolated),
        by_offender,
        Basis.OBSERVED,
        "Bytes arrived that mean nothing in the protocol.",
    ),
    Rule(
        "goodbye",
        saw(ev.GoodbyeSaid, by=NOT_CLIENT),
        declared,
        Basis.DECLARED,
        "The party that left said so, and why, before it closed.",
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
