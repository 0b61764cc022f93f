"""No exception of one control link harms the server, or another link: each is raised at each await."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import A_FEW, ONE_OF_EACH
from tests.support.server.live_server import running
from tether.protocol.messages.codec import PROTOCOL, encode
from tether.protocol.messages.control import Hello

pytestmark = pytest.mark.anyio


class Upgrade:
    """One WebSocket as uvicorn hands it over, whose n-th receive or send raises."""

    lost = None
    handshake_complete = False

    def __init__(self, token: str, hello: bytes, wrong: Exception, at: str) -> None:
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/api/v1/control",
            "headers": [(b"authorization", f"Bearer {token}".encode())],
            "client": ("127.0.0.1", 40_000),
            "extensions": {"tether": self},
        }
        self._hello = hello
        self._wrong = wrong
        self._at = at
        self._received = self._sent = 0

    async def receive(self) -> dict[str, Any]:
        self._received += 1
        if self._at == f"receive-{self._received}":
            raise self._wrong
        if self._received == 1:
            return {"type": "websocket.connect"}
        if self._received == 2:
            return {"type": "websocket.receive", "bytes": self._hello}
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(self, event: dict[str, Any]) -> None:
        self._sent += 1
        closing = event["type"] == "websocket.close"
        if self._at == f"send-{self._sent}" or (closing and self._at == "close"):
            raise self._wrong

    def counters(self) -> None:
        return None

    def abort(self) -> None:
        """See `CauseProtocol`."""

    def flush_then_drop(self, seconds: float) -> None:
        """See `CauseProtocol`."""


SERVER_AWAITS = ("receive-1", "send-1", "receive-2", "send-2", "receive-3", "close")
"""The upgrade, its answer, the hello, the welcome, a read, the close."""


@pytest.fixture(
    params=[
        pytest.param(A_FEW, id="a-few"),
        pytest.param(ONE_OF_EACH, id="all", marks=pytest.mark.long),
    ]
)
def faults(request: pytest.FixtureRequest) -> tuple[Exception, ...]:
    """What is raised: a few in the ordinary run, and everything in `make lab`."""
    given: tuple[Exception, ...] = request.param
    return given


@pytest.mark.parametrize("where", SERVER_AWAITS)
async def test_no_exception_of_one_control_link_harms_another_one_of_the_server(
    where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, faults: tuple[Exception, ...]
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with running(tmp_path) as live:
        _, agent_token = await live.workspace()
        agent, token = await live.agent(agent_token), await live.admin_token()
        hello = encode(Hello(protocol=PROTOCOL, role="client", version="1", instance_id="run-1"))

        async def served(wrong: Exception) -> None:
            broken = Upgrade(token, hello, wrong, where)
            serve: Callable[..., Awaitable[None]] = live.server.hub.serve
            await serve(broken.scope, broken.receive, broken.send)

        for begin in range(0, len(faults), 50):
            await asyncio.gather(*(served(one) for one in faults[begin : begin + 50]))
        agent.driver.ping()
        assert agent.run is not None and not agent.run.done()
        assert live.server.hub._clients.all() == []
        assert {row["status"] for row in await live.rows(type="control", user="admin")} <= {
            "closed"
        }
