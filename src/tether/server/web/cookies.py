"""The cookie that a signed-in browser carries, and whether a request comes from our own pages.

Law: pure. A cookie is sent by a browser whoever made it ask, so a request that changes something, and
each WebSocket, has to come from this origin: a cookie alone is no permission.
"""

from __future__ import annotations

from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """Its name, and whether it goes over TLS only.

    A cookie's host has no port, so the name has it where two servers may share a host: without TLS.
    """

    name: str
    secure: bool

    @classmethod
    def of_server(cls, external_url: str, port: int) -> SessionCookie:
        """The cookie of the server that people reach at `external_url`."""
        if external_url.startswith("https:"):
            return cls("__Host-tether", secure=True)
        return cls(f"tether_{port}", secure=False)

    def read(self, scope: Any) -> str:
        """The session's secret that came with a request, "" for none."""
        for line in _headers(scope, b"cookie"):
            try:
                found = SimpleCookie(line).get(self.name)
            except CookieError:
                continue
            if found is not None:
                return found.value
        return ""

    def set(self, secret: str, life_s: float) -> str:
        """The `Set-Cookie` that signs in."""
        return f"{self.name}={secret}; Max-Age={int(life_s)}; {self._attributes()}"

    def clear(self) -> str:
        """The `Set-Cookie` that signs out."""
        return f"{self.name}=; Max-Age=0; {self._attributes()}"

    def _attributes(self) -> str:
        return "Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if self.secure else "")


def from_our_pages(scope: Any) -> bool:
    """Whether the browser says that a page of this origin asks.

    `Sec-Fetch-Site` cannot be set by scripts; a browser without it says `Origin`, which must then be
    the host that it reached us by. What says neither is no browser, and has no cookie by accident.
    """
    if site := _headers(scope, b"sec-fetch-site"):
        return site == ["same-origin"]
    origins = _headers(scope, b"origin")
    if not origins:
        return True
    hosts = _headers(scope, b"host")
    return len(origins) == len(hosts) == 1 and urlsplit(origins[0]).netloc == hosts[0]


def _headers(scope: Any, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
