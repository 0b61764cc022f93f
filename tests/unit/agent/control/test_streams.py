"""The logical streams of the agent's control link: when they are told of, and with which cause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.typing import EventDict

from tests.support.agent.played_server import DISCONNECT_FIELDS, ServerLink, events
from tests.unit.agent.control.test_link import (
    LEAVING,
    Life,
    connection_is_reset,
    life,
    network_falls_silent,
    server_is_killed,
    server_raves,
    server_says_goodbye,
)
from tether.net.transport.streams import DialFailed
from tether.protocol.messages.base import facts_of
from tether.protocol.messages.control import Goodbye
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateClosed,
    CoordinateError,
    CoordinateOpen,
)
from tether.protocol.messages.derp import DerpMap
from tether.protocol.messages.reports import Ended

pytestmark = pytest.mark.virtual_time

STREAMS = (
    "disconnected from coordination RPC",
    "disconnected from derp map RPC",
    "disconnected from server",
)


def server_loses_its_database(link: ServerLink) -> None:
    assert link.driver is not None
    link.driver.leave("server.database_unavailable", retry_after_s=5.0)


def another_agent_takes_over(link: ServerLink) -> None:
    assert link.driver is not None
    link.driver.leave("agent.superseded", retry_after_s=60.0)


async def coordinated(agent: Life, number: int = 1) -> ServerLink:
    """The n-th link, once both streams are up."""
    link = await agent.link(number)
    link.say(DerpMap(regions=[]))
    await link.until(lambda: any(isinstance(one, CoordinateOpen) for one in link.asked))
    await asyncio.sleep(0.5)
    return link


def words(line: EventDict) -> dict[str, Any]:
    return {name: line[name] for name in DISCONNECT_FIELDS}


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (server_says_goodbye, "server.shutdown"),
        (server_is_killed, "server.vanished"),
        (connection_is_reset, "network.middlebox_reset"),
        (network_falls_silent, "server.unreachable"),
        (server_raves, "server.protocol_error"),
        (server_loses_its_database, "server.database_unavailable"),
        (another_agent_takes_over, "agent.superseded"),
    ],
)
async def test_a_link_that_ends_ends_its_streams_with_the_same_cause_and_one_line_each(
    tmp_path: Path, fault: Callable[[ServerLink], None], cause: str
) -> None:
    """Whoever notices first: no sibling is told that the agent shut down."""
    async with life(tmp_path) as agent:
        agent.server.coordinating = True
        fault(await coordinated(agent))
        await agent.link(2)
        lines = [line for line in agent.lines if line["event"] in STREAMS]
        assert [line["event"] for line in lines] == list(STREAMS)
        assert [words(line) for line in lines] == [words(lines[0])] * 3
        assert lines[0]["disconnect_cause"] == cause
        assert {line["connection_id"] for line in lines} == {"link-1"}
        (again,) = events(agent.lines, "control plane connection closed, retrying")
        assert not DISCONNECT_FIELDS & again.keys()
        (ended,) = await agent.journalled()
        assert isinstance(ended, Ended), "one record, too"


async def test_an_opened_stream_is_told_and_one_that_was_not_opened_is_no_disconnect(
    tmp_path: Path,
) -> None:
    async with life(tmp_path) as agent:  # a server without coordination
        link = await agent.link()
        await asyncio.sleep(1)
        server_is_killed(link)
        await agent.link(2)
        await asyncio.sleep(1)
        assert len(events(agent.lines, "failed to open coordination RPC")) == 2
        assert events(agent.lines, "connected to coordination RPC") == []
        assert events(agent.lines, "disconnected from coordination RPC") == []
        assert events(agent.lines, "disconnected from derp map RPC") == []
        assert len(events(agent.lines, "disconnected from server")) == 1


async def test_a_coordinator_that_closes_a_stream_is_its_cause_and_the_link_lives_on(
    tmp_path: Path,
) -> None:
    async with life(tmp_path) as agent:
        agent.server.coordinating = True
        link = await coordinated(agent)
        link.say(
            CoordinateClosed(
                error="peer ID overwritten by new connection", cause="coordination.overwritten"
            )
        )
        await asyncio.sleep(5)
        (line,) = events(agent.lines, "disconnected from coordination RPC")
        assert words(line) | {"retry_in_s": line["retry_in_s"]} == {
            "connect_type": "server_to_agent",
            "disconnect_reason": "superseded",
            "disconnect_expected": False,
            "disconnect_initiator": "server",
            "disconnect_detail": "peer ID overwritten by new connection",
            "disconnect_cause": "coordination.overwritten",
            "disconnect_basis": "declared",
            "disconnect_actor": "",
            "retry_in_s": 0.1,
        }
        assert events(agent.lines, "disconnected from server") == []
        assert len(events(agent.lines, "connected to coordination RPC")) == 2
        server_is_killed(link)
        await agent.link(2)
        (ended,) = await agent.journalled()
        assert isinstance(ended, Ended)
        kinds = [fact.kind for fact in facts_of(ended.facts)]
        assert kinds == ["logical_stream_ended", "stream_ended"], "it is on the link's record"
        assert events(agent.lines, "disconnected from server")[0]["disconnect_cause"] == (
            "server.vanished"
        )


async def test_a_rejected_coordination_is_backed_off_on_the_link_that_it_has(
    tmp_path: Path,
) -> None:
    async with life(tmp_path) as agent:
        agent.server.coordinating = True
        link = await coordinated(agent)
        for _ in range(4):
            link.say(CoordinateClosed(error="coordinator unhealthy", cause="server.shutdown"))
            await asyncio.sleep(2)
        waits = [
            line["retry_in_s"] for line in events(agent.lines, "disconnected from coordination RPC")
        ]
        assert waits == [0.1, 0.2, 0.4, 0.8]
        assert len(agent.server.dialled_at) == 1


async def test_an_error_in_band_is_told_and_ends_nothing(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        agent.server.coordinating = True
        link = await coordinated(agent)
        link.say(CoordinateError(error="ready for handshake error: no"))
        await asyncio.sleep(1)
        (line,) = events(agent.lines, "coordination warning")
        assert (line["error"], line["log_level"]) == ("ready for handshake error: no", "warning")
        assert events(agent.lines, "disconnected from coordination RPC") == []


@pytest.mark.parametrize("hanging_up", [True, False])
async def test_leaving_is_one_end_whether_or_not_the_coordinator_hangs_up(
    tmp_path: Path, hanging_up: bool
) -> None:
    async with life(tmp_path) as agent:
        agent.server.coordinating, agent.server.hanging_up = True, hanging_up
        link = await coordinated(agent)
        began = asyncio.get_running_loop().time()
        assert await agent.control.leave_coordination(LEAVING) is hanging_up
        assert (asyncio.get_running_loop().time() - began >= 1.0) is not hanging_up
        agent.control.quit(LEAVING)
        await agent.running
        (line,) = events(agent.lines, "disconnected from coordination RPC")
        assert line["disconnect_cause"] == "agent.shutdown", "the first cause"
        assert (line["acknowledged"], line["log_level"]) == (hanging_up, "info")
        said = [one.disconnect for one in link.asked if isinstance(one, Coordinate)]
        assert [one.cause for one in said if one is not None] == ["agent.shutdown"]
        assert await link.hear(Goodbye) == [Goodbye(cause="agent.shutdown", actor="signal:15")]


async def test_leaving_what_was_never_reached_is_nothing(tmp_path: Path) -> None:
    async with life(tmp_path, answers=[DialFailed("no")] * 9) as agent:
        await agent.redialled(2)
        assert await agent.control.leave_coordination(LEAVING) is None
        agent.control.quit(LEAVING)
        await agent.running
        assert not any(DISCONNECT_FIELDS & line.keys() for line in agent.lines)


async def test_a_lost_database_is_told_apart_from_a_server_that_is_away(tmp_path: Path) -> None:
    refused = DialFailed("the disk is full", status=503, cause="database_unavailable", fatal=True)
    turned = Goodbye(cause="server.database_unavailable", detail="full", retry_after_s=5.0)
    async with life(tmp_path, answers=[refused, turned, DialFailed("no")]) as agent:
        await agent.link()
        told = events(agent.lines, "control plane lost connection to database, retrying")
        assert [line["cause"] for line in told] == [refused.cause, turned.cause]
        assert told[1]["retry_in_s"] == 5.0
        assert len(events(agent.lines, "failed to dial server")) == 1
        assert not any(DISCONNECT_FIELDS & line.keys() for line in agent.lines)


async def test_the_main_loop_tells_of_each_dial_and_of_its_own_end(tmp_path: Path) -> None:
    async with life(tmp_path, answers=[DialFailed("no")]) as agent:
        await agent.link()
        agent.control.quit(LEAVING)
        await agent.running
        told = [line["event"] for line in agent.lines]
        assert told.count("connecting to server") == 2
        assert told[-1] == "agent main loop exited"


async def test_an_agent_says_where_it_can_be_dialled_whenever_that_changes(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        agent.server.coordinating = True
        places = ["10.0.0.1:7000"]
        agent.control._streams._endpoints = lambda: list(places)
        link = await coordinated(agent)
        agent.control.refresh()
        agent.control.refresh()
        places[:] = ["10.0.0.2:7000"]
        agent.control.refresh()
        await asyncio.sleep(1)
        nodes = [one.update_self for one in link.asked if isinstance(one, Coordinate)]
        told = [(one.id, one.endpoints) for one in nodes if one is not None and one.endpoints]
        assert told == [("ws-1", ["10.0.0.1:7000"]), ("ws-1", ["10.0.0.2:7000"])]


async def test_a_change_of_the_network_with_many_symptoms_is_told_once(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        agent.server.coordinating = True
        places = ["10.0.0.1:7000"]
        agent.control._streams._endpoints = lambda: list(places)
        link = await coordinated(agent)
        for last in range(2, 9):
            agent.control.refresh_soon()
            places[:] = [f"10.0.0.{last}:7000"]
        await asyncio.sleep(1)
        nodes = [one.update_self for one in link.asked if isinstance(one, Coordinate)]
        told = [one.endpoints for one in nodes if one is not None and one.endpoints]
        assert told == [["10.0.0.1:7000"], ["10.0.0.8:7000"]]
        agent.control.refresh_soon()
        agent.control.quit(LEAVING)
        await agent.running
