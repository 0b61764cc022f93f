"""The PROXY protocol: what a proxy in front says of the client before the client's first byte.

Law: bytes in, values out. Versions 1 and 2 of haproxy.org/download/3.0/doc/proxy-protocol.txt; that a
header is believed only from proxies that are trusted is the caller's part.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from tether.protocol.messages.base import Garbage

MAX_V1 = 107
"""Bytes of the longest header of version 1, its end included."""

MAX_V2 = 4096
"""Bytes of a header of version 2 that are accepted; its addresses need 52, the rest are extensions."""

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = 16
_TCP4, _TCP6 = 0x11, 0x21


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """One header."""

    size: int
    """Its bytes; what follows is the client's."""
    client: tuple[str, int] | None
    """The client's address and port; None where the proxy speaks for itself or does not know."""


def may_begin(data: bytes) -> bool:
    """Whether `data` is the beginning of a header, as far as it goes."""
    return any(data.startswith(sign[: len(data)]) for sign in (_V1, _V2))


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the start of `data`; None where more of it is to come.

    Raises:
        Garbage: it is none.
    """
    if not may_begin(data):
        raise Garbage("no PROXY header")
    return _read_v1(data) if data.startswith(_V1[: len(data)]) else _read_v2(data)


def _read_v1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:MAX_V1].partition(b"\r\n")
    if not end:
        if len(data) >= MAX_V1:
            raise Garbage("a PROXY header without an end")
        return None
    words = line.decode("ascii", "replace").split(" ")
    size = len(line) + len(end)
    if words[1] == "UNKNOWN":
        return ProxyHeader(size, None)
    try:
        _, family, source, _, port, _ = words
        if family not in ("TCP4", "TCP6"):
            raise ValueError(family)
        return ProxyHeader(size, _client(str(ip_address(source)), int(port)))
    except ValueError as wrong:
        raise Garbage(f"a PROXY header that is none: {wrong}") from wrong


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD:
        return None
    version, command = data[12] >> 4, data[12] & 0xF
    length = int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or length > MAX_V2:
        raise Garbage("a PROXY header of an unknown version")
    size = _V2_HEAD + length
    if len(data) < size:
        return None
    width = {_TCP4: 4, _TCP6: 16}.get(data[13], 0)
    if command == 0 or not width:
        return ProxyHeader(size, None)
    if length < 2 * width + 4:
        raise Garbage("a PROXY header without its addresses")
    source = data[_V2_HEAD : _V2_HEAD + width]
    port = int.from_bytes(data[_V2_HEAD + 2 * width :][:2], "big")
    return ProxyHeader(size, _client(str(ip_address(source)), port))


def _client(address: str, port: int) -> tuple[str, int]:
    if not 0 <= port <= 65535:
        raise Garbage(f"a PROXY header with port {port}")
    return address.removeprefix("::ffff:"), port
