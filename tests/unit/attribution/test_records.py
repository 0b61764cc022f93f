"""Facts travel and are stored as plain records; what we do not know survives whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.support.protocol.facts import ONE_OF_EVERY_KIND, facts
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.records import from_record, to_record
from tether.attribution.vocabulary import Party, StreamEnd, Vantage


@pytest.mark.parametrize("fact", ONE_OF_EVERY_KIND, ids=lambda fact: fact.kind)
def test_every_kind_survives_a_round_trip_through_json(fact: Evidence) -> None:
    assert from_record(json.loads(json.dumps(to_record(fact)))) == fact


@given(facts)
def test_any_fact_survives_a_round_trip(fact: Evidence) -> None:
    assert from_record(to_record(fact)) == fact


def test_the_record_of_a_fact() -> None:
    fact = ev.StreamEnded(vantage=Vantage.RELAY, at=6.5, peer=Party.CLIENT, how=StreamEnd.EOF)
    assert to_record(fact) == {
        "kind": "stream_ended",
        "vantage": "relay",
        "at": 6.5,
        "values": {
            "peer": "client",
            "how": "eof",
            "errno": "",
            "close_code": None,
            "silence_s": None,
            "idle_s": None,
            "heard_ago_s": None,
            "reach": "unknown",
            "proxy": "",
        },
    }


RECORD = to_record(ONE_OF_EVERY_KIND[5])


def changed(**values: Any) -> dict[str, Any]:
    return RECORD | {"values": RECORD["values"] | values}


def test_a_kind_of_a_newer_peer_is_kept_whole() -> None:
    record = {"kind": "quantum_flip", "vantage": "agent", "at": 1, "values": {"b": [1], "a": None}}
    fact = from_record(record)
    assert fact == ev.UnknownFact(
        vantage=Vantage.AGENT,
        at=1.0,
        original_kind="quantum_flip",
        values=(("a", None), ("b", [1])),
    )
    assert to_record(fact) == record


def test_a_key_of_a_newer_peer_is_ignored() -> None:
    assert from_record(changed(colour="red")) == ONE_OF_EVERY_KIND[5]


def test_a_missing_key_takes_its_default() -> None:
    record = {
        "kind": "stream_ended",
        "vantage": "relay",
        "at": 3,
        "values": {"peer": "client", "how": "eof"},
    }
    assert from_record(record) == ev.StreamEnded(
        vantage=Vantage.RELAY, at=3.0, peer=Party.CLIENT, how=StreamEnd.EOF
    )


def test_values_may_be_absent() -> None:
    assert from_record({"kind": "local_side_closed", "vantage": "client", "at": 1}) == (
        ev.LocalSideClosed(vantage=Vantage.CLIENT, at=1.0)
    )


@pytest.mark.parametrize(
    "values",
    [
        {"how": "melted"},
        {"how": 7},
        {"how": None},
        {"how": ["eof"]},
        {"peer": "nobody"},
        {"errno": 104},
        {"close_code": "1006"},
        {"close_code": True},
        {"close_code": 1006.0},
        {"silence_s": "long"},
        {"silence_s": True},
        {"silence_s": float("nan")},
        {"silence_s": float("inf")},
        {"silence_s": 10**400},
    ],
    ids=str,
)
def test_a_word_or_type_that_is_not_ours_makes_the_fact_unknown(values: dict[str, Any]) -> None:
    fact = from_record(changed(**values))
    assert isinstance(fact, ev.UnknownFact)
    assert fact.original_kind == "stream_ended"
    assert from_record(to_record(fact)) == fact


@pytest.mark.parametrize("missing", ["peer", "how"])
def test_a_fact_without_a_needed_value_is_unknown(missing: str) -> None:
    values = {name: value for name, value in RECORD["values"].items() if name != missing}
    assert isinstance(from_record(RECORD | {"values": values}), ev.UnknownFact)


def test_an_int_is_read_as_a_float_and_a_bool_is_no_int() -> None:
    record = to_record(ONE_OF_EVERY_KIND[10])
    record["values"]["after_s"] = 30
    fact = from_record(record)
    assert fact == ONE_OF_EVERY_KIND[10]
    assert isinstance(fact, ev.HandshakeTimedOut)
    assert type(fact.after_s) is float

    died = to_record(ONE_OF_EVERY_KIND[11])
    died["values"]["host_rebooted"] = 1
    assert isinstance(from_record(died), ev.UnknownFact)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "superseded", "at": 1.0},
        {"kind": "superseded", "vantage": "server"},
        {"vantage": "server", "at": 1.0},
        RECORD | {"vantage": "moon"},
        RECORD | {"vantage": ["agent"]},
        RECORD | {"vantage": None},
        RECORD | {"at": "noon"},
        RECORD | {"at": None},
        RECORD | {"at": float("nan")},
        RECORD | {"at": float("-inf")},
        RECORD | {"at": 10**400},
        RECORD | {"values": 5},
        RECORD | {"values": "how"},
        RECORD | {"values": [1, 2]},
    ],
    ids=str,
)
def test_what_has_no_observer_or_no_time_is_no_fact(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^not a fact: "):
        from_record(record)


def test_what_json_cannot_hold_is_kept_as_text() -> None:
    values = {"raw": b"\x00", "when": float("nan"), 3: {4: (True, object)}}
    fact = from_record({"kind": "new", "vantage": "agent", "at": 1.0, "values": values})
    assert isinstance(fact, ev.UnknownFact)
    assert fact.values == (
        ("3", {"4": [True, "<class 'object'>"]}),
        ("raw", r"b'\x00'"),
        ("when", "nan"),
    )


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)


@given(
    st.sampled_from([*ev.KINDS, "new"]) | anything,
    st.sampled_from(Vantage) | anything,
    anything,
    st.sampled_from([to_record(fact)["values"] for fact in ONE_OF_EVERY_KIND]),
    st.dictionaries(st.text(max_size=5) | st.sampled_from(["by", "peer", "at"]), anything),
)
def test_a_malformed_record_raises_value_error_and_nothing_else(
    kind: Any, vantage: Any, at: Any, values: dict[str, Any], more: dict[str, Any]
) -> None:
    try:
        fact = from_record({"kind": kind, "vantage": vantage, "at": at, "values": values | more})
    except ValueError:
        return
    assert from_record(json.loads(json.dumps(to_record(fact), allow_nan=False))) == fact
