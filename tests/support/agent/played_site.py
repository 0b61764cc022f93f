"""A played server on a real port, and real agent processes against it.

One listener plays both the control plane and the relay: what dials `/derp` is joined at once with a
client that the test holds in its hand. Agents are `tether.run.agent.main` in processes of their own,
stopped by pid. Nothing here sleeps: waiting is for a log line, a message, or an exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.support.agent.played_server import PlayedServer
from tests.support.deadline import DEADLINE_S
from tests.support.forked import Forked, pipe
from tests.support.net.tunnels import KEY_TEXT, client_over
from tether.agent import supervisor
from tether.attribution.vocabulary import Party, StreamEnd
from tether.net.clock import SystemClock
from tether.net.tasks import Tasks
from tether.net.transport.streams import MessageStream, StreamLost
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.protocol.messages.base import Message
from tether.protocol.messages.derp import Paired, RelayGoodbye, encode_word
from tether.protocol.messages.reports import Opened, Report, ReportItem
from tether.protocol.messages.tunnel import RESUME_S, TunnelOffer
from tether.protocol.tunnel.resume_policy import Waits
from tether.run.agent import AgentSettings, main

SHORT = Waits(vanished_s=0.3, policy_s=0.3)


def program(settings: AgentSettings, flush_s: float) -> int:
    """An agent that gives its last reports `flush_s` seconds."""
    supervisor.FLUSH_S = flush_s
    return main(settings)


def by_parent(settings: AgentSettings, flush_s: float) -> int:
    """A process that starts an agent as `tether up` does."""
    arguments = ["agent", "--server", settings.server_url, "--token-file", str(settings.token_file)]
    arguments += ["--data-dir", str(settings.data_dir), "--log-format", "json"]
    environment = {**os.environ, "TETHER_PARENT_PID": str(os.getpid())}
    return subprocess.run([sys.executable, "-m", "tether", *arguments], env=environment).returncode


class WsEnd(MessageStream):
    """A `MessageStream` over an accepted connection of `websockets`."""

    def __init__(self, ws: ServerConnection) -> None:
        self._ws = ws

    async def send(self, message: bytes | str) -> None:
        try:
            await self._ws.send(message)
        except ConnectionClosed as closed:
            raise StreamLost(StreamEnd.EOF) from closed

    async def recv(self) -> bytes | str:
        try:
            return await self._ws.recv()
        except ConnectionClosed as closed:
            raise StreamLost(StreamEnd.EOF) from closed

    async def close(self, code: int, reason: str) -> None:
        await self._ws.close(code, reason)

    def abort(self) -> None:
        self._ws.transport.abort()

    def counters(self) -> dict[str, int] | None:
        return None


@dataclass
class PlayedClient:
    """The client's end of one tunnel."""

    tunnel: TunnelEndpoint
    received: bytearray = field(default_factory=bytearray)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        await self.tunnel.run()
        self.over.set()


class Agent:
    """One agent process."""

    def __init__(self, process: Forked, stderr: Connection) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._more = asyncio.Event()
        self._closed = False
        self._reading = asyncio.get_running_loop().create_task(self._read(stderr))

    async def _read(self, stderr: Connection) -> None:
        reader, loop = asyncio.StreamReader(), asyncio.get_running_loop()
        with os.fdopen(os.dup(stderr.fileno()), "rb") as file:
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
            await self._lines(reader)

    async def _lines(self, reader: asyncio.StreamReader) -> None:
        async for raw in reader:
            text = raw.decode().rstrip("\n")
            try:
                self.lines.append(json.loads(text))
            except ValueError:
                self.text.append(text)
            self._more.set()
        self._closed = True
        self._more.set()

    async def event(self, name: str, count: int = 1) -> dict[str, Any]:
        """The n-th log line with this event."""
        while len(found := self.events(name)) < count:
            assert not self._closed, (f"the agent ended without {name!r}", self.lines, self.text)
            self._more.clear()
            await self._more.wait()
        return found[count - 1]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == name]

    def kill(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        await self._reading
        return await asyncio.to_thread(self.process.wait, DEADLINE_S)


class Site:
    """See the module's text."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = SystemClock()
        self.server = PlayedServer(self.clock)
        self.server.acknowledging = True
        self.refusal: dict[str, Any] | None = None
        self.relay_refusal = ""
        self.resume_s = RESUME_S
        self.tokens: list[str] = []
        self.clients: list[PlayedClient] = []
        self.token_file = directory / "token"
        self.token_file.write_text("tether_agent_secret\n")
        self.token_file.chmod(0o600)
        self.tasks = Tasks("site")
        self.port = 0
        self._agents: list[Agent] = []
        self._listener: Server | None = None
        self._heard = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        self._listener = await serve(
            self._handle,
            "127.0.0.1",
            self.port,
            process_request=self._admit,
            compression=None,
            ping_interval=None,
        )
        self.port = next(iter(self._listener.sockets)).getsockname()[1]

    async def vanish(self) -> None:
        """As a server that is killed: every connection is cut and nothing listens any more."""
        assert self._listener is not None
        for ws in self._listener.connections:
            ws.transport.abort()
        self._listener.close()
        await self._listener.wait_closed()

    def _admit(self, ws: ServerConnection, request: Request) -> Response | None:
        if request.path != "/api/v1/control":
            return None
        self.tokens.append(request.headers["Authorization"])
        if self.refusal is None:
            return None
        return ws.respond(HTTPStatus.UNAUTHORIZED, json.dumps({"error": self.refusal}))

    async def _handle(self, ws: ServerConnection) -> None:
        stream = WsEnd(ws)
        assert ws.request is not None
        if ws.request.path == "/api/v1/control":
            await self.server.serve(stream, self.server.next_answer())
            return
        if self.relay_refusal:
            await stream.send(encode_word(RelayGoodbye(cause="", detail=self.relay_refusal)))
            await stream.close(1000, "")
            return
        await stream.send(encode_word(Paired()))
        ticket = ws.request.headers["Authorization"].removeprefix("Bearer ")
        received = bytearray()

        def on_data(data: memoryview) -> None:
            received.extend(data)
            self._heard.set()

        client = PlayedClient(
            TunnelEndpoint(
                client_over(stream, self.clock, connection_id=ticket, waits=SHORT),
                me=Party.CLIENT,
                peer=Party.AGENT,
                clock=self.clock,
                version="test",
                on_data=on_data,
                on_message=lambda message: None,
            ),
            received,
        )
        self.clients.append(client)
        await client.run()

    def offer(self, connection_id: str) -> TunnelOffer:
        return TunnelOffer(
            connection_id=connection_id,
            relay_url=f"ws://127.0.0.1:{self.port}/derp",
            ticket=connection_id,
            tunnel_key=KEY_TEXT,
            user="alice",
            public_key=f"ssh-ed25519 {'A' * 68}",
            client_ip="192.0.2.7",
            resume_s=self.resume_s,
        )

    async def tunnel(self, connection_id: str) -> PlayedClient:
        """A tunnel that the agent serves: its SSH server has greeted the client."""
        number = len(self.clients)
        self.server.links[-1].say(self.offer(connection_id))
        while len(self.clients) <= number or not self.clients[number].received:
            self._heard.clear()
            await self._heard.wait()
        return self.clients[number]

    async def start(
        self,
        data_dir: str = "agent",
        *,
        wait: bool = True,
        as_child: bool = False,
        stop_script: str = "",
        flush_s: float = supervisor.FLUSH_S,
        **env: str,
    ) -> Agent:
        """Start an agent.

        Args:
            data_dir: its name below the site's directory.
            wait: until it is ready.
            as_child: of a process that starts it as `tether up` does, and is what is returned.
            stop_script: what the shell does at its end.
            flush_s: how long it waits for its last reports to be acknowledged, in seconds.
            env: further variables of its environment.
        """
        script: Path | None = None
        if stop_script:
            script = self.directory / "stop.sh"
            script.write_text(f"#!/bin/sh\n{stop_script}\n")
            script.chmod(0o700)
        settings = AgentSettings(
            server_url=self.url,
            token_file=self.token_file,
            data_dir=self.directory / data_dir,
            stop_script=script,
            log_format="json",
            login_timeout_s=60.0,
            resume_vanished_s=0.3,
        )
        reading, writing = pipe()
        run = partial(by_parent if as_child else program, settings, flush_s)
        agent = Agent(Forked(run, writing, {**os.environ, **env}), reading)
        writing.close()
        self._agents.append(agent)
        if wait:
            await agent.event("agent ready")
        return agent

    def reported(self) -> list[ReportItem]:
        """Everything that was reported over all links, as it arrived."""
        heard: list[Message] = [message for link in self.server.links for message in link.heard]
        return [item for m in heard if isinstance(m, Report) for item in m.items]

    async def close(self) -> None:
        for agent in self._agents:
            agent.process.kill()
            await agent.exit_code()
        if self._listener is not None:
            self._listener.close()
        await self.server.close()
        await self.tasks.cancel()


@contextlib.asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    """A played server that listens; everything is ended afterwards."""
    made = Site(directory)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await made.listen()
            yield made
    finally:
        await made.close()


def opened(items: list[ReportItem]) -> list[str]:
    return [item.connection_id for item in items if isinstance(item, Opened)]
