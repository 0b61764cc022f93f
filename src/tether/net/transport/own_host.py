"""Whether a request names this machine: a page of another site cannot make a browser say so.

Law: pure. A name that an attacker's DNS points here (DNS rebinding) has dots; loopback addresses,
`localhost` and names without dots are nobody's to point anywhere.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from typing import Any


def host_of(scope: Any) -> str:
    """The host that a request was sent to, without its port; "" where it does not say."""
    hosts: list[str] = [
        value.decode("latin-1") for name, value in scope["headers"] if name == b"host"
    ]
    if len(hosts) != 1:
        return ""
    host = hosts[0].strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def names_this_machine(host: str, own: Collection[str] = ()) -> bool:
    """Whether `host` can only be this machine, or is one of its `own` names."""
    if "." not in host and ":" not in host:
        return True
    if host in own or host.endswith(".localhost"):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
