"""A kernel witnesses nothing beyond the next proxy; each rule says what it makes of that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.attribution.test_stories import stream, tcp
from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.classify import Verdict, classify
from tether.attribution.evidence import Evidence
from tether.attribution.examples.facts import behind_a_proxy
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.rules.rule import Rule, Sight
from tether.attribution.rules.table import RULES
from tether.attribution.vocabulary import (
    Confidence,
    ConnectType,
    Party,
    Reach,
    StreamEnd,
    Vantage,
)

A2C, S2A, C2S = (
    ConnectType.AGENT_TO_CLIENT,
    ConnectType.SERVER_TO_AGENT,
    ConnectType.CLIENT_TO_SERVER,
)
AGENT, CLIENT, SERVER, RELAY = Party.AGENT, Party.CLIENT, Party.SERVER, Party.RELAY


PAIRS = list(zip(RULES, EXAMPLES, strict=True))


def ids(value: Rule | Case) -> str:
    return value.name if isinstance(value, Rule) else ""


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=ids)
def test_a_rule_says_what_a_proxy_makes_of_its_conclusion(rule: Rule, case: Case) -> None:
    plain = classify(case.connect_type, case.facts)
    proxied = classify(case.connect_type, map(behind_a_proxy, case.facts))
    match rule.sight:
        case Sight.THROUGH:
            assert (proxied.rule, proxied.confidence) == (rule.name, plain.confidence)
        case Sight.BLURRED:
            assert (proxied.rule, proxied.confidence) == (rule.name, Confidence.LOW)
        case Sight.BLOCKED:
            assert proxied.rule != rule.name
            assert proxied.disconnect.cause != plain.disconnect.cause


def test_what_is_known_of_one_end_of_a_stream_holds_for_both() -> None:
    """Only whoever accepts sees the proxy's headers; whoever dials does not."""
    gave_up = stream(CLIENT, SERVER, StreamEnd.SILENT, silence_s=6.0)
    acked = tcp(CLIENT, SERVER, 12)
    at_server = replace(stream(SERVER, CLIENT, StreamEnd.CLOSED), reach=Reach.PROXIED)
    elsewhere = replace(at_server, peer=AGENT)

    def cause(*seen: Evidence) -> str:
        return classify(C2S, seen).disconnect.cause

    assert cause(gave_up, acked) == "server.unresponsive"
    assert cause(gave_up, acked, elsewhere) == "server.unresponsive"
    assert cause(gave_up, acked, at_server) == "server.unreachable"


def told(verdict: Verdict) -> tuple[str, str]:
    return verdict.disconnect.actor, verdict.disconnect.detail


def test_the_record_names_the_proxy_that_was_in_between() -> None:
    ours = behind_a_proxy(stream(SERVER, AGENT, StreamEnd.EOF))
    theirs = stream(AGENT, SERVER, StreamEnd.RESET)
    assert told(classify(S2A, (ours, theirs))) == (
        "middlebox 10.3.0.9",
        "Each end says that the other closed the stream. (agent saw server: reset;"
        " the server sees the agent through the proxy 10.3.0.9)",
    )
    unnamed = replace(stream(SERVER, AGENT, StreamEnd.EOF), reach=Reach.PROXIED)
    assert told(classify(S2A, (unnamed, theirs)))[0] == "middlebox"
    plain = stream(SERVER, AGENT, StreamEnd.EOF)
    assert told(classify(S2A, (plain, theirs)))[0] == "middlebox"


def test_a_client_whose_own_network_failed_is_so_behind_a_proxy_too() -> None:
    silent = behind_a_proxy(stream(SERVER, CLIENT, StreamEnd.SILENT, silence_s=6.0))
    down = ev.LinkChanged(vantage=Vantage.CLIENT, at=5.0, party=CLIENT, interface="eth0", up=False)
    verdict = classify(C2S, (silent, behind_a_proxy(tcp(SERVER, CLIENT, 8)), down))
    assert (verdict.disconnect.cause, verdict.confidence) == ("client.link_down", Confidence.HIGH)


def test_large_segments_between_two_proxied_kernels_were_never_on_one_connection() -> None:
    """As counted as the agent's upload was lost before nginx."""
    facts: tuple[Evidence, ...] = (
        stream(SERVER, AGENT, StreamEnd.SILENT, silence_s=6.0),
        stream(AGENT, SERVER, StreamEnd.SILENT, silence_s=6.0),
        tcp(SERVER, AGENT, 156),
        tcp(AGENT, SERVER, 2_548, retransmits=4, unacked=1, lost=1, snd_mss=1012),
    )
    assert classify(S2A, facts).disconnect.cause == "network.mtu_black_hole"
    assert classify(S2A, map(behind_a_proxy, facts)).disconnect.cause == "network.path_lost"
