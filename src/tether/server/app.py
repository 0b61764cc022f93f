"""One port: control links and relay legs are raw WebSockets, the rest is pages and the REST API.

Law: dispatches by path, and turns away what the server does not take now; knows nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any

from tether.net.derp.accept import accept_leg
from tether.net.derp.relay import Relay
from tether.net.derp.tickets import TicketGate
from tether.net.transport.own_host import host_of, names_this_machine
from tether.net.transport.ws_server import ServerStream, bearer, error_body
from tether.server.control.handshake import STOPPING, Handshakes
from tether.server.control.hub import Hub
from tether.server.web.assets import WebInterface

CONTROL_PATH, RELAY_PATH = "/api/v1/control", "/derp"

App = Callable[[Any, Any, Any], Awaitable[None]]


class Dispatcher:
    """The ASGI application of the whole server."""

    def __init__(
        self,
        *,
        api: App,
        web: WebInterface,
        hub: Hub,
        relay: Relay | None,
        gate: TicketGate,
        handshakes: Handshakes,
        own_hosts: Collection[str] | None = None,
    ) -> None:
        """`relay` is None where the server runs none of its own. `own_hosts` are the names by which a
        server that listens on loopback is reached; None for one that may have any name."""
        self._web = web
        self._api = api
        self._hub = hub
        self._relay = relay
        self._gate = gate
        self._handshakes = handshakes
        self._own_hosts = own_hosts
        self.stopping = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or WebSocket."""
        if self._own_hosts is not None and not names_this_machine(host_of(scope), self._own_hosts):
            await _misdirected(scope, receive, send)
            return
        if scope["type"] != "websocket":
            await self._http(scope, receive, send)
            return
        path = scope["path"]
        if path == CONTROL_PATH:
            await self._hub.serve(scope, receive, send)
        elif path == RELAY_PATH and self._relay is not None:
            await self._leg(self._relay, scope, receive, send)
        else:
            body = error_body("websocket_not_found", f"there is no WebSocket at {path[:100]}")
            await ServerStream(scope, receive, send).refuse(404, body)

    async def _leg(self, relay: Relay, scope: Any, receive: Any, send: Any) -> None:
        stream = ServerStream(scope, receive, send)
        client_ip = self._handshakes.client_ip(scope)
        refuse = partial(self._handshakes.refuse, stream, client_ip)
        if self.stopping:
            await refuse(503, *STOPPING)
            return
        await accept_leg(
            stream,
            bearer(scope),
            gate=self._gate,
            relay=relay,
            client_ip=client_ip,
            refuse=refuse,
        )

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        if self.stopping and scope["type"] == "http" and scope["path"] != "/healthz":
            body = error_body(*STOPPING)
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await (self._web if self._web.has(scope) else self._api)(scope, receive, send)


async def _misdirected(scope: Any, receive: Any, send: Any) -> None:
    """A page of another site, whose name was pointed here (DNS rebinding), or a proxy that we were not
    told of."""
    body = error_body(
        "wrong_host",
        "this server listens on this machine only and does not go by that name: tell it its"
        " --external-url",
    )
    if scope["type"] == "websocket":
        await ServerStream(scope, receive, send).refuse(421, body)
        return
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": body})
