"""Dials WebSockets for control links and carriers, through proxies, and keeps how they really ended.

Law: the only user of the `websockets` client. Keeps TCP_INFO from the moment of loss, because the
library forgets the socket. Every failed dial becomes one sentence that says what to do.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    PayloadTooBig,
    ProtocolError,
    ProxyError,
)
from websockets.proxy import parse_proxy

from tether.attribution.vocabulary import DialStage, Reach, StreamEnd
from tether.config import ConfigError
from tether.net.transport.answers import NO_UPGRADE, foreign_answer
from tether.net.transport.proxies import NamedProxy, ProxyUnsupported, named_proxy
from tether.net.transport.streams import (
    DialFailed,
    MessageStream,
    StreamLost,
    close_reason,
    translate,
    unforeseen_failure,
    unforeseen_loss,
)
from tether.net.transport.tcp import (
    connect_tcp,
    family_of,
    plain_address,
    read_tcp_info,
    set_keepalive,
)
from tether.net.transport.trust import client_context
from tether.net.unexpected import unexpected

DIAL_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0


class _Connection(ClientConnection):
    """Keeps the kernel's counters and error from the moment at which the socket is lost."""

    last_counters: dict[str, int] | None = None
    last_error: BaseException | None = None
    close_timer: asyncio.TimerHandle | None = None
    """Drops a peer that has said goodbye and does not hang up."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        set_keepalive(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.close_timer is None and self.protocol.close_expected():
            # The library waits for ever until a peer that sent a close frame or garbage hangs up.
            self.close_timer = self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.last_counters = read_tcp_info(self.transport.get_extra_info("socket"))
        self.last_error = exc
        super().connection_lost(exc)


class _Connect(connect):
    """Dials by whichever address answers first, also wherever it is redirected to."""

    small_segments = False
    """See `connect_tcp`."""

    async def open_tcp_connection(self) -> ClientConnection:
        uri, more = self.ws_uri, self.create_connection_kwargs
        if uri.secure:
            more["ssl"] = client_context()
        if self.proxy is None:
            more["sock"] = await connect_tcp(uri.host, uri.port, small_segments=self.small_segments)
        else:  # the library connects by itself, and takes a family only
            proxy = parse_proxy(str(self.proxy))
            if proxy.scheme in ("http", "https"):
                more["proxy_family"] = await family_of(proxy.host, proxy.port)
        try:
            return await super().open_tcp_connection()
        finally:
            more.pop("sock", None)  # the library follows no redirect with a socket


class ClientStream(MessageStream):
    """A WebSocket that we dialled."""

    def __init__(self, connection: _Connection, proxy: str = "") -> None:
        """`proxy` is what the connection leads through, "" for nothing that we know of."""
        self._ws = connection
        if proxy:
            self.reach, self.proxy = Reach.PROXIED, proxy
        self.local_address = plain_address(connection.transport.get_extra_info("sockname"))

    async def send(self, message: bytes | str) -> None:
        try:
            await self._ws.send(message)
        except ConnectionClosed as closed:
            raise self._lost(closed) from closed
        except Exception as wrong:
            raise self._unforeseen(wrong) from wrong

    async def recv(self) -> bytes | str:
        try:
            return await self._ws.recv()
        except ConnectionClosed as closed:
            raise self._lost(closed) from closed
        except Exception as wrong:
            raise self._unforeseen(wrong) from wrong

    async def close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):  # a peer that does not read
                await self._ws.close(code, close_reason(reason))
        except TimeoutError:
            self._ws.transport.abort()
        except ConnectionClosed:
            pass  # it is gone already, which is what was asked for
        except Exception as wrong:
            unexpected("the close of a stream", wrong)
            self._ws.transport.abort()

    def counters(self) -> dict[str, int] | None:
        if self._ws.last_counters is not None:
            return self._ws.last_counters
        return read_tcp_info(self._ws.transport.get_extra_info("socket"))

    def _unforeseen(self, wrong: Exception) -> StreamLost:
        unexpected("a stream that was dialled", wrong)
        return unforeseen_loss(wrong)

    def _lost(self, closed: ConnectionClosed) -> StreamLost:
        counters = self._ws.last_counters
        if closed.rcvd is not None:
            return StreamLost(
                StreamEnd.CLOSED,
                close_code=closed.rcvd.code,
                close_reason=closed.rcvd.reason,
                counters=counters,
            )
        wrong = self._ws.protocol.parser_exc
        if isinstance(wrong, (ProtocolError, PayloadTooBig, UnicodeDecodeError)):
            return StreamLost(StreamEnd.OTHER, violation=str(wrong)[:200], counters=counters)
        if closed.sent is not None and self._ws.last_error is None:
            return StreamLost(StreamEnd.CLOSED, close_code=closed.sent.code, counters=counters)
        how, name = translate(self._ws.last_error)
        return StreamLost(how, errno_name=name, counters=counters)


async def dial(
    url: str,
    *,
    token: str,
    headers: Mapping[str, str] | None = None,
    max_size: int,
    timeout: float = DIAL_TIMEOUT_S,
    small_segments: bool = False,
) -> ClientStream:
    """Open a WebSocket to `url` (ws or wss), through the environment's proxies.

    Args:
        url: where to.
        token: bearer token or relay ticket, sent in the Authorization header.
        headers: more request headers.
        max_size: largest message to accept, in bytes.
        timeout: seconds until the attempt is given up.
        small_segments: see `connect_tcp`; without effect through a proxy, where our TCP ends.

    Raises:
        DialFailed: no connection came up; the text says why and what to do.
    """
    host, proxy = "the address", None
    try:
        host = urlsplit(url).netloc
        proxy = proxy_of(url)
        opening = _Connect(
            url,
            proxy=None if proxy is None else proxy.url,
            create_connection=_Connection,
            additional_headers={"Authorization": f"Bearer {token}", **(headers or {})},
            user_agent_header="tether",
            compression=None,
            ping_interval=None,
            open_timeout=timeout,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=max_size,
            max_queue=4,
        )
        opening.small_segments = small_segments
        connection = await opening
    except Exception as wrong:
        if isinstance(wrong, InvalidURI) and wrong.uri != url:  # where we were redirected to
            sentence = foreign_answer(host, 302, b"", location=_base_of(wrong.uri))
            raise DialFailed(sentence, fatal=True, stage=DialStage.HTTP) from wrong
        if proxy is not None and (failed := proxy_failed(wrong, host, proxy)):
            raise failed from wrong
        raise dial_failed(wrong, host) from wrong
    assert isinstance(connection, _Connection), "create_connection decides the type"
    return ClientStream(connection, "" if proxy is None else parse_proxy(proxy.url).host)


def proxy_of(url: str) -> NamedProxy | None:
    """The proxy that the environment names for `url`.

    Raises:
        DialFailed: the environment names something that is no proxy, or none that we can go through.
    """
    try:
        named = named_proxy(url)
    except ProxyUnsupported as wrong:
        raise DialFailed(str(wrong), fatal=True, stage=DialStage.PROXY) from wrong
    if named is not None:
        try:
            parse_proxy(named.url)
        except InvalidProxy as wrong:  # its text holds the credentials
            raise DialFailed(
                f"the proxy that {named.variable} names is not valid: {wrong.msg}", fatal=True
            ) from None
    return named


def proxy_failed(wrong: Exception, host: str, named: NamedProxy) -> DialFailed | None:
    """The failed dial where the proxy, or the connection to it, failed; else None."""
    proxy, variable = parse_proxy(named.url), named.variable
    name = f"the proxy {proxy.host}:{proxy.port}"
    match wrong:
        case InvalidProxyStatus() if wrong.response.status_code == 407 and proxy.username:
            return DialFailed(
                f"{name} did not accept the user name and password in {variable}",
                status=407,
                fatal=True,
                stage=DialStage.PROXY,
            )
        case InvalidProxyStatus() if wrong.response.status_code == 407:
            return DialFailed(
                f"{name} wants a user name and password: write them into {variable}, as"
                " http://USER:PASSWORD@HOST:PORT",
                status=407,
                fatal=True,
                stage=DialStage.PROXY,
            )
        case InvalidProxyStatus():
            status = wrong.response.status_code
            return DialFailed(
                f"{name} refused to connect to {host} (HTTP status {status})",
                status=status,
                stage=DialStage.PROXY,
            )
        case ProxyError():
            return DialFailed(f"{name} does not answer as a proxy: {wrong}", stage=DialStage.PROXY)
        case socket.gaierror():
            return DialFailed(
                f"the name of {name} could not be resolved: is {variable} right?",
                stage=DialStage.DNS,
            )
        case ConnectionRefusedError():
            return DialFailed(
                f"nothing listens at {name}: is {variable} right?", stage=DialStage.PROXY
            )
        case TimeoutError():
            return DialFailed(f"{host} did not answer in time through {name}")
        case ssl.SSLError() | InvalidHandshake():
            return None
        case OSError():
            how, errno_name = translate(wrong)
            return DialFailed(f"{name} could not be reached: {errno_name or how}")
        case _:
            return None


def dial_failed(wrong: Exception, host: str) -> DialFailed:
    """What was raised while dialling, as a failed dial; also what no row of this table foresees."""
    match wrong:
        case InvalidStatus():
            return _refused(wrong, host)
        case ConfigError():
            return DialFailed(str(wrong), fatal=True, stage=DialStage.TLS)
        case InvalidURI():
            return DialFailed(f"{host or 'the address'} is not a valid URL", fatal=True)
        case DialFailed():
            return wrong
        case ssl.SSLCertVerificationError():
            return DialFailed(
                f"the TLS certificate of {host} was not accepted: {wrong.verify_message}",
                fatal=True,
                stage=DialStage.TLS,
            )
        case ssl.SSLError():
            why = getattr(wrong, "reason", "") or wrong
            return DialFailed(f"TLS with {host} failed: {why}", stage=DialStage.TLS)
        case InvalidHandshake() | EOFError():
            return DialFailed(f"{host} does not answer as a Tether server", stage=DialStage.HTTP)
        case ConnectionClosed():
            return DialFailed(
                f"{host} took the connection and hung up before it answered", stage=DialStage.HTTP
            )
        case socket.gaierror():
            return DialFailed(f"the name {host} could not be resolved", stage=DialStage.DNS)
        case ConnectionRefusedError():
            return DialFailed(f"nothing listens at {host}: is the server running?")
        case TimeoutError() if wrong.errno is None:
            return DialFailed(f"{host} did not answer in time")
        case OSError():
            how, name = translate(wrong)
            return DialFailed(f"{host} could not be reached: {name or how}")
        case _:
            return unforeseen_failure(wrong, host)


def _base_of(url: str) -> str:
    """The server's URL in one that a WebSocket was redirected to."""
    return url.partition("/api/v1/control")[0]


def _refused(wrong: InvalidStatus, host: str) -> DialFailed:
    status = wrong.response.status_code
    headers, raw = wrong.response.headers, bytes(wrong.response.body or b"")
    try:
        body = json.loads(raw)
        cause, message = str(body["error"]["code"]), str(body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        cause, message = "", foreign_answer(host, status, raw, headers.get("Location", ""))
    if cause == "not_found":  # a server of ours, that saw no WebSocket
        cause, message = "", NO_UPGRADE.format(host=host)
    stage = DialStage.AUTH if status in (401, 403) and cause else DialStage.HTTP
    return DialFailed(message, status=status, cause=cause, fatal=400 <= status < 500, stage=stage)
