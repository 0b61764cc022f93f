"""The relay's words: JSON in text frames, beside the opaque binary ones."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from tether.protocol.messages.base import Garbage
from tether.protocol.messages.derp import (
    OtherWord,
    Paired,
    PeerGone,
    RelayGoodbye,
    RelayWord,
    Restarting,
    decode_word,
    encode_word,
)

texts = st.text(max_size=20)
words: st.SearchStrategy[RelayWord] = st.one_of(
    st.just(Paired()),
    st.builds(
        PeerGone,
        how=texts,
        errno=texts,
        close_code=st.none() | st.integers(0, 9999),
        silence_s=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    ),
    st.builds(RelayGoodbye, cause=texts, actor=texts, detail=texts),
    st.builds(Restarting, reconnect_in_s=st.floats(0, 1e6)),
)


@given(words)
def test_any_word_survives_the_wire(word: RelayWord) -> None:
    assert decode_word(encode_word(word)) == word


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (Paired(), '{"type":"paired"}'),
        (PeerGone(how="eof"), '{"type":"peer_gone","how":"eof"}'),
        (
            PeerGone(how="reset", errno="ECONNRESET", close_code=1006, silence_s=0.5),
            '{"type":"peer_gone","how":"reset","errno":"ECONNRESET","close_code":1006,'
            '"silence_s":0.5}',
        ),
        (
            RelayGoodbye(cause="server.shutdown", actor="signal:15"),
            '{"type":"goodbye","cause":"server.shutdown","actor":"signal:15"}',
        ),
        (Restarting(reconnect_in_s=2.5), '{"type":"restarting","reconnect_in_s":2.5}'),
    ],
    ids=lambda v: type(v).__name__,
)
def test_the_text_on_the_wire_does_not_change(word: RelayWord, text: str) -> None:
    assert encode_word(word) == text
    assert decode_word(text) == word


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"congestion","queue":3}',
        "{}",
        '{"type":5}',
        '{"type":"peer_gone"}',
        '{"type":"peer_gone","how":7}',
    ],
)
def test_a_word_that_is_not_ours_is_other(text: str) -> None:
    assert decode_word(text) == OtherWord()


def test_a_key_of_a_newer_relay_is_ignored() -> None:
    assert decode_word('{"type":"paired","region":"fra"}') == Paired()


DEEP = '{"type":"paired","x":' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    "text", ["", "hello", "[]", "7", "null", '{"type":"paired"', "\x00", DEEP], ids=lambda t: t[:20]
)
def test_what_is_no_object_is_garbage(text: str) -> None:
    with pytest.raises(Garbage, match=r"^not a relay's word: "):
        decode_word(text)


@given(st.text(max_size=60))
@example(DEEP)
def test_text_from_anywhere_is_a_word_or_garbage(text: str) -> None:
    try:
        said = repr(decode_word(text))
    except Garbage as garbage:
        said = str(garbage)
    assert len(said) < 300
