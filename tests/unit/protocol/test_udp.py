"""Datagrams over a byte stream: whole, of their flow, however the stream was cut."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tether.protocol.messages.base import Garbage
from tether.protocol.udp import (
    MAX_DATAGRAM,
    DatagramReader,
    UdpOpen,
    UdpOpened,
    frame,
    line,
    read_open,
    read_opened,
)


@given(
    datagrams=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=20),
    cut=st.integers(1, 50),
)
def test_datagrams_come_out_as_they_went_in(datagrams: list[tuple[int, bytes]], cut: int) -> None:
    stream = b"".join(frame(flow, datagram) for flow, datagram in datagrams)
    reader = DatagramReader()
    got = []
    for start in range(0, len(stream), cut):
        got += list(reader.feed(stream[start : start + cut]))
    assert got == datagrams


def test_a_datagram_that_udp_cannot_carry_is_garbage() -> None:
    with pytest.raises(Garbage, match="65508 bytes"):
        list(DatagramReader().feed(b"\0\0\0\1" + (MAX_DATAGRAM + 1).to_bytes(2, "big")))


def test_first_lines_survive_the_journey() -> None:
    opening = UdpOpen(host="127.0.0.1", port=53)
    assert read_open(line(opening)) == opening
    assert read_opened(line(UdpOpened(error="no"))) == UdpOpened(error="no")
    assert read_opened(b'{"newer": 1}\n') == UdpOpened()


@pytest.mark.parametrize(
    "text",
    [b"", b"SSH-2.0", b"[" * 5000, b"{}", b'{"host": "", "port": 1}', b'{"host":"h","port":0}'],
)
def test_a_first_line_that_names_no_destination_is_garbage(text: bytes) -> None:
    with pytest.raises(Garbage, match="no destination"):
        read_open(text)


@pytest.mark.parametrize("text", [b"bash: tether-udp: not found", b"[" * 5000])
def test_an_answer_that_is_none_is_garbage(text: bytes) -> None:
    with pytest.raises(Garbage, match="not an agent's answer"):
        read_opened(text)
