"""What was over before the last byte came explains no end, whatever it was and whoever tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from tests.support.protocol.facts import of_kind
from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.staleness import IN_FLIGHT_S, heard_ago_s, without_stale
from tether.attribution.vocabulary import (
    SILENCE_CODE,
    ConnectType,
    Party,
    StreamEnd,
    Vantage,
)

CIRCUMSTANCES = [kind for kind in ev.KINDS.values() if issubclass(kind, ev.Circumstance)]
ENDS = [case for case in EXAMPLES if ev.StreamEnded in case.kinds]


def measured(case: Case) -> tuple[Evidence, ...]:
    """The facts of an example, where each end tells when its observer had last heard something."""
    return tuple(
        replace(fact, heard_ago_s=20.0, close_code=None)
        if isinstance(fact, ev.StreamEnded)
        else fact
        for fact in case.facts
    )


def last_heard(facts: Sequence[Evidence], by: Vantage) -> float:
    """When an observer last heard something on any of its streams."""
    return min(
        ended.at - (heard_ago_s(ended, facts) or 0.0)
        for ended in facts
        if isinstance(ended, ev.StreamEnded) and ended.vantage is by
    )


@given(
    st.sampled_from(ENDS),
    st.sampled_from(CIRCUMSTANCES).flatmap(of_kind),
    st.floats(0.001, 1e6),
    st.data(),
)
def test_no_circumstance_from_before_the_last_byte_changes_a_verdict(
    case: Case, circumstance: Evidence, before_s: float, data: st.DataObject
) -> None:
    facts = measured(case)
    observers = sorted({fact.vantage for fact in facts if isinstance(fact, ev.StreamEnded)})
    observer = data.draw(st.sampled_from(observers))
    over_at = last_heard(facts, observer) - IN_FLIGHT_S - before_s
    stale = replace(circumstance, vantage=observer, at=over_at)
    assert classify(case.connect_type, (*facts, stale)) == classify(case.connect_type, facts)


def test_the_circumstances_are_what_happens_to_a_machine_a_process_and_a_network() -> None:
    assert [
        ev.Suspended,
        ev.LoopStalled,
        ev.ClockStepped,
        ev.Pressure,
        ev.Exhausted,
        ev.AddressChanged,
        ev.RouteChanged,
        ev.LinkChanged,
    ] == CIRCUMSTANCES


# -- what happened, and the last byte ---------------------------------------------------

SLEPT = ev.Suspended(vantage=Vantage.CLIENT, at=100.0, party=Party.CLIENT, gap_s=8.0)


def end(at: float, **more: object) -> ev.StreamEnded:
    usual: dict[str, object] = {"peer": Party.SERVER, "how": StreamEnd.SILENT}
    return ev.StreamEnded(vantage=Vantage.CLIENT, at=at, **{**usual, **more})  # type: ignore[arg-type]


def counted(data_ms: int, peer: Party = Party.SERVER) -> ev.TcpCounters:
    return ev.TcpCounters(
        vantage=Vantage.CLIENT,
        at=125.0,
        peer=peer,
        retransmits=0,
        probes=0,
        unacked=0,
        total_retrans=0,
        last_data_recv_ms=data_ms,
        last_ack_recv_ms=0,
        pmtu=1500,
        rtt_us=400,
    )


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (end(125.0, silence_s=12.0), "network.path_lost"),
        (end(125.0, silence_s=26.0), "client.suspended"),
        (end(125.0, how=StreamEnd.EOF, heard_ago_s=1.0), "client.unreachable"),
        (end(125.0, how=StreamEnd.EOF, heard_ago_s=24.0), "client.suspended"),
    ],
)
def test_a_nap_explains_an_end_only_if_nothing_came_after_it(
    ended: ev.StreamEnded, expected: str
) -> None:
    silent = ev.StreamEnded(
        vantage=Vantage.SERVER, at=9.0, peer=Party.CLIENT, how=StreamEnd.TIMED_OUT
    )
    facts = (silent, ended, SLEPT)
    assert classify(ConnectType.CLIENT_TO_SERVER, facts).disconnect.cause == expected


def test_what_had_been_sent_during_a_pause_is_no_sign_of_life_after_it() -> None:
    awake = end(102.0, how=StreamEnd.EOF, heard_ago_s=0.0)
    assert without_stale((SLEPT, awake)) == (SLEPT, awake)
    later = replace(awake, at=102.1)
    assert without_stale((SLEPT, later)) == (later,)


def test_another_observers_streams_measure_nothing_of_ours() -> None:
    theirs = replace(end(125.0, silence_s=1.0), vantage=Vantage.SERVER, peer=Party.CLIENT)
    assert without_stale((SLEPT, theirs)) == (SLEPT, theirs)


def test_a_silence_on_one_of_two_streams_can_still_be_explained() -> None:
    lively = end(125.0, how=StreamEnd.EOF, peer=Party.RELAY, heard_ago_s=1.0)
    silent = end(125.0, silence_s=30.0)
    assert without_stale((lively, SLEPT)) == (lively,)
    assert without_stale((lively, SLEPT, silent)) == (lively, SLEPT, silent)


def test_an_end_that_tells_no_span_rules_nothing_out() -> None:
    cut = end(125.0, how=StreamEnd.RESET)
    assert without_stale((SLEPT, cut)) == (SLEPT, cut)


@pytest.mark.parametrize(
    ("ended", "facts", "expected"),
    [
        (end(125.0, silence_s=12.0, heard_ago_s=14.0), [], 14.0),
        (end(125.0, silence_s=12.0), [counted(40_000)], 12.0),
        (end(125.0, how=StreamEnd.EOF, idle_s=1.0), [counted(3_000)], 3.0),
        (end(125.0, how=StreamEnd.EOF, idle_s=1.0), [counted(3_000, Party.AGENT)], 1.0),
        (end(125.0, how=StreamEnd.EOF), [counted(3_000)], 3.0),
        (end(125.0, how=StreamEnd.EOF), [], None),
    ],
)
def test_when_a_stream_was_last_heard(
    ended: ev.StreamEnded, facts: list[Evidence], expected: float | None
) -> None:
    assert heard_ago_s(ended, facts) == expected


def test_whoever_was_given_up_is_measured_by_the_silence_of_whoever_did() -> None:
    """A server that starves still reads what its peers send, and answers none of them."""
    given_up = end(125.0, how=StreamEnd.CLOSED, close_code=SILENCE_CODE, heard_ago_s=0.1)
    gave_up = ev.StreamEnded(
        vantage=Vantage.SERVER, at=7.0, peer=Party.CLIENT, how=StreamEnd.SILENT, silence_s=45.0
    )
    assert heard_ago_s(given_up, [given_up, gave_up]) == 45.0
    assert heard_ago_s(given_up, [given_up]) is None
