"""PROXY headers of both versions, whole, in pieces, and broken."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, strategies as st

from tether.protocol.messages.base import Garbage
from tether.protocol.proxy_header import ProxyHeader, may_begin, read_proxy_header

SIGN = b"\r\n\r\n\x00\r\nQUIT\n"
PORTS = (50123).to_bytes(2, "big") + (80).to_bytes(2, "big")
V4 = bytes([198, 51, 100, 11, 10, 0, 0, 1]) + PORTS
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + PORTS


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGN + bytes([0x20 | command, family]) + len(body).to_bytes(2, "big") + body


HEADERS = {
    b"PROXY TCP4 198.51.100.11 10.0.0.1 50123 80\r\n": ("198.51.100.11", 50123),
    b"PROXY TCP6 2001:db8::1 2001:db8::2 50123 80\r\n": ("2001:db8::1", 50123),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": None,
    v2(1, 0x11, V4): ("198.51.100.11", 50123),
    v2(1, 0x11, V4 + b"\x04\x00\x01x"): ("198.51.100.11", 50123),
    v2(1, 0x21, V6): ("2001:db8::1", 50123),
    v2(0, 0x00, b""): None,
    v2(1, 0x31, b"x" * 216): None,
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_is_read_when_all_of_it_is_there(header: bytes) -> None:
    for size in range(len(header)):
        assert may_begin(header[:size])
        assert read_proxy_header(header[:size]) is None
    assert read_proxy_header(header + b"GET /") == ProxyHeader(len(header), HEADERS[header])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 198.51.100.11\r\n",
        b"PROXY TCP4 nonsense 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 198.51.100.11 10.0.0.1 70000 80\r\n",
        b"PROXY " + b"x" * 200,
        SIGN + b"\x11\x11\x00\x00",
        v2(1, 0x11, b"short"),
        SIGN + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_none_is_garbage(data: bytes) -> None:
    with pytest.raises(Garbage):
        read_proxy_header(data)


@given(st.binary())
def test_nothing_else_happens(data: bytes) -> None:
    try:
        read_proxy_header(b"PROXY " + data)
        read_proxy_header(SIGN + data)
    except Garbage:
        pass
