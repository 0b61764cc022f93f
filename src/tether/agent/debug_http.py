"""What an agent serves on its own machine: `/metrics`, `/healthz`, and `/debug/state` for people.

Law: it reads and changes nothing, and knows no secret: tokens, tickets, keys, cookies and the values
of variables are out of its reach. It is an ASGI application, to be served on loopback only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

import msgspec

from tether.agent.metrics import CONTENT_TYPE
from tether.net.transport.own_host import host_of, names_this_machine
from tether.net.transport.tcp import NoAddress, split_address

State = Mapping[str, Any]

_JSON, _TEXT = "application/json", "text/plain; charset=utf-8"


class NotLoopback(NoAddress):
    """The address can be reached from elsewhere; the text is one sentence."""


def listen_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT` of a loopback address; port 0 is any free port.

    Raises:
        NoAddress: it is no such address.
    """
    host, port = split_address(text)
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise NotLoopback(
            f"{host} is no loopback address: metrics are told on this machine only, to whoever asks"
        )
    return host, port


class Introspection:
    """The ASGI application."""

    def __init__(self, *, metrics: Callable[[], bytes], state: Callable[[], State]) -> None:
        self._metrics = metrics
        self._state = state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        if names_this_machine(host_of(scope)):
            status, kind, body = self._answer(scope["method"], scope["path"])
        else:
            status, kind, body = 421, _TEXT, b"this is asked for by a loopback address only\n"
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )

    def _answer(self, method: str, path: str) -> tuple[int, str, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, _TEXT, b"only GET\n"
        match path:
            case "/metrics":
                return 200, CONTENT_TYPE, self._metrics()
            case "/healthz":
                return 200, _TEXT, b"ok\n"
            case "/debug/state":
                return 200, _JSON, msgspec.json.format(msgspec.json.encode(self._state())) + b"\n"
            case _:
                return 404, _TEXT, b"there are /metrics, /healthz and /debug/state\n"
