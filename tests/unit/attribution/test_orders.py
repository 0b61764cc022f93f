"""A verdict is a function of the set of facts, and what is heard later makes no cause vaguer.

Reports arrive in any order, one after the other, and each arrival is judged. What they all lead to is
the same, and whatever was concluded on the way was not more exact than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, strategies as st

from tests.unit.attribution.test_stories import died, returned, stream, tcp
from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.rules.rule import Rule
from tether.attribution.rules.table import RULES
from tether.attribution.vocabulary import (
    ConnectType,
    DialStage,
    Element,
    Party,
    StreamEnd,
    Vantage,
)
from tether_gauntlet.ablation import coarser

AGENT, CLIENT, SERVER, RELAY = Party.AGENT, Party.CLIENT, Party.SERVER, Party.RELAY
A2C, S2A, C2S = (
    ConnectType.AGENT_TO_CLIENT,
    ConnectType.SERVER_TO_AGENT,
    ConnectType.CLIENT_TO_SERVER,
)


PAIRS = list(zip(RULES, EXAMPLES, strict=True))


def ids(value: Rule | Case) -> str:
    return value.name if isinstance(value, Rule) else ""


def parts(facts: Sequence[Evidence]) -> Iterator[tuple[Evidence, ...]]:
    """Everything that may be on file while reports come in one after the other."""
    for size in range(1, len(facts)):
        yield from combinations(facts, size)


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=ids)
def test_a_later_report_makes_no_cause_vaguer(rule: Rule, case: Case) -> None:
    whole = classify(case.connect_type, case.facts).disconnect.cause
    before = {classify(case.connect_type, some).disconnect.cause for some in parts(case.facts)}
    assert not coarser(whole, before - {whole})


def slept(party: Party, at: float, gap_s: float) -> ev.Suspended:
    return ev.Suspended(vantage=Vantage(str(party)), at=at, party=party, gap_s=gap_s)


def said(by: Party, code: str) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=Vantage(str(by)), at=9.0, by=by, cause=code)


STORIES: tuple[tuple[ConnectType, str, tuple[Evidence, ...]], ...] = (
    (  # an autostop while the agent is cut off, whose own goodbye comes late
        A2C,
        "workspace.autostop",
        (
            said(SERVER, "workspace.autostop"),
            said(RELAY, "workspace.autostop"),
            stream(AGENT, CLIENT, StreamEnd.CLOSED, close_code=1000),
            said(AGENT, "agent.shutdown"),
        ),
    ),
    (  # a nap, and 25 s later the load balancer is killed
        C2S,
        "network.middlebox_reset",
        (
            stream(SERVER, CLIENT, StreamEnd.EOF, idle_s=0.4),
            stream(CLIENT, SERVER, StreamEnd.RESET, heard_ago_s=0.4),
            slept(CLIENT, -16.0, 8.0),
            returned(CLIENT),
        ),
    ),
    (  # a captive portal
        C2S,
        "network.proxy_refused",
        (
            stream(SERVER, CLIENT, StreamEnd.RESET),
            stream(CLIENT, SERVER, StreamEnd.RESET),
            ev.RedialFailed(
                vantage=Vantage.CLIENT,
                at=9.6,
                party=CLIENT,
                peer=SERVER,
                stage=DialStage.HTTP,
                status=200,
            ),
            returned(CLIENT),
        ),
    ),
    (  # a proxy cuts the agent's idle leg, while the client is cut off
        A2C,
        "network.path_lost",
        (
            stream(RELAY, AGENT, StreamEnd.EOF),
            tcp(RELAY, AGENT, 4),
            ev.NeverReturned(vantage=Vantage.AGENT, at=30.0, party=CLIENT, waited_s=15.0),
            stream(CLIENT, AGENT, StreamEnd.SILENT, silence_s=16.2),
            tcp(CLIENT, RELAY, 16_100, retransmits=6, unacked=1),
        ),
    ),
    (  # an agent that is killed while it stops; the post-mortem comes last, or first
        S2A,
        "agent.shutdown",
        (
            stream(SERVER, AGENT, StreamEnd.RESET),
            ev.SignalReceived(vantage=Vantage.AGENT, at=5.0, party=AGENT, signal=15),
            died(AGENT, signal=9, oom_kills=0),
            returned(AGENT, same_run=False),
            ev.EndedTogether(
                vantage=Vantage.SERVER, at=11.0, element=Element.NODE, ended=1, alive=0
            ),
        ),
    ),
)


@given(st.sampled_from(STORIES), st.randoms(use_true_random=False))
def test_reports_lead_to_the_same_verdict_in_whatever_order_they_come(
    story: tuple[ConnectType, str, tuple[Evidence, ...]], random: Random
) -> None:
    kind, expected, facts = story
    order = list(facts)
    random.shuffle(order)
    on_the_way = {
        classify(kind, order[:count]).disconnect.cause for count in range(1, len(order) + 1)
    }
    final = classify(kind, order)
    assert final == classify(kind, facts)
    assert final.disconnect.cause == expected
    assert not coarser(expected, on_the_way - {expected})
