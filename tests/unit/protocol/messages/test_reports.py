"""The items of a report: they survive the wire, their words do not change, a life goes forward."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given

from tests.support.protocol.messages import report_items
from tether.protocol.messages.codec import decode_item
from tether.protocol.messages.reports import (
    FINAL,
    FileAct,
    LifecycleState,
    destination_of,
    may_follow,
)

S = LifecycleState


@given(report_items)
def test_any_item_survives_the_wire(item: msgspec.Struct) -> None:
    assert decode_item(msgspec.msgpack.encode(item)) == item


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [("localhost", 80, "localhost:80"), ("10.0.0.1", 22, "10.0.0.1:22"), ("::1", 22, "[::1]:22")],
)
def test_a_destination_in_words(host: str, port: int, words: str) -> None:
    assert destination_of(host, port) == words


def test_the_words_of_file_operations_do_not_change() -> None:
    assert [str(act) for act in FileAct] == [
        "read",
        "write",
        "create",
        "set_attributes",
        "remove",
        "make_directory",
        "remove_directory",
        "rename",
        "symlink",
        "hard_link",
    ]


def test_the_states_are_these_in_this_order() -> None:
    assert [str(state) for state in S] == [
        "created",
        "starting",
        "ready",
        "shutting_down",
        "shutdown_timeout",
        "shutdown_error",
        "off",
    ]


def test_a_life_goes_forward_only() -> None:
    assert all(may_follow(one, other) for one, other in pairwise((S.CREATED, S.STARTING, S.READY)))
    assert may_follow(S.CREATED, S.SHUTTING_DOWN)
    assert not may_follow(S.READY, S.STARTING)
    assert not may_follow(S.READY, S.READY)
    assert not may_follow(S.SHUTTING_DOWN, S.CREATED)


def test_a_life_begins_once_and_another_one_only_after_its_end() -> None:
    assert may_follow(None, S.CREATED)
    assert [state for state in S if state is not S.CREATED and may_follow(None, state)] == []
    assert {before for before in S if may_follow(before, S.CREATED)} == FINAL
    assert [(a, b) for a in FINAL for b in S if b is not S.CREATED and may_follow(a, b)] == []
