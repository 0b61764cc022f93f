"""The codec: every message survives the wire, peers of other versions talk, garbage is one error."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
from hypothesis import example, given, strategies as st

from tests.support.protocol.messages import messages, of_type
from tether.protocol.messages.base import FactRecord, Garbage, Message, Unrecognized
from tether.protocol.messages.codec import TYPES, decode, decode_item, encode
from tether.protocol.messages.control import Goodbye, GoodbyeAck, Hello, Ping, Welcome
from tether.protocol.messages.reports import (
    Ended,
    Opened,
    Report,
    ReportAck,
    SessionRecord,
    UnknownItem,
)
from tether.protocol.messages.tunnel import CarrierGrant, TunnelHello


@given(messages)
def test_any_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("cls", TYPES.values(), ids=TYPES.keys())
def test_every_type_survives_the_wire(cls: type[Message]) -> None:
    @given(of_type(cls))
    def survives(message: msgspec.Struct) -> None:
        back = decode(memoryview(encode(cast(Message, message))))
        assert (type(back), back) == (cls, message)

    survives()


WIRE_NAMES = {
    *("ping", "pong", "goodbye", "goodbye_ack", "unsupported", "hello", "welcome"),
    *("tunnel_request", "tunnel_grant", "tunnel_denied", "tunnel_offer", "offer_declined"),
    *("workspace_stop", "workspace_start", "end_connections", "report", "report_ack"),
    *("tunnel_hello", "half_close", "session_result"),
}
"""Peers in the field know these. More may come; none may go or change its name."""


def test_no_type_is_renamed_or_taken_away() -> None:
    assert set(TYPES) >= WIRE_NAMES


GOLDEN: list[tuple[Message, str]] = [
    (Ping(n=1), "92 a4 70696e67 81 a16e 01"),
    (GoodbyeAck(), "92 ab 676f6f646279655f61636b 80"),
    (
        Goodbye(cause="agent.shutdown", retry_after_s=2.0),
        "92 a7 676f6f64627965 82 a56361757365 ae6167656e742e73687574646f776e"
        " ad72657472795f61667465725f73 cb4000000000000000",
    ),
    (
        TunnelHello(protocol=(1, 0), party="agent", version="0.1.0"),
        "92 ac 74756e6e656c5f68656c6c6f 83 a870726f746f636f6c 92 01 00"
        " a57061727479 a56167656e74 a776657273696f6e a5302e312e30",
    ),
    (
        ReportAck(journal_id="j", seq=300),
        "92 aa 7265706f72745f61636b 82 aa6a6f75726e616c5f6964 a16a a3736571 cd012c",
    ),
]
"""Written once, by hand: peers in the field speak these bytes."""


@pytest.mark.parametrize(("message", "wire"), GOLDEN, ids=lambda v: type(v).__name__)
def test_the_bytes_on_the_wire_do_not_change(message: Message, wire: str) -> None:
    assert encode(message) == bytes.fromhex(wire)
    assert decode(bytes.fromhex(wire)) == message


def wire(name: str, body: object) -> bytes:
    return msgspec.msgpack.encode((name, body))


def test_a_type_of_a_newer_peer_is_unrecognized_not_garbage() -> None:
    assert decode(wire("teleport", {"to": "mars"})) == Unrecognized(message_type="teleport")
    assert decode(wire("teleport", 7)) == Unrecognized(message_type="teleport")


def test_the_name_of_an_unrecognized_type_is_kept_short() -> None:
    assert decode(wire("x" * 5000, {})) == Unrecognized(message_type="x" * 64)


def test_unrecognized_cannot_be_sent() -> None:
    with pytest.raises(KeyError):
        encode(Unrecognized(message_type="teleport"))


def test_a_key_of_a_newer_peer_is_ignored() -> None:
    assert decode(wire("ping", {"n": 3, "colour": "red"})) == Ping(n=3)


def test_a_key_that_an_older_peer_does_not_send_takes_its_default() -> None:
    hello = decode(
        wire(
            "hello",
            {"protocol": [1, 0], "role": "agent", "version": "0.0.1", "instance_id": "i"},
        )
    )
    assert hello == Hello(protocol=(1, 0), role="agent", version="0.0.1", instance_id="i")
    welcome = decode(
        wire(
            "welcome",
            {"protocol": [1, 0], "connection_id": "c", "server_instance": "s", "version": "1"},
        )
    )
    assert welcome == Welcome(protocol=(1, 0), connection_id="c", server_instance="s", version="1")


def test_defaults_are_not_sent() -> None:
    assert encode(Goodbye()) == wire("goodbye", {})


def test_the_items_of_a_report_keep_their_kinds() -> None:
    report = Report(
        journal_id="j",
        first_seq=4,
        items=[
            Opened(connection_id="c", at=1.0),
            SessionRecord(connection_id="c", session_id="s", session_type="ssh", started_at=2.0),
            Ended(
                connection_id="c",
                at=3.0,
                facts=[FactRecord(kind="superseded", vantage="server", at=3.0)],
            ),
        ],
    )
    back = decode(encode(report))
    assert back == report
    assert isinstance(back, Report)
    assert [type(item) for item in back.items] == [Opened, SessionRecord, Ended]


DEEP = b"\x92\xa5hello" + b"\x91" * 100_000 + b"\xc0"


@given(st.binary(max_size=200))
@example(b"")
@example(DEEP)
@example(b"\x92\xa4ping")
@example(b"\x92\xa4ping\x81\xa1n\x01\x00")
@example(b"\x92\xa1\xff\x80")
@example(wire("ping", {"n": "one"}))
@example(wire("ping", {}))
@example(wire("ping", None))
@example(wire("goodbye", {"facts": [{"kind": "x"}]}))
@example(wire("report", {"journal_id": "j", "first_seq": 1, "items": [{"type": "born"}]}))
def test_bytes_from_anywhere_are_a_message_or_garbage(data: bytes) -> None:
    try:
        words = repr(decode(data))
    except Garbage as garbage:
        words = str(garbage)
    assert "\n" not in words
    assert len(words) < 300


@given(messages, st.data())
def test_a_damaged_message_is_a_message_or_garbage(message: Message, data: st.DataObject) -> None:
    good = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(good[: data.draw(st.integers(0, len(good)))]))
    except Garbage:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        DEEP,
        b"\xff",
        wire("ping", {"n": 1}) + b"\x00",
        wire("ping", {}),
        wire("ping", {"n": 1.5}),
        msgspec.msgpack.encode("ping"),
        msgspec.msgpack.encode(["ping"]),
        msgspec.msgpack.encode([7, {}]),
    ],
    ids=repr,
)
def test_garbage_is_garbage(data: bytes) -> None:
    with pytest.raises(Garbage, match=r"^not a message: "):
        decode(data)


def test_fact_values_may_hold_anything_plain() -> None:
    values: dict[str, Any] = {"a": [1, {"b": None}], "c": True}
    goodbye = Goodbye(facts=[FactRecord(kind="new", vantage="agent", at=1.0, values=values)])
    assert decode(encode(goodbye)) == goodbye


def test_an_item_of_a_newer_agent_keeps_its_place_in_a_report() -> None:
    known = Opened(connection_id="c1", at=1.0)
    newer = {"type": "gpu_session", "connection_id": "c1", "started_at": 2.0}
    body = {"journal_id": "j", "first_seq": 7, "items": [newer, known]}
    assert decode(msgspec.msgpack.encode(("report", body))) == Report(
        journal_id="j", first_seq=7, items=[UnknownItem(connection_id="c1"), known]
    )


def test_a_known_item_with_wrong_values_is_still_garbage() -> None:
    body = {"journal_id": "j", "first_seq": 7, "items": [{"type": "opened", "connection_id": 1}]}
    with pytest.raises(Garbage):
        decode(msgspec.msgpack.encode(("report", body)))


@pytest.mark.parametrize(
    "item", [{"type": "opened", "connection_id": "c"}, {"type": "", "connection_id": "c"}]
)
def test_an_item_of_a_known_kind_that_is_wrong_is_not_taken_for_a_newer_one(
    item: dict[str, str],
) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_item(msgspec.msgpack.encode(item))


def test_a_ticket_and_a_key_are_never_printed() -> None:
    grant = CarrierGrant(request_id=1, connection_id="c1", carrier=2, ticket="hush")
    assert "hush" not in repr(grant) and "ticket=…" in repr(grant)
    bare = CarrierGrant(request_id=1, connection_id="c1", carrier=2)
    assert "ticket=''" in repr(bare)
