"""What listens at a relay's port: legs, and what whoever runs it asks: health, readiness, numbers.

Law: dispatches by path, lets good tickets in, and knows nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.exposition import generate_latest

from tether.log import get_logger
from tether.net.derp.accept import accept_leg
from tether.net.derp.relay import Relay
from tether.net.derp.tickets import TicketGate
from tether.net.transport.ws_server import ServerStream, bearer, error_body

PATH = "/derp"

_log = get_logger("relay")


class RelayFront:
    """The ASGI application of a standalone relay."""

    def __init__(
        self,
        *,
        relay: Relay,
        gate: TicketGate,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        warnings: Callable[[], list[str]] = list,
    ) -> None:
        """`ready`: whether tickets can be verified; `warnings`: what its operator should see to."""
        self._relay = relay
        self._gate = gate
        self._registry = registry
        self._ready = ready
        self._warnings = warnings

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] == "websocket":
            await self._leg(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope["path"], send)

    async def _leg(self, scope: Any, receive: Any, send: Any) -> None:
        stream = ServerStream(scope, receive, send)
        client = scope.get("client")
        client_ip = str(client[0]) if client else ""

        async def refuse(status: int, code: str, message: str) -> None:
            _log.info("leg refused", code=code, client_ip=client_ip)
            await stream.refuse(status, error_body(code, message))

        if scope["path"] != PATH:
            await stream.refuse(404, error_body("websocket_not_found", "legs are dialled at /derp"))
            return
        await accept_leg(
            stream,
            bearer(scope),
            gate=self._gate,
            relay=self._relay,
            client_ip=client_ip,
            refuse=refuse,
        )

    async def _http(self, path: str, send: Any) -> None:
        match path:
            case "/healthz":
                await _answer(send, 200, b'{"status":"ok"}')
            case "/readyz" if self._ready():
                told = {"status": "ok", "warnings": self._warnings()}
                await _answer(send, 200, json.dumps(told).encode())
            case "/readyz":
                body = error_body(
                    "not_ready", "the server has not told this relay who signs tickets"
                )
                await _answer(send, 503, body)
            case "/metrics":
                await _answer(send, 200, generate_latest(self._registry), CONTENT_TYPE_LATEST)
            case _:
                await _answer(
                    send, 404, error_body("not_found", "this is a relay: look at /healthz")
                )


async def _answer(send: Any, status: int, body: bytes, kind: str = "application/json") -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
