"""How a control link begins: token, upgrade, `Hello`.

Law: whoever is turned away gets one sentence, as an HTTP error before the upgrade; nothing that a peer
sends is believed before its token is. The number of handshakes that are under way is bounded, each has a
deadline, and a refusal is a log line, never a row: a failed dial is not a disconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tether.attribution.causes.codes import UNKNOWN
from tether.attribution.vocabulary import ConnectType, Party
from tether.log import get_logger
from tether.net.transport.http_server import PROXIED
from tether.net.transport.streams import StreamLost
from tether.net.transport.ws_server import ServerStream, bearer, error_body
from tether.protocol.messages.base import Garbage, Message
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE, PROTOCOL, decode, encode
from tether.protocol.messages.control import ROLE_HEADER, Goodbye, Hello
from tether.server.auth.accounts import Accounts
from tether.server.auth.ca import BadPublicKey, read_public_key
from tether.server.auth.throttle import FailureThrottle
from tether.server.control.slots import Holder, Slot, Slots
from tether.server.db.store import StoreUnavailable
from tether.server.identity import Identity, TokenRejected
from tether.server.metrics import Metrics
from tether.server.settings import TrustedProxies
from tether.server.web.cookies import SessionCookie, from_our_pages
from tether.version import VERSION

MAX_PENDING = {Holder.ALL: 1024, Holder.ADDRESS: 512, Holder.USER: 256, Holder.TOKEN: 64}
"""Handshakes that are under way. A whole fleet may come back from behind one address at once."""

MAX_LINKS = {Holder.TOKEN: 256, Holder.USER: 4096}
"""Control links that are up: a person's programs, or the agents of a person's workspaces."""

TURNED_AWAY_S = 300.0
"""When a peer may try again that came with the wrong token, or speaks another protocol."""

MAX_ID = 64
MAX_HOSTNAME = 255
MAX_OPEN_CONNECTIONS = 20_000

_log = get_logger("control")


CONNECT_TYPES = {
    Party.AGENT: ConnectType.SERVER_TO_AGENT,
    Party.CLIENT: ConnectType.CLIENT_TO_SERVER,
}
"""Who is at the other end of a control link -> the type of its row. Links of relays have no rows."""

PARTIES = {"agent": Party.AGENT, "relay": Party.RELAY, "user": Party.CLIENT}
"""Kind of a token -> who dials with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A control link whose peer is known. `violation` is set where its first message is no `Hello`
    that we can talk to; `hello` is then empty."""

    stream: ServerStream
    identity: Identity
    client_ip: str
    client_port: int
    """0 where a proxy that we trust hides it."""
    host: str
    """The host and port by which the peer reached us, "" where it did not say."""
    hello: Hello
    token: str = field(repr=False)
    violation: str = ""
    proxied: bool = False
    """Whether its request names a proxy: then a FIN may be the proxy's."""
    of_page: bool = False
    """Whether it is a page in a signed-in browser, which can dial this server's own origin only."""
    outdated: str = ""
    """Of an agent that speaks another protocol: the sentence for its operator. `hello` has what could
    be read."""

    @property
    def party(self) -> Party:
        return PARTIES[self.identity.kind]


class Handshakes:
    """Takes WebSocket upgrades to `Opening`s."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        cookie: SessionCookie,
        metrics: Metrics,
        throttle: FailureThrottle,
        proxies: TrustedProxies,
        hello_s: float,
    ) -> None:
        self._accounts = accounts
        self._cookie = cookie
        self._metrics = metrics
        self._throttle = throttle
        self._proxies = proxies
        self._hello_s = hello_s
        self._pending = Slots(MAX_PENDING)  # handshakes that are under way
        self._links = Slots(MAX_LINKS)
        self._closed = False  # the server is stopping

    def close(self) -> None:
        """Take no more; the server is stopping."""
        self._closed = True

    async def open(self, scope: Any, receive: Any, send: Any) -> Opening | None:
        """Let a peer in, or turn it away and return None."""
        stream, client_ip = ServerStream(scope, receive, send), self.client_ip(scope)
        proxied = PROXIED in scope.get("extensions", {})
        if proxied or self._proxies.trusts((scope.get("client") or ("",))[0]):
            stream.comes_through_a_proxy()
        if self._closed:
            await self.refuse(stream, client_ip, 503, *STOPPING)
            return None
        pending: list[Slot] = [(Holder.ALL, ""), (Holder.ADDRESS, client_ip)]
        if (full := self._pending.take(*pending)) is not None:
            await self.refuse(stream, client_ip, 503, *_busy(full))
            return None
        token = bearer(scope) or self._of_browser(scope)
        try:
            identity = await self._authenticate(stream, token, client_ip)
            if identity is None or not await self._has_room(stream, identity, client_ip, pending):
                return None
            if wrong := _wrong_token(identity, header(scope, ROLE_HEADER.lower().encode())):
                await self.refuse(stream, client_ip, 403, "wrong_token", wrong)
                return None
            await stream.accept()
            async with asyncio.timeout(self._hello_s):
                raw = await stream.recv()
        except TimeoutError:
            self._refused("hello_timeout", client_ip)
            await stream.close(1008, "no hello came in time")
            return None
        except StreamLost as lost:
            self._refused("hello_missing", client_ip, how=str(lost))
            return None
        finally:
            self._pending.give_back(*pending)
        outdated = violation = ""
        try:
            hello = _hello(raw)
            if wrong := _wrong_token(identity, hello.role):
                await self._leave(stream, client_ip, "wrong_token", wrong)
                return None
            outdated = _another_protocol(hello)
            if outdated and identity.kind != "agent":
                await self._leave(stream, client_ip, "another_protocol", outdated)
                return None
        except Garbage as garbage:
            hello, violation = _NO_HELLO, str(garbage)
        return Opening(
            stream=stream,
            identity=identity,
            client_ip=client_ip,
            client_port=self._client(scope)[1],
            host=header(scope, b"host"),
            hello=hello,
            token=token,
            violation=violation,
            proxied=PROXIED in scope.get("extensions", {})
            or any(header(scope, name) for name in PROXY_HEADERS),
            of_page=not bearer(scope),
            outdated=outdated,
        )

    async def _has_room(
        self, stream: ServerStream, identity: Identity, client_ip: str, pending: list[Slot]
    ) -> bool:
        """Whether there are slots for one more of this token and user; else it is turned away. What it
        takes is added to `pending`."""
        own = slots_of(identity)
        if (full := self._pending.take(*own)) is not None:
            await self.refuse(stream, client_ip, 503, *_busy(full))
            return False
        pending += own
        if (full := self._links_full(own)) is not None:
            await self.refuse(stream, client_ip, 503, *_too_many_links(full))
            return False
        return True

    @contextlib.contextmanager
    def holding_link(self, opening: Opening) -> Iterator[None]:
        """Its link is up meanwhile, and counts."""
        slots = slots_of(opening.identity)
        self._links.count(*slots)
        try:
            yield
        finally:
            self._links.give_back(*slots)

    def _links_full(self, slots: list[Slot]) -> Holder | None:
        full = self._links.take(*slots)
        if full is None:
            self._links.give_back(*slots)  # it is counted once it is up
        return full

    def _of_browser(self, scope: Any) -> str:
        """A signed-in browser's secret; of pages of another site, none."""
        return self._cookie.read(scope) if from_our_pages(scope) else ""

    async def still_refused(self, opening: Opening) -> str:
        """What speaks against the token now; "" for nothing.

        To be asked once more when the link is known to the hub: what is withdrawn from then on, the
        hub ends; what was withdrawn before, between token and welcome, is seen here.

        Raises:
            StoreUnavailable: the database cannot be read now.
        """
        found = await self._accounts.authenticate(opening.token)
        return found.code if isinstance(found, TokenRejected) else ""

    def client_ip(self, scope: Any) -> str:
        """The address of who is at the other end, through the proxies that we trust."""
        return self._client(scope)[0]

    def _client(self, scope: Any) -> tuple[str, int]:
        peer = scope.get("client")
        return self._proxies.client(
            (str(peer[0]), int(peer[1])) if peer else ("", 0),
            _joined(scope, b"x-forwarded-for"),
            _joined(scope, b"forwarded"),
        )

    async def refuse(
        self, stream: ServerStream, client_ip: str, status: int, code: str, message: str
    ) -> None:
        """Turn a WebSocket upgrade away."""
        self._refused(code, client_ip)
        await stream.refuse(status, error_body(code, message))

    async def _leave(self, stream: ServerStream, client_ip: str, code: str, message: str) -> None:
        """Turn away a peer that did not say at the door what it is: as there, without a row."""
        self._refused(code, client_ip)
        goodbye = Goodbye(cause=UNKNOWN, detail=message, retry_after_s=TURNED_AWAY_S)
        with contextlib.suppress(StreamLost):
            await stream.send(encode(goodbye))
        await stream.close(1008, "turned away")

    async def _authenticate(
        self, stream: ServerStream, token: str, client_ip: str
    ) -> Identity | None:
        try:
            found = await self._accounts.authenticate(token)
        except StoreUnavailable as wrong:
            await self.refuse(stream, client_ip, 503, "database_unavailable", str(wrong))
            return None
        if not isinstance(found, TokenRejected):
            return found
        if wait_s := self._throttle.failed(client_ip):
            message = f"too many refused tokens from this address: wait {wait_s} s"
            await self.refuse(stream, client_ip, 429, "too_many_failures", message)
        else:
            await self.refuse(stream, client_ip, 401, found.code, found.message)
        return None

    def _refused(self, code: str, client_ip: str, **more: Any) -> None:
        self._metrics.refused(code)
        _log.info("handshake refused", code=code, client_ip=client_ip, **more)


def _joined(scope: Any, name: bytes) -> str:
    """Every header of this name, as one list."""
    values = (value.decode("latin-1") for key, value in scope["headers"] if key == name)
    return ",".join(values)


PROXY_HEADERS = (b"x-forwarded-for", b"forwarded", b"via")
"""What proxies add to requests, whether they are trusted or not."""

STOPPING = ("server_stopping", "the server is stopping: try again in a moment")


def slots_of(identity: Identity) -> list[Slot]:
    """The slots that a link of `identity` takes."""
    return [(Holder.TOKEN, identity.token_id), (Holder.USER, identity.user)]


def _busy(full: Holder) -> tuple[str, str]:
    """The code and the sentence for whom there is no slot."""
    if full is Holder.ALL:
        return "server_busy", "the server is busy with other connections: try again in a moment"
    return (
        "too_many_handshakes",
        f"{MAX_PENDING[full]} connections of {full} have not said hello yet: try again in a moment",
    )


def _too_many_links(full: Holder) -> tuple[str, str]:
    return (
        "too_many_links",
        f"{MAX_LINKS[full]} control links of {full} are open: close some of them",
    )


_NO_HELLO = Hello(protocol=PROTOCOL, role="", version="", instance_id="")


def header(scope: Any, name: bytes) -> str:
    """The first header of this name, "" where there is none."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if values else ""


def unpack_control(raw: bytes | memoryview) -> Message:
    """A control message out of one frame.

    Raises:
        Garbage: it is none, or too large.
    """
    if len(raw) > MAX_CONTROL_MESSAGE:
        raise Garbage(f"a control message of {len(raw)} bytes")
    return decode(raw)


def _hello(raw: bytes | str) -> Hello:
    if isinstance(raw, str):
        raise Garbage("a text message")
    hello = unpack_control(raw)
    if not isinstance(hello, Hello):
        raise Garbage("the first message is no hello")
    ids = (hello.version, hello.instance_id, hello.boot_id, hello.journal_id)
    if not hello.instance_id or any(len(one) > MAX_ID for one in ids):
        raise Garbage("a hello with ids that are none")
    if len(hello.hostname) > MAX_HOSTNAME or not hello.hostname.isprintable():
        raise Garbage("a hello with a host name that is none")
    named = max(len(hello.open_connections), len(hello.serving))
    if named > MAX_OPEN_CONNECTIONS:
        raise Garbage(f"a hello with {named} connections")
    if hello.ssh_host_key:
        try:
            read_public_key(hello.ssh_host_key)
        except BadPublicKey as wrong:
            raise Garbage(f"a hello with a bad SSH host key: {wrong}") from wrong
    return hello


_HOLDERS = {"agent": "a workspace's agent", "relay": "a relay", "user": "a user"}
_SOURCES = {
    "agent": "an agent needs its workspace's (`tether workspace token NAME`)",
    "relay": "a relay needs one of its own (`tether token create NAME --relay`)",
    "client": "people log in with `tether login`",
}
"""Who dials -> which token it needs, and where that comes from."""


def _wrong_token(identity: Identity, role: str) -> str:
    """What speaks against a token in the hands of `role`, with what to do; "" for nothing, and where
    the role was not said."""
    if role in ("", str(PARTIES[identity.kind])):
        return ""
    needs = _SOURCES.get(role, f"nothing dials here as {role!r:.40}")
    return f"this is the token of {_HOLDERS[identity.kind]}: {needs}"


def _another_protocol(hello: Hello) -> str:
    """What keeps us from talking to a peer of another major version; "" for nothing."""
    theirs, ours = hello.protocol[0], PROTOCOL[0]
    if theirs == ours:
        return ""
    older = f"this {hello.role}" if theirs < ours else "this server"
    said = f" (version {hello.version})" if hello.version.isprintable() and hello.version else ""
    return (
        f"this {hello.role}{said} speaks protocol {theirs} and this server (version {VERSION}) {ours}:"
        f" update {older} to the version of the other"
    )
