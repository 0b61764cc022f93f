"""Whose machine slept, whose process stood still or starved, and whose intent was behind a loss.

Law: rows only; see `rules`. A party's account of its own standing still explains a silence, never an
orderly end: those rules come before.
"""

from __future__ import annotations

from math import inf

from tether.attribution import evidence as ev
from tether.attribution.arithmetic import lively
from tether.attribution.case import Case, Predicate, both, either, has, saw
from tether.attribution.predicates import CONTROL, GIVEN_UP, SESSION, SOFT, by_intent, intended
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import Basis, Confidence, Party, Resource, StreamEnd

STALL_S = 5.0
"""A shorter gap ends no connection: every patience here is longer."""

THRASHING = 40.0
"""Per cent of ten seconds in which nobody in the group could go on for want of memory."""

STARVING = 80.0
"""Per cent of ten seconds in which nobody in the group could go on for want of CPU."""


def _starved(fact: ev.LoopStalled) -> bool:
    return max(fact.waited_s or 0.0, fact.throttled_s or 0.0) >= fact.gap_s / 2


def _busy(fact: ev.LoopStalled) -> bool:
    return (fact.cpu_s or 0.0) >= fact.gap_s / 2


def _long_enough(case: Case, gap_s: float) -> bool:
    """Whether who was away for so long cannot accuse, or be heard by, the other end: for `STALL_S`, or
    for half of the silence after which somebody gave up."""
    silences = [ended.silence_s for ended in case.all(ev.StreamEnded) if ended.silence_s]
    return gap_s >= min(STALL_S, max(silences, default=inf) / 2)


def _starved_gaps(party: Party) -> Predicate:
    """The party's process waited for a CPU for most of one long gap, or of several in a row."""

    def check(case: Case) -> bool:
        gaps = [
            fact.gap_s
            for fact in case.all(ev.LoopStalled)
            if fact.party is party and _starved(fact)
        ]
        return bool(gaps) and _long_enough(case, sum(gaps))

    words = (
        f"party={party}, waited for a CPU or throttled for half of {STALL_S:.0f} s or of a silence"
    )
    return Predicate(check, f"{ev.LoopStalled.kind}({words})", [ev.LoopStalled])


def starved(party: Party) -> Predicate:
    """The party's process waited for a CPU for most of a long time."""
    return either(
        _starved_gaps(party),
        has(
            ev.Pressure,
            f"party={party}, resource=cpu, full_avg10>={STARVING:.0f}",
            lambda fact: (
                fact.party is party
                and fact.resource is Resource.CPU
                and fact.full_avg10 >= STARVING
            ),
        ),
    )


def busy(party: Party) -> Predicate:
    """The party's process used a CPU for most of a long gap: its loop was blocked."""
    return has(
        ev.LoopStalled,
        f"party={party}, used a CPU for half of {STALL_S:.0f} s or more",
        lambda fact: fact.party is party and fact.gap_s >= STALL_S and _busy(fact),
    )


def _accounted(fact: ev.LoopStalled) -> bool:
    return fact.cpu_s is not None and fact.waited_s is not None


def frozen(party: Party) -> Predicate:
    """The party's process neither ran nor wanted to for a long gap, on a machine that was awake, by its
    kernel's account."""
    return has(
        ev.LoopStalled,
        f"party={party}, neither ran nor waited for most of {STALL_S:.0f} s or more",
        lambda fact: (
            fact.party is party
            and fact.gap_s >= STALL_S
            and _accounted(fact)
            and not _starved(fact)
            and not _busy(fact)
        ),
    )


def stood_still(party: Party) -> Predicate:
    """The party's process was away for a long gap, and its kernel keeps no account of such."""
    return has(
        ev.LoopStalled,
        f"party={party}, gap_s>={STALL_S:.0f}, cpu_s or waited_s not told",
        lambda fact: fact.party is party and fact.gap_s >= STALL_S and not _accounted(fact),
    )


def suspended(party: Party) -> Predicate:
    """The party's machine slept for a while that a connection notices."""
    return has(
        ev.Suspended,
        f"party={party}, gap_s>={STALL_S:.0f}",
        lambda fact: fact.party is party and fact.gap_s >= STALL_S,
    )


LOST = saw(ev.StreamEnded)
SILENT = saw(ev.StreamEnded, how=SOFT)
UNHEARD = either(SILENT, GIVEN_UP)
"""Of a control link: a server that stood still wakes up to peers that have given it up."""

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
            has(
                ev.Pressure,
                f"party=agent, resource=memory, full_avg10>={THRASHING:.0f}",
                lambda fact: (
                    fact.party is Party.AGENT
                    and fact.resource is Resource.MEMORY
                    and fact.full_avg10 >= THRASHING
                ),
            ),
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
        both(saw(ev.StreamEnded, peer=Party.AGENT, how=StreamEnd.SILENT), lively(Party.AGENT)),
        "agent.unresponsive",
        Basis.INFERRED,
        "The agent fell silent while its kernel still acknowledged data.",
        Confidence.MEDIUM,
    ),
    Rule(
        "client-unresponsive",
        both(saw(ev.StreamEnded, peer=Party.CLIENT, how=StreamEnd.SILENT), lively(Party.CLIENT)),
        "client.unresponsive",
        Basis.INFERRED,
        "The client fell silent while its kernel still acknowledged data.",
        Confidence.MEDIUM,
    ),
    Rule(
        "server-unresponsive",
        both(
            CONTROL,
            saw(ev.StreamEnded, peer=Party.SERVER, how=StreamEnd.SILENT),
            lively(Party.SERVER),
        ),
        "server.unresponsive",
        Basis.INFERRED,
        "The server fell silent while its kernel still acknowledged data.",
        Confidence.MEDIUM,
    ),
    Rule(
        "relay-unresponsive",
        both(saw(ev.StreamEnded, peer=Party.RELAY, how=StreamEnd.SILENT), lively(Party.RELAY)),
        "relay.unresponsive",
        Basis.INFERRED,
        "The relay fell silent while its kernel still acknowledged data.",
        Confidence.MEDIUM,
    ),
)
