"""Records of forwarded connections and IDEs: they survive the wire, and keep their tags."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from tests.support.protocol.messages import of_type
from tether.protocol.messages.forwards import (
    ForwardRecord,
    ForwardRollup,
    IdeSessionRecord,
    destination_of,
)

RECORDS: tuple[type[msgspec.Struct], ...] = (ForwardRecord, ForwardRollup, IdeSessionRecord)


@given(st.one_of(*map(of_type, RECORDS)))
def test_a_record_survives_the_wire(record: msgspec.Struct) -> None:
    decoder: Any = msgspec.msgpack.Decoder(ForwardRecord | ForwardRollup | IdeSessionRecord)
    assert decoder.decode(msgspec.msgpack.encode(record)) == record


def test_the_tags_do_not_change() -> None:
    assert [cls.__struct_config__.tag for cls in RECORDS] == [
        "forward",
        "forward_rollup",
        "ide_session",
    ]


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [("localhost", 80, "localhost:80"), ("10.0.0.1", 22, "10.0.0.1:22"), ("::1", 22, "[::1]:22")],
)
def test_a_destination_in_words(host: str, port: int, words: str) -> None:
    assert destination_of(host, port) == words
