"""What the kernel says about addresses, routes and links (rtnetlink(7)), and which of it is a change.

Law: no sockets; bytes go in, changes come out. What the kernel repeats without a change, such as a
renewed lifetime or another router advertisement, is left out. Of routes only default ones count: `/0`,
and the pair of `/1` that a VPN uses to take precedence over it. They count in any table but the local
one, because VPNs have tables of their own.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
DONE, ERROR = 3, 2
_MULTI = 0x2  # NLM_F_MULTI, set in the parts of a list, and not in news
_NEWLINK, _DELLINK, GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE = 24, 25
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BBHiII")  # family, padding, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_ROUTE_MESSAGE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_UP, _LOWER_UP = 0x1, 0x10000
_TENTATIVE, _DAD_FAILED = 0x40, 0x08
_LINK_SCOPE = 253
_TABLE_LOCAL, _UNICAST = 255, 1
_TUNNELS = (65534, 512, 768, 769, 776, 778)
"""Hardware types of VPN devices (if_arp.h): ARPHRD_NONE (tun, WireGuard), PPP, and the kinds of IP in
IP."""


@dataclass(frozen=True, slots=True)
class AddressChange:
    """An address came to an interface, or left it."""

    interface: str
    address: str
    gone: bool


@dataclass(frozen=True, slots=True)
class RouteChange:
    """A default route came or went."""

    interface: str
    destination: str
    via: str
    """The gateway; "" for a route through a tunnel, or without one."""
    gone: bool


@dataclass(frozen=True, slots=True)
class LinkChange:
    """An interface went up or down, by its cable, by configuration, or by coming or going itself."""

    interface: str
    up: bool


@dataclass(frozen=True, slots=True)
class ChangesMissed:
    """The kernel's queue ran over: something changed, and it is not known what."""


NetworkChange = AddressChange | RouteChange | LinkChange | ChangesMissed


class NetworkView:
    """What is known about this machine's network. Finds the changes in the kernel's messages."""

    def __init__(self, routes: set[tuple[str, str, str]] | None = None) -> None:
        self.names: dict[int, str] = {}
        """Names of interfaces by index."""
        self.up: dict[int, bool] = {}
        """Whether an interface is up, by index."""
        self.addresses: set[tuple[int, str]] = set()
        """Each with the index of its interface."""
        self.routes = routes or set()
        """Default routes, as (interface, destination, gateway)."""
        self.doubtful: set[tuple[str, str, str]] = set()
        """Default routes over a link that is down: it may have lost them, which the kernel does not tell
        (measured)."""
        self.tunnels: dict[str, None] = {}
        """The names of all VPN devices ever seen, also of those that are gone."""
        self.listed = False
        """Whether all addresses are known."""

    def interfaces_of(self, address: str) -> set[str]:
        """The interfaces that have `address`."""
        return {self._name(index) for index, known in self.addresses if known == address}

    def done(self, sequence: int) -> None:
        """The list that was asked for with this sequence number is complete."""
        self.listed = self.listed or sequence == GETADDR

    def take(
        self, kind: int, data: bytes, start: int, end: int, *, listing: bool
    ) -> NetworkChange | None:
        """Take one message of the kernel.

        Args:
            kind: its type.
            data: what was received.
            start: where the body of the message begins in `data`.
            end: where it ends.
            listing: whether it is part of a list, and thus no change.

        Returns:
            The change, if it tells one.
        """
        try:
            if kind in (_NEWLINK, _DELLINK):
                return self._link(kind == _DELLINK, data, start, end, listing)
            if kind in (_NEWADDR, _DELADDR):
                return self._address(kind == _DELADDR, data, start, end, listing)
            if kind in (_NEWROUTE, _DELROUTE):
                return self._route(kind == _DELROUTE, data, start, end)
        except (struct.error, ValueError):
            return None  # a message in a form that we do not know
        return None

    def is_down(self, interface: str) -> bool:
        """Whether `interface` is down."""
        return any(self.names.get(index) == interface for index, up in self.up.items() if not up)

    def _link(
        self, gone: bool, data: bytes, start: int, end: int, listing: bool
    ) -> NetworkChange | None:
        family, _, hardware, index, flags, _ = _LINK.unpack_from(data, start)
        if family != socket.AF_UNSPEC:
            return None  # a bridge's or IPv6's view of the link, which was told before
        attributes = _attributes(data, start + _LINK.size, end)
        if 3 in attributes:  # IFLA_IFNAME
            self.names[index] = attributes[3].rstrip(b"\0").decode(errors="replace")
        up = not gone and bool(flags & _UP and flags & _LOWER_UP)
        was = self.up.get(index)
        name = self._name(index)
        if hardware in _TUNNELS:
            self.tunnels[name] = None
        if gone:
            self.up.pop(index, None)
            self.names.pop(index, None)
        else:
            self.up[index] = up
        if not up:
            over = {route for route in self.routes if route[0] == name}
            self.doubtful |= over
            self.routes -= over
        if listing or was == up or (was is None and not up):
            return None
        return LinkChange(name, up)

    def _address(
        self, gone: bool, data: bytes, start: int, end: int, listing: bool
    ) -> NetworkChange | None:
        family, _, flags, scope, index = _ADDRESS.unpack_from(data, start)
        attributes = _attributes(data, start + _ADDRESS.size, end)
        raw = attributes.get(2, attributes.get(1))  # IFA_LOCAL (ours, of a point-to-point pair)
        if raw is None or family not in (socket.AF_INET, socket.AF_INET6):
            return None
        if 8 in attributes:  # IFA_FLAGS: all 32 of them
            (flags,) = _U32.unpack_from(attributes[8])
        key = (index, socket.inet_ntop(family, raw))
        if not gone and (family == socket.AF_INET6 and flags & (_TENTATIVE | _DAD_FAILED)):
            return None  # not usable yet: the kernel sends another message when it is
        known = key in self.addresses
        (self.addresses.discard if gone else self.addresses.add)(key)
        if listing or known != gone or scope >= _LINK_SCOPE:  # of the link, or of this host alone
            return None
        return AddressChange(self._name(index), key[1], gone)

    def _route(self, gone: bool, data: bytes, start: int, end: int) -> NetworkChange | None:
        family, length, _, _, table, _, _, kind, _ = _ROUTE_MESSAGE.unpack_from(data, start)
        attributes = _attributes(data, start + _ROUTE_MESSAGE.size, end)
        if length > 1 or kind != _UNICAST or table == _TABLE_LOCAL:
            return None
        if family not in (socket.AF_INET, socket.AF_INET6):
            return None
        nothing = bytes(4 if family == socket.AF_INET else 16)
        destination = f"{socket.inet_ntop(family, attributes.get(1, nothing))}/{length}"
        via = socket.inet_ntop(family, attributes[5]) if 5 in attributes else ""
        index = _U32.unpack_from(attributes[4])[0] if 4 in attributes else 0
        key = (self._name(index), destination, via)
        known = key in self.routes or (gone and key in self.doubtful)
        self.doubtful.discard(key)
        (self.routes.discard if gone else self.routes.add)(key)
        if known != gone:
            return None
        return RouteChange(*key, gone)

    def _name(self, index: int) -> str:
        if index and index not in self.names:
            try:
                return socket.if_indextoname(index)
            except OSError:
                return f"#{index}"
        return self.names.get(index, "")


def default_routes(proc: Path = Path("/proc")) -> set[tuple[str, str, str]]:
    """The default routes of the main table, as (interface, destination, gateway)."""
    found = set()
    net = proc / "thread-self" / "net"  # in the network namespace of this thread
    for line in _lines(net / "route")[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[7] in ("00000000", "00000080"):
            destination, via = (_v4(fields[column]) for column in (1, 2))
            length = 0 if fields[7] == "00000000" else 1
            found.add((fields[0], f"{destination}/{length}", "" if via == "0.0.0.0" else via))
    for line in _lines(net / "ipv6_route"):
        fields = line.split()
        if len(fields) == 10 and fields[1] in ("00", "01") and fields[9] != "lo":
            destination, via = (
                socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[column]))
                for column in (0, 4)
            )
            found.add((fields[9], f"{destination}/{int(fields[1])}", "" if via == "::" else via))
    return found


def _v4(word: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(word, 16)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def messages(data: bytes) -> Iterator[tuple[int, bool, int, int, int]]:
    """Each message in `data`: type, whether it is part of a list, sequence number, start and end of its
    body."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size or at + size > len(data):
            return
        yield kind, bool(flags & _MULTI), sequence, at + _HEADER.size, at + size
        at += size + 3 & ~3


def _attributes(data: bytes, at: int, end: int) -> dict[int, bytes]:
    found = {}
    while at + _ATTRIBUTE.size <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size or at + size > end:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + size]
        at += size + 3 & ~3
    return found


def list_request(kind: int) -> bytes:
    """The request for a list of all links (`GETLINK`) or addresses (`GETADDR`)."""
    body = _LINK.pack(0, 0, 0, 0, 0, 0) if kind == GETLINK else _ADDRESS.pack(0, 0, 0, 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_DUMP, kind, 0) + body
