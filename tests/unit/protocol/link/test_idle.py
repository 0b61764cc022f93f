"""A silence ends when something is heard, not when something is said into it."""

from __future__ import annotations

from tether.protocol.link.idle import IdleTimes


def test_a_stream_is_idle_since_the_last_that_went_either_way() -> None:
    quiet = IdleTimes(100.0)
    quiet.sent(103.0)
    quiet.heard(103.5)
    assert quiet.idle_s(115.5) == 12.0


def test_what_was_sent_and_never_answered_did_not_end_the_silence_before_it() -> None:
    quiet = IdleTimes(100.0)
    quiet.sent(112.0)
    quiet.sent(112.1)
    assert quiet.idle_s(112.2) == 12.0


def test_an_answer_of_our_own_is_not_waited_for() -> None:
    quiet = IdleTimes(100.0)
    quiet.heard(103.0)
    quiet.sent(103.0)
    quiet.sent(115.0)
    assert quiet.idle_s(115.1) == 12.0


def test_the_longest_silence_is_one_that_was_answered() -> None:
    quiet = IdleTimes(100.0)
    assert quiet.longest_s == 0.0
    quiet.sent(109.0)
    assert quiet.longest_s == 0.0
    quiet.heard(109.1)
    assert quiet.longest_s == 9.0
    quiet.heard(113.1)
    assert quiet.longest_s == 9.0
    quiet.heard(123.1)
    assert quiet.longest_s == 10.0
