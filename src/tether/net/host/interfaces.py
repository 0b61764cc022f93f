"""The addresses of this machine at which other machines may reach it.

Law: reads only. Left out are addresses of interfaces that are down, link-local ones and loopback. Those
of bridges for containers come last.
"""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_address

from tether.net.host.rtnetlink import (
    DONE,
    ERROR,
    GETADDR,
    GETLINK,
    NetworkView,
    list_request,
    messages,
)

_RECEIVE = 64 << 10
_ANSWER_S = 1.0
_INNER = ("docker", "br-", "veth", "virbr", "cni", "flannel", "lxc", "podman")


def reachable_addresses() -> list[str]:
    """The addresses, the most likely one first; none where netlink cannot be had."""
    view = NetworkView()
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or a sandbox
        _ask(view)
    found = [
        (view.names.get(index, "").startswith(_INNER), ip_address(address).version, address)
        for index, address in view.addresses
        if view.up.get(index) and _leads_here(address)
    ]
    return [address for _, _, address in sorted(found)]


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address or a name for one."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _leads_here(address: str) -> bool:
    parsed = ip_address(address)
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_multicast)


def _ask(view: NetworkView) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_ANSWER_S)
        for wanted in (GETLINK, GETADDR):
            sock.send(list_request(wanted))
            done = False
            while not done:
                data = sock.recv(_RECEIVE)
                for kind, _, _, start, end in messages(data):
                    done = done or kind in (DONE, ERROR)
                    view.take(kind, data, start, end, listing=True)
