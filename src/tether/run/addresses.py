"""Where a server and its embedded relay are reached.

Law: settings in, URLs out.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from tether.net.host.interfaces import is_loopback
from tether.net.transport.tcp import join_address
from tether.server.app import RELAY_PATH
from tether.server.settings import ServerSettings

WILDCARDS = ("0.0.0.0", "::")


def url_of(settings: ServerSettings, port: int) -> str:
    """Where others reach the server."""
    if settings.external_url:
        return settings.external_url.rstrip("/")
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{join_address(settings.host, port)}"


def own_hosts(settings: ServerSettings) -> frozenset[str] | None:
    """The names that a server on loopback goes by, besides loopback's; None for one that others reach by
    names that it cannot know."""
    if not is_loopback(settings.host):
        return None
    return frozenset({urlsplit(settings.external_url).hostname or ""})


def relay_url(settings: ServerSettings, url: str) -> Callable[[str], str]:
    """Where a peer dials the relay that reached us under a host and port ("" for anybody): a server that
    listens everywhere has no address of its own, so the peer comes back the way it came."""

    def by_host(host: str) -> str:
        if host and not settings.external_url and settings.host in WILDCARDS:
            scheme = "ws" if settings.tls_cert is None else "wss"
            return f"{scheme}://{host}{RELAY_PATH}"
        return f"ws{url.removeprefix('http')}{RELAY_PATH}"

    return by_host
