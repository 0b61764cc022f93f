"""What a client says of the end of its tunnel when it fails by a bug of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.clock import EPOCH, LoopClock
from tests.support.deadline import DEADLINE_S
from tests.support.server.control_plane import GRANT, FakeControlPlane, grants
from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, Vantage
from tether.client.connection import SILENCE_S, ClientConnection
from tether.client.control.link import AgentAway, ClientControl
from tether.client.errors import LOOK_INTO_IT, Failure
from tether.config import ConfigError
from tether.net.link.driver import LinkDriver
from tether.net.transport.streams import DialFailed, MessageStream
from tether.protocol.derp.latency import NOT_MEASURED
from tether.protocol.messages.base import Message, records_of
from tether.protocol.messages.reports import Ended
from tether.protocol.messages.tunnel import TunnelDenied, TunnelGrant, TunnelRequest

pytestmark = pytest.mark.virtual_time

BUG = ev.InternalFailure(
    vantage=Vantage.CLIENT, at=EPOCH, party=Party.CLIENT, what="RuntimeError: a bug"
)
LEFT = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=EPOCH)


@dataclass
class Over:
    """A tunnel that its user has left."""

    cell: CloseCell = field(default_factory=CloseCell)
    rx_bytes: int = 10
    tx_bytes: int = 20


def account(directory: Path, *, granted: bool = True, fails: bool, over: bool) -> Ended | None:
    env = {"TETHER_CONFIG_DIR": str(directory), "TETHER_URL": "https://s", "TETHER_TOKEN": "t"}
    connection = ClientConnection("dev", env, clock=LoopClock())
    connection.connection_id = "c" if granted else ""
    if fails:
        connection.failed(RuntimeError("a bug"))
    seen = Over()
    seen.cell.offer(LEFT)
    return connection._account(seen if over else None)


async def test_a_bug_that_ends_a_tunnel_is_its_cause(tmp_path: Path) -> None:
    assert account(tmp_path, fails=True, over=False) == Ended(
        connection_id="c", at=EPOCH, facts=records_of((BUG,))
    )


async def test_a_bug_that_follows_an_end_is_its_symptom(tmp_path: Path) -> None:
    assert account(tmp_path, fails=True, over=True) == Ended(
        connection_id="c",
        at=EPOCH,
        facts=records_of((LEFT,)),
        symptoms=records_of((BUG,)),
        rx_bytes=10,
        tx_bytes=20,
    )


async def test_of_a_tunnel_that_was_not_granted_or_did_not_end_nothing_is_said(
    tmp_path: Path,
) -> None:
    assert account(tmp_path, granted=False, fails=True, over=False) is None
    assert account(tmp_path, fails=False, over=False) is None


class Starting:
    """A server whose workspace's agent comes after so many requests."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.asked: list[int] = []
        self.told: list[str] = []

    def answer(self, message: Message, driver: LinkDriver) -> None:
        if not isinstance(message, TunnelRequest):
            grants(message, driver)
            return
        self.asked.append(message.request_id)
        if len(self.asked) > self.after:
            grants(message, driver)
        else:
            code = "agent_not_connected"
            driver.send(
                TunnelDenied(request_id=message.request_id, code=code, message="it is away")
            )

    async def granted(self, directory: Path, **more: str) -> TunnelGrant:
        """What a client gets that asks for a tunnel."""
        plane = FakeControlPlane(self.answer)
        env = {"TETHER_CONFIG_DIR": str(directory), "TETHER_URL": "https://s", "TETHER_TOKEN": "t"}
        connection = ClientConnection(
            "dev", {**env, **more}, clock=LoopClock(), on_wait=self.told.append
        )
        connection.control = plane.control
        try:
            await plane.control.connect()
            return await connection._granted("k", NOT_MEASURED)
        finally:
            await plane.control.leave()
            await plane.tasks.cancel()


async def test_an_agent_that_is_starting_is_waited_for_and_the_user_is_told(tmp_path: Path) -> None:
    server = Starting(after=3)
    assert await server.granted(tmp_path) == GRANT
    assert server.asked == [1, 2, 3, 4]
    assert server.told == ["it is away; waiting for it up to 10 s"]


async def test_an_agent_that_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    server = Starting(after=1000)
    with pytest.raises(AgentAway, match="it is away"):
        await server.granted(tmp_path, TETHER_WAIT="60")
    assert 100 < len(server.asked) <= 121  # twice a second, and each takes a moment


async def test_who_does_not_want_to_wait_does_not(tmp_path: Path) -> None:
    server = Starting(after=1)
    with pytest.raises(AgentAway):
        await server.granted(tmp_path, TETHER_WAIT="0")
    assert (server.asked, server.told) == ([1], [])
    with pytest.raises(ConfigError, match="TETHER_WAIT is a number of seconds"):
        await server.granted(tmp_path, TETHER_WAIT="soon")


# -- a server, or a way, that does not answer --------------------------------------------------------


def connection(directory: Path, told: list[str]) -> ClientConnection:
    env = {"TETHER_CONFIG_DIR": str(directory), "TETHER_URL": "https://s", "TETHER_TOKEN": "t"}
    return ClientConnection("dev", env, clock=LoopClock(), on_wait=told.append)


async def test_after_two_silent_seconds_the_user_is_told_what_is_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    with connection(tmp_path, told)._waiting_for("the server to answer"):
        await asyncio.sleep(SILENCE_S - 0.1)
        assert told == []
        await asyncio.sleep(DEADLINE_S)
    assert told == ["waiting for the server to answer"]
    with connection(tmp_path, told)._waiting_for("another"):
        await asyncio.sleep(SILENCE_S - 0.1)
    await asyncio.sleep(SILENCE_S)
    assert told == ["waiting for the server to answer"]


async def test_a_server_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path) -> None:
    async def silence() -> MessageStream:
        raise DialFailed("s did not answer in time") from TimeoutError()

    asking = connection(tmp_path, [])
    asking.control = ClientControl(silence, LoopClock())
    with pytest.raises(Failure) as failed:
        await asking.open()
    assert str(failed.value) == f"s did not answer in time: the server is https://s; {LOOK_INTO_IT}"
