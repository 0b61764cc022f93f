"""The listening side: uvicorn without signal handlers, and with a limit for requests that arrive slowly.

Law: leans on internals of uvicorn 0.54 (pinned below 0.55;
`tests/integration/server/test_run_server.py` is the contract). Signals belong to `net.signals`. A
connection whose request is not complete in time is dropped, so that slow clients do not use up the
connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tether.net.transport.crowd import Crowd
from tether.net.transport.ws_server import CauseProtocol
from tether.net.unexpected import unexpected
from tether.protocol.messages.base import Garbage
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE, MAX_TUNNEL_FRAME
from tether.protocol.proxy_header import may_begin, read_proxy_header

REQUEST_S = 20.0
"""How long a request may take to arrive, from its first byte to its last."""

HSTS = ("Strict-Transport-Security", "max-age=31536000")
"""A year (RFC 6797, as preload lists ask for); other hosts of the domain are not ours to bind."""

GRACE_S = 1
"""How long a stopping server waits for what it still serves."""


PROXIED = "tether.proxied"
"""In a scope's extensions where a PROXY header said who the client is."""


def nobody(address: str) -> bool:
    """Trust no proxy."""
    return False


class PatientH11(H11Protocol):
    """Drops a connection whose request takes too long to arrive. A trusted proxy may say first who its
    client is."""

    trusts: Callable[[str], bool] = staticmethod(nobody)
    """Whether the proxy at an address is believed."""
    crowd: Crowd = Crowd()
    """The connections of this listener."""
    full = False
    """There were too many when it came: it hears of the process's health, and of nothing else."""
    head: bytes | None = None
    """What has come while it may be a PROXY header; None once that is known."""
    proxied = False
    request_timer: asyncio.TimerHandle | None = None
    """Runs while a request arrives."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.crowd.is_full(len(self.connections)):
            self.full = True
            self.app = _only_health(self.app)
        if self.client and self.trusts(self.client[0]):
            self.head = b""
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self.head is not None:
            data = self._without_proxy_header(self.head + data)
            if not data:  # h11 would take it for the end of the stream
                return
        super().data_received(data)
        # A request that became a WebSocket is read by another protocol, so that h11 never sees its end.
        upgraded = self.transport.get_protocol() is not self
        if upgraded or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._disarm()
        elif self.request_timer is None:
            self._arm()

    def handle_websocket_upgrade(self, event: Any) -> None:
        if self.full:
            self.transport.write(FULL_ANSWER)
            self.transport.close()
            return
        super().handle_websocket_upgrade(event)
        upgraded: Any = self.transport.get_protocol()
        if self.proxied and hasattr(upgraded, "scope"):  # which is not served before the next turn
            upgraded.scope["client"] = self.client
            upgraded.scope["extensions"][PROXIED] = {}

    def _without_proxy_header(self, data: bytes) -> bytes:
        """What follows a PROXY header in `data`; `head` stays where more of it is to come."""
        self.head = data
        if may_begin(data):
            try:
                header = read_proxy_header(data)
            except Garbage:
                self.transport.abort()
                return b""
            if header is None:
                return b""
            self.proxied = header.client is not None
            self.client = header.client or self.client
            data = data[header.size :]
        self.head = None
        return data

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self.request_timer = self.loop.call_later(REQUEST_S, self._too_slow)
        peer = self.transport.get_extra_info("peername") or ("",)
        self.crowd.waits(self, str(peer[0]))

    def give_way(self) -> None:
        """A newer connection needs the room (`Crowd`)."""
        self.transport.abort()

    def _disarm(self) -> None:
        self.crowd.speaks(self)
        if self.request_timer is not None:
            self.request_timer.cancel()
            self.request_timer = None

    def _too_slow(self) -> None:
        self.transport.abort()


class HttpServer(uvicorn.Server):
    """Serves an ASGI application on sockets that are bound already."""

    def __init__(
        self,
        app: Any,
        *,
        grace_s: int = GRACE_S,
        trusts: Callable[[str], bool] = nobody,
        tls: ssl.SSLContext | None = None,
        only_by_tls: bool = False,
        crowd: Crowd | None = None,
    ) -> None:
        """
        Args:
            app: the ASGI application.
            grace_s: seconds that a stopping server waits for what it still serves.
            trusts: whether the proxy at an address is believed.
            tls: speaks TLS with this context; None: HTTP.
            crowd: how many connections it may have; None: no more than may be silent.
            only_by_tls: tell browsers to come by TLS only from now on, here or before a proxy.
        """
        config = uvicorn.Config(
            _counted(app),
            http=type(
                "OurH11",
                (PatientH11,),
                {"trusts": staticmethod(trusts), "crowd": crowd or Crowd()},
            ),
            ws=CauseProtocol,
            ws_max_size=max(MAX_CONTROL_MESSAGE, MAX_TUNNEL_FRAME),
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a setting of ours says whose X-Forwarded-For is believed
            timeout_graceful_shutdown=grace_s,
            headers=[HSTS] if only_by_tls else [],
            ssl_context_factory=None if tls is None else lambda config, default: tls,
        )
        super().__init__(config)
        self._up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def wait_started(self) -> None:
        """Wait until connections are accepted."""
        await self._up.wait()


FULL = json.dumps(
    {
        "error": {
            "code": "server_full",
            "message": "this server has as many connections as it can serve: try again in a moment",
        }
    }
).encode()
FULL_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(FULL), FULL)
)
HEALTH = ("/healthz", "/readyz", "/metrics")


def _only_health(app: Any) -> Any:
    """`app`, as far as those see it for whom there is no room."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] in HEALTH:
            await app(scope, receive, send)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(FULL)).encode()),
            (b"retry-after", b"5"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": FULL})

    return serve


def _counted(app: Any) -> Any:
    """`app`, whose exceptions are counted before uvicorn ends the request or WebSocket by them."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Exception as wrong:
            unexpected("a request", wrong)
            raise

    return serve


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to this address, ready to listen.

    Raises:
        OSError: the address cannot be bound.
    """
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
