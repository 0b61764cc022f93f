"""What viewers are sent: bytes while they keep up, pictures until they do; sizes; waiting for one."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tether.agent.terminal.viewers import FRAME_S, QUEUE_MAX, Idle, SizePolicy, Viewer, agreed_size

SCREEN = (24, 80)


def viewer(rows: int = 24, cols: int = 80) -> Viewer:
    return Viewer(rows=rows, cols=cols, screen=SCREEN, history=100, now=0.0)


def live() -> Viewer:
    seen = viewer()
    seen.asked(0.0)
    assert seen.shown() == b""
    assert seen.live
    return seen


def test_a_new_viewer_is_shown_a_picture_at_once_and_then_lives() -> None:
    seen = viewer()
    assert (seen.deadline(), seen.history) == (0.0, 100)
    assert seen.output(b"before the picture") == b""
    seen.asked(0.0)
    assert seen.deadline() is None
    assert seen.output(b"while ") == seen.output(b"it is made") == b""
    assert seen.shown() == b"while it is made"
    assert (seen.output(b"after"), seen.deadline(), seen.history) == (b"after", None, 0)


def test_a_blocked_viewer_is_given_what_it_missed_in_order() -> None:
    seen = live()
    seen.block()
    assert seen.output(b"a") == seen.output(b"b") == b""
    assert seen.unblock() == b"ab"
    assert seen.output(b"c") == b"c"


def test_a_viewer_that_is_too_far_behind_is_shown_a_picture_instead() -> None:
    seen = live()
    seen.block()
    seen.output(b"x" * (QUEUE_MAX + 1))
    assert (seen.live, seen.deadline()) == (False, None)
    assert seen.unblock() == b""
    assert seen.deadline() == FRAME_S


def test_during_a_flood_pictures_follow_each_other_at_a_bounded_rate() -> None:
    seen = viewer()
    seen.asked(5.0)
    seen.output(b"x" * (QUEUE_MAX + 1))
    assert (seen.shown(), seen.live, seen.deadline()) == (b"", False, 5.0 + FRAME_S)
    seen.asked(6.0)
    assert (seen.shown(), seen.live) == (b"", True)


def test_a_window_of_another_size_sees_pictures_only_and_only_when_something_changed() -> None:
    seen = viewer(50, 120)
    seen.asked(0.0)
    assert (seen.shown(), seen.live, seen.deadline()) == (b"", False, None)
    assert seen.output(b"new") == b""
    assert seen.deadline() == FRAME_S
    seen.asked(1.0)
    seen.output(b"newer")
    assert (seen.shown(), seen.deadline()) == (b"", 1.0 + FRAME_S)


def test_without_an_emulator_any_window_is_sent_bytes() -> None:
    seen = viewer(50, 120)
    seen.asked(0.0)
    assert seen.shown(pictured=False) == b""
    assert seen.output(b"bytes") == b"bytes"


@pytest.mark.parametrize("change", ["window", "screen"])
def test_a_change_of_size_asks_for_a_picture_and_outdates_one_under_way(change: str) -> None:
    seen = live()
    seen.asked(1.0)
    if change == "window":
        seen.resize(rows=30, cols=80)
        seen.screen_resized((30, 80))
    else:
        seen.screen_resized((10, 80))
        seen.screen_resized(SCREEN)
    seen.shown()
    assert (seen.live, seen.deadline()) == (False, 1.0 + FRAME_S)


def test_the_same_size_again_changes_nothing() -> None:
    seen = live()
    seen.resize(rows=24, cols=80)
    seen.screen_resized(SCREEN)
    assert seen.live


sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(windows=st.lists(sizes, min_size=1, max_size=5), last=sizes)
def test_every_window_holds_a_terminal_of_the_smallest_ones_size(
    windows: list[tuple[int, int]], last: tuple[int, int]
) -> None:
    rows, cols = agreed_size(SizePolicy.SMALLEST, windows, last)
    assert rows == min(r for r, _ in windows)
    assert cols == min(c for _, c in windows)
    assert agreed_size(SizePolicy.LAST, windows, last) == last


def test_without_viewers_a_terminal_keeps_its_size() -> None:
    assert agreed_size(SizePolicy.SMALLEST, [], (24, 80)) == (24, 80)


def test_a_size_policy_of_a_newer_client_reads_as_the_default() -> None:
    assert [SizePolicy.read(word) for word in ("last", "smallest", "", "largest")] == [
        SizePolicy.LAST,
        SizePolicy.SMALLEST,
        SizePolicy.SMALLEST,
        SizePolicy.SMALLEST,
    ]


def test_a_terminal_waits_for_a_viewer_from_its_start_and_from_the_last_ones_leaving() -> None:
    idle = Idle(10.0, 300.0)
    assert (idle.deadline(), idle.expired(309.9), idle.expired(310.0)) == (310.0, False, True)
    idle.watched()
    assert (idle.deadline(), idle.expired(1e9)) == (None, False)
    idle.unwatched(1000.0)
    assert idle.deadline() == 1300.0


def test_a_terminal_may_wait_for_ever() -> None:
    idle = Idle(0.0, None)
    idle.unwatched(5.0)
    assert (idle.deadline(), idle.expired(1e9)) == (None, False)
