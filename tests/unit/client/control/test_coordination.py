"""The client's coordination over its control links: what it says, what it is told, and its ends."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import (
    AsyncIterator,
    Callable,
)

import pytest
import structlog
from structlog.typing import EventDict

from tests.support.server.control_plane import WELCOME, FakeControlPlane, grants
from tether.attribution.vocabulary import ConnectType
from tether.client.control.coordination import COORDINATE_AFTER_S
from tether.client.control.events import AgentHere, AgentLost, Back
from tether.net.link.control_log import ControlLog
from tether.net.link.driver import LinkDriver
from tether.net.transport.streams import DialFailed
from tether.protocol.coordination.client import CLOSE_S
from tether.protocol.messages.base import Message
from tether.protocol.messages.control import Goodbye, Hello, Unsupported
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateClosed,
    CoordinateError,
    CoordinateOpen,
    CoordinateOpened,
    Departure,
    Node,
    PeerUpdate,
    PeerUpdates,
    PeerWord,
    ResumeTokenGrant,
    ResumeTokenRequest,
)
from tether.protocol.messages.reports import Report

pytestmark = pytest.mark.virtual_time

HERE = Node(id="w", as_of=1.0, home_region="fra", endpoints=["10.0.0.1:7"])
OURS = (CoordinateOpen, Coordinate, ResumeTokenRequest)
END_FIELDS = {"connect_type", "disconnect_reason", "disconnect_cause", "disconnect_initiator"}


def at(*endpoints: str, home: str = "fra") -> PeerUpdate:
    node = Node(id="w", as_of=2.0, home_region=home, endpoints=list(endpoints))
    return PeerUpdate(id="w", kind=PeerWord.NODE, node=node)


def coordinates(message: Message, driver: LinkDriver) -> None:
    """A server that knows the agent `w`."""
    match message:
        case CoordinateOpen():
            driver.send(CoordinateOpened(peer_id="p"))
        case Coordinate(add_tunnel="w"):
            driver.send(PeerUpdates(updates=[PeerUpdate(id="w", kind=PeerWord.NODE, node=HERE)]))
        case Coordinate(disconnect=Departure(cause=cause)):
            driver.send(CoordinateClosed(cause=cause))
        case ResumeTokenRequest(request_id=number):
            driver.send(
                ResumeTokenGrant(
                    request_id=number, token="kept", expires_in_s=86400.0, refresh_in_s=43200.0
                )
            )
        case _:
            grants(message, driver)


def but(
    silent_to: type[Message] | tuple[type[Message], ...],
) -> Callable[[Message, LinkDriver], None]:
    """The same, but deaf to some messages."""

    def answers(message: Message, driver: LinkDriver) -> None:
        if not isinstance(message, silent_to):
            coordinates(message, driver)

    return answers


class Scene:
    """A client whose tunnel to `w` is up, and what it logs until it is gone."""

    def __init__(self, plane: FakeControlPlane, lines: list[EventDict]) -> None:
        self.plane, self.control, self.lines = plane, plane.control, lines

    def asked(self, link: int = 0) -> list[Message]:
        """What this link was asked of its coordinator."""
        return [one for one in self.plane.servers[link].heard if isinstance(one, OURS)]

    def say(self, *updates: PeerUpdate, link: int = 0) -> None:
        self.plane.servers[link].driver.send(PeerUpdates(updates=list(updates)))

    async def settle(self) -> None:
        await asyncio.sleep(COORDINATE_AFTER_S + 0.1)


@contextlib.asynccontextmanager
async def coordinating(
    answer: Callable[[Message, LinkDriver], None] = coordinates, *, home: str = "ams"
) -> AsyncIterator[Scene]:
    plane = FakeControlPlane(answer, log=ControlLog(ConnectType.CLIENT_TO_SERVER))
    importlib.import_module(
        "tether.client.control.coordination"
    )  # else in a thread, which knows real time only
    with structlog.testing.capture_logs() as lines:
        try:
            await plane.control.connect()
            await plane.control.request_tunnel("dev", "k")
            plane.control.coordinate("w", home)
            yield Scene(plane, lines)
        finally:
            await plane.control.leave()
            await plane.tasks.cancel()


def ends(lines: list[EventDict]) -> list[tuple[str, str, str]]:
    """Every line that tells an end: what, whose doing, why."""
    return [
        (line["event"], line["disconnect_initiator"], line["disconnect_cause"])
        for line in lines
        if END_FIELDS & line.keys()
    ]


# -- what it says ----------------------------------------------------------------------------


async def test_it_says_where_we_are_and_to_which_agent_we_go() -> None:
    async with coordinating() as scene:
        await scene.settle()
        opened, here, tunnel, token = scene.asked()
        assert opened == CoordinateOpen()
        assert isinstance(here, Coordinate) and here.update_self is not None
        assert (here.update_self.id, here.update_self.home_region) == ("p", "ams")
        assert here.update_self.endpoints == [], "nobody can dial a client"
        assert tunnel == Coordinate(add_tunnel="w")
        assert token == ResumeTokenRequest(request_id=1)


async def test_a_connection_that_is_over_within_a_moment_says_nothing() -> None:
    async with coordinating() as scene:
        await asyncio.sleep(COORDINATE_AFTER_S - 0.1)
        await scene.control.leave()
        assert scene.asked() == []
        assert scene.control._coordination._begun is None

    assert ends(scene.lines) == [("disconnected from server", "client", "client.closed")]


async def test_after_a_lost_link_the_tunnel_is_wanted_again_under_the_same_id() -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.plane.cables[0].reset()
        await scene.settle()
        opened, here, tunnel, _ = scene.asked(1)
        assert opened == CoordinateOpen(resume_token="kept")
        assert isinstance(here, Coordinate) and here.update_self is not None
        assert (here.update_self.id, tunnel) == ("p", Coordinate(add_tunnel="w"))
        assert scene.plane.words == [
            AgentHere(("10.0.0.1:7",)),
            Back(),
            AgentHere(("10.0.0.1:7",)),
        ]


async def test_a_link_that_is_lost_before_coordination_began_is_no_obstacle() -> None:
    async with coordinating() as scene:
        scene.plane.cables[0].reset()
        await asyncio.sleep(0.2)
        assert len(scene.plane.servers) == 2
        assert scene.asked(1) == []
        await scene.settle()
        assert scene.asked(1)[0] == CoordinateOpen()


# -- what it is told ---------------------------------------------------------------------------


async def test_where_the_agent_is_goes_further_and_its_new_home_once() -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.say(at("10.0.0.2:7"), at("10.0.0.2:7", home="ams"), at(home=""))
        await asyncio.sleep(0.1)
        assert scene.plane.words == [
            AgentHere(("10.0.0.1:7",)),
            AgentHere(("10.0.0.2:7",)),
            AgentHere(("10.0.0.2:7",), moved_to="ams"),
            AgentHere(()),
        ]


@pytest.mark.parametrize("kind", [PeerWord.LOST, PeerWord.DISCONNECTED])
async def test_an_agent_that_is_lost_or_has_left_ends_nothing_and_forgets_no_way(kind: str) -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.say(PeerUpdate(id="w", kind=kind, reason="lost", cause="agent.vanished"))
        await asyncio.sleep(3600)
        assert scene.plane.words == [AgentHere(("10.0.0.1:7",)), AgentLost(True)]
        assert len(scene.plane.dialled) == 1
        scene.say(at("10.0.0.2:7"))
        await asyncio.sleep(1)
        assert scene.plane.words[2:] == [AgentLost(False), AgentHere(("10.0.0.2:7",))]


async def test_that_the_agent_is_lost_is_known_no_more_once_our_own_stream_is_away() -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.say(PeerUpdate(id="w", kind=PeerWord.LOST, reason="lost"))
        await asyncio.sleep(1)
        scene.plane.refuses = DialFailed("nothing listens")
        scene.plane.cables[0].reset()
        await asyncio.sleep(3600)
        assert scene.plane.words == [AgentHere(("10.0.0.1:7",)), AgentLost(True), AgentLost(False)]


async def test_what_other_peers_do_is_no_affair_of_ours() -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.say(PeerUpdate(id="x", kind=PeerWord.NODE, node=Node(id="x", as_of=1.0)))
        scene.say(PeerUpdate(id="x", kind=PeerWord.LOST))
        scene.say(PeerUpdate(id="w", kind="of another version"))
        await asyncio.sleep(1)
        assert scene.plane.words == [AgentHere(("10.0.0.1:7",))]


async def test_a_server_without_coordination_is_left_in_peace() -> None:
    def older(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, CoordinateOpen):
            driver.send(Unsupported(message_type="coordinate_open"))
        else:
            grants(message, driver)

    async with coordinating(older) as scene:
        await asyncio.sleep(600)
        assert scene.asked() == [CoordinateOpen()]

    lines = scene.lines
    (failed,) = [line for line in lines if line["event"] == "failed to open coordination RPC"]
    assert END_FIELDS & failed.keys() == set()
    assert ends(lines) == [("disconnected from server", "client", "client.closed")]


async def test_an_error_in_band_is_told_and_ends_nothing() -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.plane.servers[0].driver.send(CoordinateError(error="not today"))
        scene.say(PeerUpdate(id="w", kind=PeerWord.READY_FOR_HANDSHAKE))
        await asyncio.sleep(1)
        assert len(scene.asked()) == 4

    (warning,) = [one for one in scene.lines if one["event"] == "coordination warning"]
    assert warning["error"] == "not today"


# -- its ends ------------------------------------------------------------------------------------


async def test_leaving_is_announced_and_acknowledged_before_the_goodbye() -> None:
    async with coordinating() as scene:
        await scene.settle()
        began = asyncio.get_running_loop().time()
        await scene.control.leave()
        assert asyncio.get_running_loop().time() - began < 0.1, "two round trips"
        heard = scene.plane.servers[0].heard
        assert heard[-2] == Coordinate(disconnect=Departure(cause="client.closed"))
        assert isinstance(heard[-1], Goodbye)

    lines = scene.lines
    assert ends(lines) == [
        ("disconnected from coordination RPC", "client", "client.closed"),
        ("disconnected from server", "client", "client.closed"),
    ]
    (left,) = [line for line in lines if line["event"] == "disconnected from coordination RPC"]
    assert (left["acknowledged"], left["connection_id"]) == (True, "c")


async def test_the_last_report_does_not_wait_for_the_acknowledgement() -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.control.leave_coordination()
        assert await scene.control.hand_in("journal", [])
        heard = [type(one) for one in scene.plane.servers[0].heard]
        assert heard[-2:] == [Coordinate, Report]


async def test_a_coordinator_that_does_not_acknowledge_is_waited_for_a_second() -> None:
    def deaf(message: Message, driver: LinkDriver) -> None:
        if not (isinstance(message, Coordinate) and message.disconnect is not None):
            coordinates(message, driver)

    async with coordinating(deaf) as scene:
        await scene.settle()
        began = asyncio.get_running_loop().time()
        await scene.control.leave()
        assert asyncio.get_running_loop().time() - began == pytest.approx(CLOSE_S, abs=0.1)

    lines = scene.lines
    assert [line["acknowledged"] for line in lines if "acknowledged" in line] == [False]
    assert len(ends(lines)) == 2


async def test_leaving_before_the_first_answer_is_no_end_of_coordination() -> None:
    async with coordinating(but(CoordinateOpen)) as scene:
        await scene.settle()
        assert scene.asked() == [CoordinateOpen()]

    assert ends(scene.lines) == [("disconnected from server", "client", "client.closed")]


async def test_a_lost_link_ends_both_with_one_cause_and_a_failed_dial_is_no_end() -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.plane.refuses = DialFailed("nothing listens")
        scene.plane.cables[0].reset()
        await asyncio.sleep(1)

    lines = scene.lines
    assert ends(lines) == [
        ("disconnected from coordination RPC", "network", "network.middlebox_reset"),
        ("disconnected from server", "network", "network.middlebox_reset"),
    ]
    failed = [line for line in lines if line["event"] == "failed to dial server"]
    assert len(failed) > 2
    assert not any(END_FIELDS & line.keys() for line in failed)


async def test_a_link_that_ends_without_a_welcome_is_no_end() -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.plane.answer = but(Hello)
        scene.plane.cables[0].reset()
        await asyncio.sleep(1)
        scene.plane.cables[1].reset()
        await asyncio.sleep(1)

    assert len(ends(scene.lines)) == 2


async def test_a_coordinator_that_closes_is_its_cause_and_is_opened_again_on_the_same_link() -> (
    None
):
    async with coordinating() as scene:
        await scene.settle()
        scene.plane.servers[0].driver.send(
            CoordinateClosed(error="coordinator closed", cause="server.shutdown")
        )
        await asyncio.sleep(1)
        assert [type(one) for one in scene.asked()].count(CoordinateOpen) == 2
        assert len(scene.plane.dialled) == 1

    (closed, *_) = ends(scene.lines)
    assert closed == ("disconnected from coordination RPC", "server", "server.shutdown")


async def test_the_agent_that_is_lost_with_our_own_link_is_no_news() -> None:
    async with coordinating() as scene:
        await scene.settle()
        scene.plane.refuses = DialFailed("nothing listens")
        scene.plane.cables[0].reset()
        await asyncio.sleep(3600)
        assert scene.plane.words == [AgentHere(("10.0.0.1:7",))]


async def test_the_welcome_of_each_link_is_a_line() -> None:
    async with coordinating() as scene:
        await scene.settle()

    lines = [one["event"] for one in scene.lines]
    assert lines[:3] == [
        "connected to server",
        "connected to coordination RPC",
        "tunnel peer changed",
    ]
    assert WELCOME.connection_id == "c"
