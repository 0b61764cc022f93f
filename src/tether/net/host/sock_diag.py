"""Which TCP sockets listen on a port: asked of the kernel over netlink, or read from /proc/net.

Law: Linux only, reads only; tells inodes and addresses, not processes. The request over netlink names
the state (LISTEN) and the port, so that the kernel filters: it takes 0.1 ms with any number of
connections, and may be called in the loop. Where netlink cannot be had (gVisor, some seccomp profiles),
/proc/net/tcp and tcp6 tell the same; they list every connection, which takes tens of milliseconds on a
busy host, and belong into a thread.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
IPAddress = IPv4Address | IPv6Address

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_LISTEN = 10
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_SOCKET_ID = struct.Struct("!HH16s16sI8s")
_ANY_COOKIE = b"\xff" * 8
_MESSAGE = struct.Struct("=BBBB2s2s16s16sI8sIIIII")  # struct inet_diag_msg, 72 bytes
_ATTRIBUTE = struct.Struct("=HH")
_V6ONLY = 11  # INET_DIAG_SKV6ONLY
_INODE, _INODE_AT = struct.Struct("=I"), 68
_BUFFER = 256 << 10
_PATIENCE_S = 1.0


_PERMANENT = {
    getattr(errno, name)
    for name in ("EPROTONOSUPPORT", "EAFNOSUPPORT", "EOPNOTSUPP", "EPERM", "EACCES", "ENOENT")
}
"""After these, asking again does not help; others pass, such as a timeout or no free descriptor."""


class DiagUnavailable(Exception):
    """The kernel does not answer socket diagnosis here. The text is one line for people."""

    def __init__(self, why: str, *, permanent: bool) -> None:
        """`permanent` says that asking again does not help."""
        super().__init__(why)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class ListenSocket:
    """One listening socket."""

    address: IPAddress
    port: int
    inode: int
    """By which /proc/PID/fd names it."""
    uid: int
    """Whose it is."""
    v6only: bool | None = None
    """Whether an IPv6 socket refuses IPv4; None where that is not told."""

    def accepts(self, destination: IPAddress) -> bool:
        """Whether a connection to `destination` (on this port, on this machine) ends here."""
        mine, wanted = _plain(self.address), _plain(destination)
        if mine.is_unspecified:
            return mine.version == wanted.version or (mine.version == 6 and not self.v6only)
        if wanted.is_unspecified:  # a connection to it leads to this machine's loopback
            return mine.is_loopback
        return mine == wanted


def _plain(address: IPAddress) -> IPAddress:
    """`::ffff:127.0.0.1` as the IPv4 address that it stands for."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def listening_on(port: int) -> list[ListenSocket]:
    """The sockets that listen on `port`, of both families.

    Raises:
        DiagUnavailable: netlink cannot be had, or not by us.
    """
    found = _dumped(port, _listen_socket)
    return [listening for listening in found if listening.port == port]


def listening_inodes() -> list[int]:
    """The inodes of all sockets that listen on any port.

    Raises:
        DiagUnavailable: netlink cannot be had, or not by us.
    """
    return _dumped(0, lambda data, at, end: int(_INODE.unpack_from(data, at + _INODE_AT)[0]))


def _dumped(port: int, read: Callable[[bytes, int, int], T]) -> list[T]:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as link:
            link.settimeout(_PATIENCE_S)
            link.bind((0, 0))
            return [
                found
                for family in (socket.AF_INET, socket.AF_INET6)
                for found in _dump(link, family, port, read)
            ]
    except AttributeError as wrong:
        raise DiagUnavailable("this system has no netlink", permanent=True) from wrong
    except OSError as wrong:
        raise DiagUnavailable(
            f"netlink socket diagnosis: {wrong}", permanent=wrong.errno in _PERMANENT
        ) from wrong


def _dump(
    link: socket.socket, family: int, port: int, read: Callable[[bytes, int, int], T]
) -> Iterator[T]:
    wanted = _SOCKET_ID.pack(port, 0, b"", b"", 0, _ANY_COOKIE)
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN) + wanted
    size = _HEADER.size + len(request)
    link.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
    while True:
        data = link.recv(_BUFFER)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -struct.unpack_from("=i", data, at + _HEADER.size)[0]
                raise OSError(number, "the kernel refused the request")
            if length < _HEADER.size:
                raise OSError(0, "a netlink message without a length")
            yield read(data, at + _HEADER.size, at + length)
            at += (length + 3) & ~3


def _listen_socket(data: bytes, at: int, end: int) -> ListenSocket:
    fields = _MESSAGE.unpack_from(data, at)
    family, port, source = fields[0], fields[4], fields[6]
    address: IPAddress = (
        IPv4Address(source[:4]) if family == socket.AF_INET else IPv6Address(source)
    )
    return ListenSocket(
        address,
        int.from_bytes(port, "big"),
        inode=fields[14],
        uid=fields[13],
        v6only=_v6only(data, at + _MESSAGE.size, end),
    )


def _v6only(data: bytes, at: int, end: int) -> bool | None:
    while at + _ATTRIBUTE.size < end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if kind == _V6ONLY:
            return data[at + _ATTRIBUTE.size] != 0
        if length < _ATTRIBUTE.size:
            break
        at += (length + 3) & ~3
    return None


# -- without netlink ----------------------------------------------------------------------------


def listening_on_by_proc(port: int, proc: Path = Path("/proc")) -> list[ListenSocket]:
    """As `listening_on`, from /proc/net/tcp and tcp6.

    Raises:
        DiagUnavailable: neither file can be read.
    """
    found: list[ListenSocket] = []
    unreadable = []
    for name in ("tcp", "tcp6"):
        try:
            table = (proc / "net" / name).read_bytes()
        except OSError as wrong:
            unreadable.append(str(wrong))
            continue
        found += _rows(table, port)
    if len(unreadable) == 2:
        raise DiagUnavailable("; ".join(unreadable), permanent=False)
    return found


def _rows(table: bytes, port: int) -> Iterator[ListenSocket]:
    row = re.compile(rb"^ *\d+: ([0-9A-F]+):%04X [0-9A-F]+:0000 0A (.*)$" % port, re.M)
    for found in row.finditer(table):
        columns = found[2].split()
        if len(columns) >= 6:
            yield ListenSocket(_address(found[1]), port, inode=int(columns[5]), uid=int(columns[3]))


def _address(text: bytes) -> IPAddress:
    """`0100007F` and its kin: 32-bit words in the machine's own byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)
