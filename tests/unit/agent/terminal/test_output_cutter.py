"""Output on its way to viewers: whole sequences, and no questions that two terminals would answer."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from tether.agent.terminal.output_cutter import Output, OutputCutter

FOR_NOBODY = [
    b"\x1b[?4m",
    *(
        b"\x1b[c",
        b"\x1b[0c",
        b"\x1b[>c",
        b"\x1b[>0c",
        b"\x1b[=c",
        b"\x1bZ",
        b"\x1b[>q",
        b"\x1b[>0q",
    ),
    *(
        b"\x1b[5n",
        b"\x1b[6n",
        b"\x1b[?6n",
        b"\x1b[?2026$p",
        b"\x1b[4$p",
        b"\x1bP$qm\x1b\\",
        b"\x1b[?u",
    ),
]
FOR_ONE = [
    *(b"\x1b]10;?\x07", b"\x1b]11;?\x1b\\", b"\x1b]4;12;?\x07", b"\x1b]52;c;?\x07"),
    *(b"\x1bP+q544e;436f\x1b\\", b"\x1b[14t", b"\x1b[18t", b"\x1b[?996n"),
    b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\",
]
NO_QUESTIONS = [
    *(
        b"\x1b[31m",
        b"\x1b[2J",
        b"\x1b[1;5r",
        b"\x1b[?25h",
        b"\x1b]2;what?\x07",
        b"\x1b]11;#fff\x07",
    ),
    *(
        b"\x1b]52;c;aGk=\x07",
        b"\x1b[8;24;80t",
        b"\x1b[22;0t",
        b"\x1b[>1u",
        b"\x1b[u",
        b"\x1b[?1;2c",
    ),
    *(b"\x1b[2 q", b'\x1b[1"q', b"plain ? text", "日本".encode(), b"\x1b_Ga=T;AAAA\x1b\\"),
]


def cut(*pieces: bytes) -> list[Output]:
    cutter = OutputCutter()
    return [cutter.feed(piece) for piece in pieces]


@pytest.mark.parametrize("question", FOR_NOBODY)
def test_what_the_agent_answers_is_asked_of_no_viewer(question: bytes) -> None:
    assert cut(b"a" + question + b"b") == [Output(b"a" + question + b"b", b"ab", b"ab")]


@pytest.mark.parametrize("question", FOR_ONE)
def test_what_only_a_real_terminal_knows_is_asked_of_one(question: bytes) -> None:
    assert cut(b"a" + question + b"b") == [
        Output(b"a" + question + b"b", b"ab", b"a" + question + b"b")
    ]


@pytest.mark.parametrize("other", NO_QUESTIONS)
def test_everything_else_passes_unchanged(other: bytes) -> None:
    assert cut(b"a" + other + b"b") == [Output(*(b"a" + other + b"b",) * 3)]


@pytest.mark.parametrize(
    "whole", [*FOR_NOBODY, *FOR_ONE, *NO_QUESTIONS, "👩".encode(), b"\x1b(0", b"\x1b7"]
)
def test_a_cut_anywhere_in_a_sequence_or_character_changes_nothing(whole: bytes) -> None:
    (expected,) = cut(whole)
    for mark in range(1, len(whole)):
        first, second = cut(whole[:mark], whole[mark:])
        joined = (
            first.raw + second.raw,
            first.everybody + second.everybody,
            first.one + second.one,
        )
        assert joined == (expected.raw, expected.everybody, expected.one)


def test_a_sequence_waits_for_its_end_but_not_for_ever() -> None:
    cutter = OutputCutter()
    assert cutter.feed(b"a\x1b[3").raw == b"a"
    assert cutter.feed(b"1mb").raw == b"\x1b[31mb"
    assert cutter.feed(b"\x1b]1337;File=:" + b"A" * 300).raw == b"\x1b]1337;File=:" + b"A" * 300
    assert cutter.feed(b"AA\x07c\x1b").raw == b"AA\x07c"
    assert cutter.rest().raw == b"\x1b"
    assert cutter.rest().raw == b""


@given(pieces=st.lists(st.binary(max_size=20) | st.sampled_from(FOR_NOBODY + FOR_ONE), max_size=10))
def test_no_byte_is_lost_or_invented(pieces: list[bytes]) -> None:
    cutter = OutputCutter()
    outputs = [cutter.feed(piece) for piece in pieces] + [cutter.rest()]
    assert b"".join(output.raw for output in outputs) == b"".join(pieces)
    for output in outputs:
        pattern = b".*".join(re.escape(bytes([byte])) for byte in output.everybody)
        assert re.search(pattern, output.one, re.DOTALL)
        assert len(output.everybody) <= len(output.one) <= len(output.raw)
