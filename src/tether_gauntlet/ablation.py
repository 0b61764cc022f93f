"""Judges kept evidence again: all of it, and without a vantage or a kind of fact.

Law: pure. Evidence is judged as the server judges it. Without a part of it a verdict may say less, be
unsure, or be unknown; it must not be wrong and sure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from enum import IntEnum
from itertools import chain, permutations
from random import Random

from tether.attribution.classify import Verdict
from tether.attribution.evidence import KINDS
from tether.attribution.records import from_record
from tether.attribution.vocabulary import Confidence, ConnectType, Vantage
from tether.server.connlog.judge import Testimony, classify_end, columns_of
from tether_gauntlet.lab.stack import Row
from tether_gauntlet.scoring import Match, RunOutcome

Withheld = Callable[[Row], bool]

POST_MORTEM = "previous_run_died"
KIND = "kind "
"""How the name begins under which one kind of fact is withheld."""


class Effect(IntEnum):
    """What becomes of a verdict, from best to worst. `SURE` must not happen."""

    RIGHT = 0
    COARSER = 1
    UNKNOWN = 2
    UNSURE = 3
    SURE = 4

    @property
    def word(self) -> str:
        """As reports say it."""
        return _WORDS[self]


_WORDS = ("right", "true but coarser", "unknown", "wrong but unsure", "wrong and sure")


def _of(vantage: Vantage) -> Withheld:
    """What this party saw, and what it reported that others had said."""
    return lambda fact: vantage in (fact["vantage"], fact["reporter"])


def _kind(kind: str) -> Withheld:
    return lambda fact: bool(fact["kind"] == kind)


NOTHING = "nothing"
VANTAGES: Mapping[str, Withheld] = {
    NOTHING: lambda fact: False,
    "client": _of(Vantage.CLIENT),
    "post-mortem": _kind(POST_MORTEM),
    "relay": _of(Vantage.RELAY),
    "agent": _of(Vantage.AGENT),
    "server": _of(Vantage.SERVER),
}
"""Name -> the facts that are withheld."""

WITHOUT: Mapping[str, Withheld] = {
    **VANTAGES,
    **{f"{KIND}{kind}": _kind(kind) for kind in KINDS if kind != POST_MORTEM},
}

COARSER: Mapping[str, tuple[str, ...]] = {
    # its process did end at once, whatever ended it
    "agent.vanished": (
        "agent.crashed",
        "agent.killed",
        "agent.oom_killed",
        "agent.host_rebooted",
        "agent.container_replaced",
    ),
    "client.vanished": ("client.oom_killed", "client.host_rebooted", "client.ssh_killed"),
    # it could not be reached, whatever had become of its machine or network
    "agent.unreachable": ("agent.link_down", "agent.address_changed", "agent.node_lost"),
    "client.unreachable": (
        "client.suspended",
        "client.link_down",
        "client.roamed",
        "client.vpn_changed",
        "network.client_upload_lost",
        "network.client_download_lost",
        "network.path_lost",
    ),
    # nothing passed between the two, wherever it got lost
    "network.path_lost": (
        "agent.link_down",
        "client.link_down",
        "client.roamed",
        "client.vpn_changed",
        "network.client_upload_lost",
        "network.client_download_lost",
        "network.agent_upload_lost",
        "network.agent_download_lost",
    ),
    "network.middlebox_reset": ("network.nat_rebinding", "network.idle_timeout"),
    # it did not answer, whatever it waited for
    "agent.unresponsive": ("agent.frozen", "agent.starved"),
    # it failed inside, whatever it had no more of
    "agent.internal_error": (
        "agent.descriptors_exhausted",
        "agent.processes_exhausted",
    ),
    # it stopped in order, whoever had asked for that
    "agent.shutdown": (
        "workspace.stopped",
        "workspace.autostop",
        "workspace.deleted",
        "workspace.evicted",
    ),
    # the client did leave of its own, whatever it had been told before
    "client.closed": ("session.exit", "session.signal", "session.oom_killed"),
    # the session did end by SIGKILL, whoever sent that
    "session.signal": ("session.oom_killed",),
    # the session did end, with the exit code that stands for a refusal
    "session.exit": ("policy.file_transfer_blocked",),
}
"""What is true, and says less -> the causes that it is true of as well."""


def judged(row: Row, withheld: Withheld = VANTAGES[NOTHING]) -> Verdict:
    """The verdict on `row`'s evidence without what is `withheld`.

    Args:
        row: a connection as it is explained, with its `evidence`.
        withheld: whether a fact of it is left out.
    """
    return classify_end(ConnectType(row["connect_type"]), _testimonies(row, withheld))


SHUFFLES = 24
"""So many orders of single facts are tried, beside all orders of the reporters."""


def by_order(row: Row) -> list[str]:
    """The causes that `row` gets in every order of its reporters, and in some of the facts of all of
    them. More than one is a fault."""
    said = _testimonies(row, VANTAGES[NOTHING])
    kind = ConnectType(row["connect_type"])
    orders = chain(permutations(said), _shuffled(said))
    return sorted({classify_end(kind, order).disconnect.cause for order in orders})


def _shuffled(said: Iterable[Testimony]) -> Iterator[list[Testimony]]:
    """Every fact as a report of its own, in a few orders, which are the same each time."""
    singly = [replace(one, facts=(fact,)) for one in said for fact in one.facts]
    for seed in range(SHUFFLES):
        Random(seed).shuffle(singly)
        yield list(singly)


def _testimonies(row: Row, withheld: Withheld) -> list[Testimony]:
    """What each reporter said, in the order of its own facts."""
    said: dict[str, list[Row]] = {}
    for fact in row["evidence"]:
        if not (fact.get("outlived") or withheld(fact)):
            said.setdefault(fact["reporter"], []).append(fact)
    return [
        Testimony(Vantage(reporter), 0.0, tuple(from_record(_timed(fact)) for fact in facts))
        for reporter, facts in said.items()
    ]


def without_vantages(outcome: RunOutcome, explained: Mapping[str, Row]) -> RunOutcome:
    """`outcome`, and what becomes of its verdicts without each vantage and each kind of fact.

    A truth counts once, as the worst of the rows that it is about. For every name in `WITHOUT`, `truths`
    counts all truths, `had` those that lost evidence, and each `Effect` how many have it then.
    """
    told: dict[str, Counter[str]] = {name: Counter() for name in WITHOUT}
    misled: list[str] = []
    for truth in dict.fromkeys(match.truth for match in outcome.matches):
        its = [(m, explained[m.row["id"]]) for m in outcome.matches if m.truth == truth]
        full = max(effect(match, judged(row)) for match, row in its)
        for name, withheld in WITHOUT.items():
            again = [(m, judged(row, withheld)) for m, row in its if _has(row, withheld)]
            effects = [effect(match, other) for match, other in again]
            told[name].update(
                ["truths", *(["had"] if again else []), max(effects, default=full).word]
            )
            misled += [
                f"{truth.connect_type} without {name}: sure of {other.disconnect.cause} "
                f"(rule {other.rule})"
                for (_, other), its_effect in zip(again, effects, strict=True)
                if full < its_effect is Effect.SURE
            ]
    return replace(
        outcome,
        ablation={
            name: {"had": 0, **counts}
            for name, counts in told.items()
            if counts["had"] or (counts["truths"] and name in VANTAGES)
        },
        misled=tuple(dict.fromkeys(misled)),
    )


def _has(row: Row, withheld: Withheld) -> bool:
    return any(withheld(fact) and not fact.get("outlived") for fact in row["evidence"])


def effect(match: Match, again: Verdict) -> Effect:
    """How another verdict on the same end compares with its truth."""
    told = Match(match.truth, {**match.row, **columns_of(again)})
    if not told.wrong:
        return Effect.RIGHT
    if told.unknown:
        return Effect.UNKNOWN
    if coarser(told.row["disconnect_cause"], match.truth.causes) or _untold(told):
        return Effect.COARSER
    sure = again.confidence is Confidence.HIGH
    return Effect.SURE if sure else Effect.UNSURE


def _untold(told: Match) -> bool:
    """Whether only the exit status is wrong, because nothing is said of it."""
    return all(
        name in ("exit_code", "exit_signal") and told.row[name] is None for name in told.wrong
    )


def coarser(cause: str, causes: Iterable[str]) -> bool:
    """Whether `cause` is true where one of `causes` is, and says less."""
    return any(true in COARSER.get(cause, ()) for true in causes)


def _timed(fact: Row) -> Row:
    return {**fact, "at": datetime.fromisoformat(fact["at"]).timestamp()}
