"""How the verdict holds when a party says nothing: the same evidence, judged again without a vantage.

Law: pure. The product's own judgement is asked again, with the facts of one vantage left out; what it
says then may be unknown, but must not be wrong and sure of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from tether.attribution.classify import classify
from tether.attribution.evidence import from_record
from tether.attribution.vocabulary import ConnectType
from tether_gauntlet.scoring import Match, Outcome

Row = Mapping[str, Any]
WITHOUT: Mapping[str, Callable[[Row], bool]] = {
    "client": lambda fact: fact["vantage"] == "client",
    "post-mortem": lambda fact: fact["kind"] == "previous_run_died",
    "relay": lambda fact: fact["vantage"] == "relay",
}
"""Name -> the facts that are withheld."""


def without_vantages(outcome: Outcome, explained: Mapping[str, Row]) -> Outcome:
    """`outcome`, and how often each vantage's silence leaves it right, unknown, or wrong."""
    told: dict[str, dict[str, int]] = {}
    for name, withheld in WITHOUT.items():
        counts = {"right": 0, "unknown": 0, "wrong": 0}
        for match in outcome.matches:
            counts[_verdict(match, explained[match.row["id"]], withheld)] += 1
        told[name] = counts
    return replace(outcome, ablation=told)


def _verdict(match: Match, explained: Row, withheld: Callable[[Row], bool]) -> str:
    facts = [
        from_record({**fact, "at": datetime.fromisoformat(fact["at"]).timestamp()})
        for fact in explained["evidence"]
        if not withheld(fact)
    ]
    disconnect = classify(ConnectType(match.row["connect_type"]), facts).disconnect
    again = Match(match.truth, {**match.row, **disconnect.fields()})
    if not again.wrong:
        return "right"
    return "unknown" if again.unknown else "wrong"
