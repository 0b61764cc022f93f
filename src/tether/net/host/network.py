"""Changes of this machine's addresses, default routes and links, as the kernel tells them over netlink.

Law: Linux only, reads only, concludes nothing; `NetworkWatch.start` says whether it can watch.
Addresses and links are listed once at the start, over the same socket, so that `rtnetlink` can tell a
change from a repetition. Why this is not pyroute2: docs/adr/0012.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tether.net.host.rtnetlink import (
    DONE,
    ERROR,
    GETADDR,
    GETLINK,
    AddressChange,
    ChangesMissed,
    LinkChange,
    NetworkChange,
    NetworkView,
    RouteChange,
    default_routes,
    list_request,
    messages,
)
from tether.net.unexpected import unexpected

__all__ = [
    "AddressChange",
    "ChangesMissed",
    "LinkChange",
    "NetworkChange",
    "NetworkWatch",
    "RouteChange",
]

_ROUTE = 0  # NETLINK_ROUTE
_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
_GROUPS = _LINK | _IPV4_IFADDR | _IPV4_ROUTE | _IPV6_IFADDR | _IPV6_ROUTE
_BUFFER = 256 << 10
_KEPT = 64
"""Changes that are remembered."""


class NetworkWatch:
    """Hands each change to `on_change`, in the event loop's thread, and remembers the last ones."""

    def __init__(
        self, on_change: Callable[[NetworkChange], None], *, proc: Path = Path("/proc")
    ) -> None:
        self._on_change = on_change
        self._proc = proc
        self._view = NetworkView()
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop
        self._to_list: list[int] = []  # what is still to be asked for
        self.changes: deque[tuple[float, NetworkChange]] = deque(maxlen=_KEPT)
        """The last changes, each with the loop's time."""

    def start(self) -> bool:
        """Begin to watch; False where this system does not tell."""
        self._loop = asyncio.get_running_loop()
        try:
            link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _ROUTE)
        except (AttributeError, OSError):
            return False
        try:
            link.bind((0, _GROUPS))
        except OSError:
            link.close()
            return False
        self._socket = link
        self._view.routes |= default_routes(self._proc)
        self._list_all()
        self._loop.add_reader(link.fileno(), self._readable)
        return True

    def stop(self) -> None:
        """End watching."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def has(self, address: str) -> bool | None:
        """Whether this machine has `address`; None while that is not known."""
        if self._socket is None or not self._view.listed:
            return None
        return any(known == address for _, known in self._view.addresses)

    def interfaces_of(self, address: str) -> set[str]:
        """The interfaces that have `address`, or had it lately."""
        had = {
            change.interface
            for _, change in self.changes
            if isinstance(change, AddressChange) and change.address == address
        }
        return had | self._view.interfaces_of(address)

    def is_tunnel(self, interface: str) -> bool:
        """Whether `interface` is, or was, a VPN's."""
        return interface in self._view.tunnels

    def default_interfaces(self) -> set[str]:
        """The interfaces that a default route leads over, or would if their link were up."""
        return {interface for interface, _, _ in self._view.routes | self._view.doubtful}

    def default_interface(self) -> str:
        """The interface whose default route came last; "" where there is no default route."""
        latest = [
            change.interface
            for _, change in reversed(self.changes)
            if isinstance(change, RouteChange)
            and (change.interface, change.destination, change.via) in self._view.routes
        ]
        remaining = sorted(interface for interface, _, _ in self._view.routes)
        return next(iter(latest + remaining), "")

    def is_down(self, interface: str) -> bool:
        """Whether the kernel says that `interface` is down."""
        return self._view.is_down(interface)

    def recent(self, within_s: float) -> list[tuple[float, NetworkChange]]:
        """The changes of the last `within_s` seconds, oldest first, each with its age in seconds."""
        if not self.changes:
            return []
        now = self._loop.time()
        return [(now - at, change) for at, change in self.changes if at >= now - within_s]

    def _list_all(self) -> None:
        self._to_list = [GETLINK, GETADDR]
        self._list_next()

    def _list_next(self) -> None:
        """Ask for the next list: the kernel makes only one at a time for a socket."""
        if not self._to_list or self._socket is None:
            return
        kind = self._to_list.pop(0)
        try:
            self._socket.send(list_request(kind))
        except OSError:
            self._to_list.clear()  # changes come all the same

    def _readable(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(_BUFFER)
            except BlockingIOError:
                return
            except OSError as wrong:
                if wrong.errno != errno.ENOBUFS:
                    self.stop()
                    return
                self._tell(ChangesMissed())
                self._view = NetworkView(routes=default_routes(self._proc))
                self._list_all()
                continue
            try:
                self._take(data)
            except Exception as wrong:  # it costs these changes; those that follow are read
                unexpected("a change of the network", wrong)

    def _take(self, data: bytes) -> None:
        for kind, listing, sequence, start, end in messages(data):
            if kind in (DONE, ERROR):
                self._view.done(sequence)
                self._list_next()
                continue
            change = self._view.take(kind, data, start, end, listing=listing)
            if change is not None:
                self._tell(change)

    def _tell(self, change: NetworkChange) -> None:
        self.changes.append((self._loop.time(), change))
        self._on_change(change)
