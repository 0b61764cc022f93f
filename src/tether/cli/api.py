"""The REST API, called from the command line.

Law: one request, one answer, or a `Failure` that says what to do. On urllib, not on httpx: it is in
the standard library, follows the environment's proxies, and imports in 40 ms less (a third of what
`tether connections` may take); one request a command needs no connection pool.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tether.client.errors import Failure
from tether.config import ClientConfig
from tether.net.transport.answers import foreign_answer
from tether.net.transport.proxies import ProxyUnsupported, named_proxy
from tether.version import VERSION

TIMEOUT_S = 30.0
_LARGEST_ANSWER = 256 << 20
_PIECE = 64 << 10

Query = Mapping[str, object] | Sequence[tuple[str, object]]
"""Parameters of a query; of a sequence, each that it names, as often as it does."""


class Api:
    """Calls one server as one user."""

    def __init__(self, config: ClientConfig, timeout: float = TIMEOUT_S) -> None:
        """Raises `Failure` where the environment names a proxy that there is no going through."""
        self._config = config
        self._timeout = timeout
        self._host = urlsplit(config.url).netloc
        self._opener = urllib.request.build_opener(
            _NoRedirects, _Http, _Https, _proxies(config.url)
        )

    def get(self, path: str, query: Query | None = None) -> Any:
        """GET `path` below /api/v1; keys of `query` whose value is None are left out."""
        return self._call("GET", _with_query(path, query), None)

    def download(self, path: str, query: Query | None = None) -> Iterator[bytes]:
        """GET what is no JSON, piece by piece."""
        with self._open("GET", _with_query(path, query), None) as answer:
            while piece := answer.read(_PIECE):
                yield piece

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """POST `body` as JSON."""
        return self._call("POST", path, dict(body or {}))

    def delete(self, path: str) -> Any:
        """DELETE `path`."""
        return self._call("DELETE", path, None)

    def _call(self, method: str, path: str, body: Mapping[str, object] | None) -> Any:
        with self._open(method, path, body) as answer:
            raw = answer.read(_LARGEST_ANSWER)
        try:
            return json.loads(raw) if raw else None
        except ValueError as wrong:
            raise Failure(foreign_answer(self._host, 200, raw)) from wrong

    @contextlib.contextmanager
    def _open(
        self, method: str, path: str, body: Mapping[str, object] | None
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one request, while it lasts."""
        request = urllib.request.Request(
            f"{self._config.url}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._config.token}",
                "Accept": "application/json",
                "Content-Type": "application/json",
                "User-Agent": f"tether/{VERSION}",
            },
        )
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                yield answer
        except urllib.error.HTTPError as refused:
            with refused:
                location = refused.headers.get("Location", "")
                raise self._refused(refused.code, refused.read(1 << 20), location) from refused
        except (OSError, http.client.HTTPException) as wrong:
            raise self.unreachable(wrong) from wrong

    def _refused(self, status: int, raw: bytes, location: str) -> Failure:
        try:
            message = str(json.loads(raw)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            base = location.partition("/api/v1/")[0]
            message = foreign_answer(self._host, status, raw, base)
        return Failure(message)

    def unreachable(self, wrong: Exception) -> Failure:
        """The sentence for a call that got no answer, by table."""
        reason = wrong.reason if isinstance(wrong, urllib.error.URLError) else wrong
        match reason:
            case ssl.SSLCertVerificationError():
                why = f"the TLS certificate of {self._host} was not accepted: " + (
                    reason.verify_message
                )
            case ssl.SSLError():
                why = f"TLS with {self._host} failed: {reason.reason or reason}"
            case socket.gaierror():
                why = f"the name {self._host} could not be resolved"
            case ConnectionRefusedError():
                why = f"nothing listens at {self._host}: is the server running?"
            case TimeoutError():
                why = f"{self._host} did not answer in time"
            case http.client.HTTPException():
                why = f"{self._host} does not answer as a Tether server"
            case OSError():
                why = f"{self._host} could not be reached: {reason.strerror or reason}"
            case _:
                why = f"{self._host} could not be reached: {reason}"
        return Failure(why)


def _with_query(path: str, query: Query | None) -> str:
    pairs = query.items() if isinstance(query, Mapping) else query or ()
    given = [(key, value) for key, value in pairs if value is not None]
    return f"{path}?{urlencode(given)}" if given else path


def _proxies(url: str) -> urllib.request.ProxyHandler:
    """The library's own reading of the environment leaves `ALL_PROXY` out."""
    try:
        named = named_proxy(url)
    except ProxyUnsupported as wrong:
        raise Failure(str(wrong)) from wrong
    return urllib.request.ProxyHandler({} if named is None else {urlsplit(url).scheme: named.url})


def segment(name: str) -> str:
    """`name` as one segment of a path."""
    return quote(name, safe="")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to wherever it points; it is an answer, not an order."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Http(urllib.request.HTTPHandler):
    """Connects by whichever address answers first."""

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_dialling(http.client.HTTPConnection), req)


class _Https(urllib.request.HTTPSHandler):
    """The same with TLS."""

    def https_open(self, req: urllib.request.Request) -> Any:
        from tether.net.transport.trust import client_context  # loads the system's certificates

        return self.do_open(_dialling(http.client.HTTPSConnection), req, context=client_context())


def _dialling(kind: type[http.client.HTTPConnection]) -> Any:
    def made(*arguments: Any, **more: Any) -> http.client.HTTPConnection:
        connection = kind(*arguments, **more)
        connection._create_connection = _connect  # type: ignore[attr-defined]
        return connection

    return made


def _connect(address: tuple[str, int], timeout: float, *more: Any) -> socket.socket:
    """`socket.create_connection`; where a host has addresses of two families, one that leads nowhere
    does not hold up the other."""
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    if len({family for family, *_ in found}) < 2:
        return socket.create_connection(address, timeout, *more)
    from tether.net.transport.tcp import (
        connect_tcp_blocking,  # it needs asyncio, which takes a while
    )

    return connect_tcp_blocking(address, timeout)
