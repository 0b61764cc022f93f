"""Accepts WebSockets: uvicorn's sans-IO class, extended so that it keeps why a socket ended.

Law: leans on internals of uvicorn 0.54 (pinned below 0.55; `tests/unit/net/transport/test_ws.py` is the
contract). ASGI servers report a killed, a reset and a frozen peer all as close code 1005; here the first
cause is kept with TCP_INFO, and `ServerStream` raises it.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from tether.attribution.vocabulary import SILENCE_CODE, Reach, StreamEnd
from tether.net.transport.streams import (
    MessageStream,
    StreamLost,
    close_reason,
    translate,
    unforeseen_loss,
)
from tether.net.transport.tcp import plain_address, read_tcp_info, set_keepalive
from tether.net.unexpected import unexpected

CLOSE_TIMEOUT_S = 1.0
"""How long a close frame may wait for room, and then for its answer."""

FLUSH_LIMIT_S = 60.0
"""How long a closed socket may take to send what was queued, for a frozen peer takes nothing."""

SILENT_FLUSH_S = 3.0
"""How long a socket is kept for the close frame to a peer that fell silent."""


class CauseProtocol(WebSocketsSansIOProtocol):
    """Keeps the first reason for which the stream stopped."""

    lost: StreamLost | None = None
    """That reason; None while the stream lives."""
    flush_timer: asyncio.TimerHandle | None = None
    """Drops the socket when what is queued takes too long to leave."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.close_timeout = CLOSE_TIMEOUT_S
        set_keepalive(transport.get_extra_info("socket"))

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: Any = self.scope["extensions"]
            extensions["tether"] = self

    def counters(self) -> dict[str, int] | None:
        """TCP_INFO of the socket right now."""
        if self.lost is not None:
            return self.lost.counters
        return read_tcp_info(self.transport.get_extra_info("socket"))

    def abort(self) -> None:
        """Drop the socket at once."""
        self.transport.abort()

    def flush_then_drop(self, seconds: float) -> None:
        """Give what is queued some time to leave, then drop the socket."""
        if self.flush_timer is None and not self.disconnected:
            self.flush_timer = self.loop.call_later(seconds, self.abort)

    def eof_received(self) -> None:
        self._keep(StreamEnd.EOF)
        super().eof_received()

    def handle_close(self, event: Any) -> None:
        received = self.conn.close_rcvd
        if received is not None:
            self._keep(StreamEnd.CLOSED, close_code=received.code, close_reason=received.reason)
        super().handle_close(event)

    def handle_parser_exception(self) -> None:
        wrong = self.conn.parser_exc
        if isinstance(wrong, EOFError):
            self._keep(StreamEnd.EOF)
        else:
            self._keep(StreamEnd.OTHER, violation=str(wrong or "text that is not UTF-8")[:200])
        super().handle_parser_exception()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.flush_timer is not None:
            self.flush_timer.cancel()
        how, name = translate(exc)
        self._keep(StreamEnd.CLOSED if exc is None else how, errno_name=name)
        super().connection_lost(exc)

    def _keep(self, how: StreamEnd, **more: Any) -> None:
        if self.lost is None:
            self.lost = StreamLost(how, counters=self.counters(), **more)


SUBPROTOCOL, BEARER = "tether", "tether-bearer."


FORWARDING = (b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip")
"""Headers that only something in between sends (RFC 7239, RFC 9110 section 7.6.3, and usage)."""


class ServerStream(MessageStream):
    """A WebSocket that was accepted: ASGI's, served by `CauseProtocol`."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self._receive = receive
        self._send = send
        self._protocol: CauseProtocol = scope["extensions"]["tether"]
        offered = scope.get("subprotocols", ())
        self._subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
        if any(name in FORWARDING for name, _ in scope["headers"]):
            self.comes_through_a_proxy()

    def comes_through_a_proxy(self) -> None:
        """Note that our kernel's sight ends at whoever is at the other end of our socket."""
        self.reach = Reach.PROXIED
        self.proxy = plain_address(self._protocol.transport.get_extra_info("peername"))

    async def accept(self) -> None:
        """Complete the upgrade. Call either this or `refuse`, once, before anything else.

        Raises:
            StreamLost: the client has hung up.
        """
        try:
            await self._receive()
            await self._send({"type": "websocket.accept", "subprotocol": self._subprotocol})
        except Exception as wrong:
            raise self._gone(wrong) from wrong

    async def refuse(self, status: int, body: bytes) -> None:
        """Answer the upgrade with an HTTP error and a JSON body, as `error_body` makes it."""
        headers = [(b"content-type", b"application/json")]
        start = {"type": "websocket.http.response.start", "status": status, "headers": headers}
        try:
            await self._receive()
            await self._send(start)
            await self._send({"type": "websocket.http.response.body", "body": body})
            self._protocol.handshake_complete = True  # or uvicorn logs an error for each refusal
        except Exception as wrong:
            self._gone(wrong)  # the client has hung up

    async def send(self, message: bytes | str) -> None:
        key = "text" if isinstance(message, str) else "bytes"
        try:
            await self._send({"type": "websocket.send", key: message})
        except Exception as wrong:
            raise self._gone(wrong) from wrong

    async def recv(self) -> bytes | str:
        try:
            event = await self._receive()
        except Exception as wrong:
            raise self._gone(wrong) from wrong
        if event["type"] == "websocket.disconnect":
            raise self._lost(event.get("code"))
        message: bytes | str = event["text"] if event.get("text") is not None else event["bytes"]
        return message

    async def close(self, code: int, reason: str) -> None:
        closing = {"type": "websocket.close", "code": code, "reason": close_reason(reason)}
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):  # a peer that does not read blocks sends
                await self._send(closing)
        except TimeoutError:
            self.abort()
        except Exception as wrong:
            self._gone(wrong)  # already, which is what was asked for
        self._protocol.flush_then_drop(SILENT_FLUSH_S if code == SILENCE_CODE else FLUSH_LIMIT_S)

    def abort(self) -> None:
        """Drop the socket at once, without a close frame."""
        self._protocol.abort()

    def counters(self) -> dict[str, int] | None:
        return self._protocol.counters()

    def _gone(self, wrong: Exception) -> StreamLost:
        """The end of the stream, of which the library said `wrong`."""
        if isinstance(wrong, ClientDisconnected | RuntimeError):
            return self._lost()
        unexpected("a stream that was accepted", wrong)
        return self._protocol.lost or unforeseen_loss(wrong)

    def _lost(self, own_code: int | None = None) -> StreamLost:
        lost = self._protocol.lost
        return lost if lost is not None else StreamLost(StreamEnd.CLOSED, close_code=own_code)


def error_body(code: str, message: str) -> bytes:
    """The JSON of every refusal: `code` for programs, `message` one sentence for people."""
    return json.dumps({"error": {"code": code, "message": message}}).encode()


def bearer(scope: Any) -> str:
    """The bearer token of an upgrade; "" where there is none.

    A page in a browser cannot set a header on a WebSocket. It offers two subprotocols instead, `tether`
    and `tether-bearer.TOKEN`, and the first is accepted.
    """
    headers = dict(scope["headers"])
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return str(token).strip()
    offered = (str(word) for word in scope.get("subprotocols", ()))
    return next(
        (word.removeprefix(BEARER) for word in offered if word.startswith(BEARER)),
        "",
    )
