"""What a page in a browser does to show a terminal: no SSH, no header, a token as a subprotocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack
from tests.support.net.page_channel import ClientChannel
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import ConnectionMethod, Party, Purpose
from tether.net.clock import SystemClock
from tether.net.e2e_channel import public_line
from tether.net.transport.ws_client import ClientStream, _Connection
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import AttachedCarrier, TunnelStream
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE, PROTOCOL, decode, encode
from tether.protocol.messages.control import Hello
from tether.protocol.messages.derp import Paired, decode_word
from tether.protocol.messages.tunnel import TunnelDenied, TunnelGrant, TunnelRequest
from tether.protocol.terminal.messages import FrameReader, Init, TerminalMessage, frame
from tether.protocol.tunnel.events import CarrierUp, PathEvent
from tether.protocol.tunnel.join import TunnelKey

T = TypeVar("T")


async def open_socket(url: str, token: str) -> ClientStream:
    """A WebSocket as a browser opens it."""
    connection = await connect(
        url,
        create_connection=_Connection,
        subprotocols=[Subprotocol("tether"), Subprotocol(f"tether-bearer.{token}")],
        compression=None,
        max_size=MAX_CONTROL_MESSAGE,
    )
    assert connection.subprotocol == "tether"
    assert isinstance(connection, _Connection)
    return ClientStream(connection)


class Page:
    """One page with one terminal."""

    def __init__(self, grant: TunnelGrant, key: X25519PrivateKey, host_key: Any) -> None:
        self.connection_id = grant.connection_id
        clock = SystemClock()
        self._channel = ClientChannel(grant.connection_id, key, host_key)
        self._frames = FrameReader()
        self.shown = b""
        self.messages: list[TerminalMessage] = []
        self._changed = asyncio.Event()
        self.running: asyncio.Task[CloseCell] | None = None
        self.stream = TunnelStream(
            me=Party.CLIENT,
            connection_id=grant.connection_id,
            key=TunnelKey.read(grant.tunnel_key),
            clock=clock,
        )
        self.stream.listen(self._happened)
        self.tunnel = TunnelEndpoint(
            self.stream,
            me=Party.CLIENT,
            peer=Party.AGENT,
            clock=clock,
            version="page",
            on_data=self._received,
            on_message=lambda message: None,
        )

    def begin(self, init: Init) -> None:
        """Greet; the first line follows when the agent has proved itself."""
        self._init = json.dumps(["init", {"rows": init.rows, "cols": init.cols, "id": init.id}])
        self.tunnel.write(self._channel.greeting())

    def say(self, item: TerminalMessage | bytes) -> None:
        self.tunnel.write(self._channel.seal(frame(item)))

    async def until(self, check: Callable[[], T | None], seconds: float = DEADLINE_S) -> T:
        """The first truthy answer of `check`."""
        async with asyncio.timeout(seconds):
            while not (answer := check()):
                self._changed.clear()
                await self._changed.wait()
        return answer

    def heard(self, kind: type[T]) -> T | None:
        return next((one for one in self.messages if isinstance(one, kind)), None)

    def _happened(self, event: PathEvent) -> None:
        if isinstance(event, CarrierUp):
            asyncio.get_running_loop().call_soon(self.stream.use, event.carrier)

    def _received(self, data: memoryview) -> None:
        was_open = self._channel.open
        plain, _ = self._channel.receive(data)
        if self._channel.open and not was_open:
            self.tunnel.write(self._channel.seal(self._init.encode() + b"\n"))
        for item in self._frames.feed(plain):
            if isinstance(item, bytes):
                self.shown += item
            else:
                self.messages.append(item)
        self._changed.set()


@contextlib.asynccontextmanager
async def page(stack: Stack, init: Init, *, announce: str = "") -> AsyncIterator[Page]:
    """A page on the stack's workspace. `announce` is another key than the page has."""
    token = json.loads((Path(stack.env["TETHER_CONFIG_DIR"]) / "config.json").read_text())["token"]
    key = X25519PrivateKey.generate()
    control = await open_socket(stack.url.replace("http", "ws") + "/api/v1/control", token)
    try:
        hello = Hello(protocol=PROTOCOL, role="client", version="page", instance_id="page")
        await control.send(encode(hello))
        request = TunnelRequest(
            request_id=1,
            workspace=stack.workspace,
            public_key=announce or public_line(key.public_key()),
            purpose=Purpose.TERMINAL,
        )
        await control.send(encode(request))
        grant = await _granted(control)
        relay = await open_socket(grant.relay_url, grant.ticket)
        said = await relay.recv()
        assert isinstance(said, str)
        assert isinstance(decode_word(said), Paired)
        host_key = asyncssh.import_public_key(grant.host_key).pyca_key
        shown = Page(grant, key, host_key)
        shown.stream.add(
            AttachedCarrier(
                number=1, method=ConnectionMethod.DERP, where="", stream=relay, peer=Party.RELAY
            )
        )
        running = shown.running = asyncio.create_task(shown.tunnel.run())
        shown.begin(init)
        try:
            yield shown
        finally:
            shown.tunnel.leave("client.closed")
            await running
    finally:
        await control.close(1000, "")


async def _granted(control: ClientStream) -> TunnelGrant:
    while True:
        raw = await control.recv()
        assert isinstance(raw, bytes)
        match decode(raw):
            case TunnelGrant() as grant:
                return grant
            case TunnelDenied(message=message):
                raise PermissionError(message)
            case _:
                pass
