"""Which proxy the environment names for a URL, by the rules of curl and of the standard library.

Law: reads the environment (on macOS and Windows the system's settings, too) and dials nothing. The
variable of the URL's own scheme goes first, `ALL_PROXY` last; a WebSocket counts as the scheme that it
upgrades. `NO_PROXY` exempts. A proxy's URL holds credentials: it is never shown. Imports
little, for every command of the REST API waits for it.
"""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_NAMES = {
    "http": ("http",),
    "https": ("https",),
    "ws": ("ws", "https", "http"),
    "wss": ("wss", "https"),
}
"""The schemes whose variables name a proxy for a URL's scheme, best first."""

_PORTS = {"https": 443, "wss": 443}


class ProxyUnsupported(Exception):
    """There is no going through the proxy that is named; the text says what to do."""


@dataclass(frozen=True, slots=True)
class NamedProxy:
    """A proxy, and who names it."""

    url: str = field(repr=False)
    """With its credentials."""
    variable: str


def named_proxy(url: str) -> NamedProxy | None:
    """The proxy for `url`; None where it is to be dialled directly.

    Raises:
        ProxyUnsupported: it is a SOCKS proxy.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
    if urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    known = urllib.request.getproxies()
    for name in (*_NAMES.get(parts.scheme, ()), "all"):
        if not (proxy := known.get(name)):
            continue
        variable = f"{name.upper()}_PROXY"
        if urlsplit(proxy).scheme.startswith("socks"):
            raise ProxyUnsupported(
                f"{variable} names a SOCKS proxy, and only HTTP proxies are supported: name one in "
                f"HTTPS_PROXY, or dial directly with NO_PROXY={host}"
            )
        return NamedProxy(proxy if "://" in proxy else f"http://{proxy}", variable)
    return None
