"""What peers in the field speak, byte by byte: `wire.json` has a sample of every message.

A key that is renamed, moved, retyped or taken away changes a line of it. A new message adds one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.protocol.samples import sample
from tether.protocol.messages.codec import TYPES, decode, decode_item, encode
from tether.protocol.messages.derp import RelayWord, decode_word, encode_word
from tether.protocol.messages.reports import ReportItem
from tether.protocol.terminal import messages as terminal

WIRE: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("wire.json").read_text())
ITEMS = {str(cls.__struct_config__.tag): cls for cls in ReportItem.__args__}
WORDS = {str(cls.__struct_config__.tag): cls for cls in RelayWord.__args__}


@pytest.mark.parametrize("name", TYPES)
def test_a_message_keeps_its_bytes(name: str) -> None:
    message = sample(TYPES[name])
    assert msgspec.msgpack.decode(encode(message)) == [name, WIRE["messages"][name]]
    assert encode(message) == msgspec.msgpack.encode((name, WIRE["messages"][name]))
    assert decode(encode(message)) == message


@pytest.mark.parametrize("tag", ITEMS)
def test_an_item_of_a_report_keeps_its_bytes(tag: str) -> None:
    item = sample(ITEMS[tag])
    raw = msgspec.msgpack.encode(item)
    assert msgspec.msgpack.decode(raw) == WIRE["items"][tag]
    assert raw == msgspec.msgpack.encode(WIRE["items"][tag])
    assert decode_item(raw) == item


@pytest.mark.parametrize("tag", WORDS)
def test_a_word_of_a_relay_keeps_its_text(tag: str) -> None:
    word = sample(WORDS[tag])
    assert encode_word(word) == msgspec.json.encode(WIRE["relay"][tag]).decode()
    assert decode_word(encode_word(word)) == word


@pytest.mark.parametrize("name", terminal.TYPES)
def test_a_message_of_a_terminal_keeps_its_text(name: str) -> None:
    message = sample(terminal.TYPES[name])
    text = msgspec.json.encode((name, WIRE["terminal"][name]))
    assert terminal.encode_text(message) == text
    assert terminal.decode_text(text) == message


def test_nothing_is_taken_away() -> None:
    known = {"messages": TYPES, "items": ITEMS, "relay": WORDS, "terminal": terminal.TYPES}
    assert {part: set(names) for part, names in known.items()} == {
        part: set(names) for part, names in WIRE.items()
    }
