"""The keeper of a tunnel's carriers, with the real machines at both ends and a network in memory."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import (
    AsyncIterator,
    Callable,
)
from typing import Any

import pytest

from tests.support.clock import LoopClock
from tests.support.net.cable import Cable, CableEnd
from tests.support.net.tunnels import KEY_TEXT, resumable
from tests.support.server.control_plane import WELCOME, FakeControlPlane, grants
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectionMethod, Party, StreamEnd, Vantage
from tether.client.carriers import CarrierManager, by_the_relay, why_lost
from tether.client.control.events import AgentLost, TurnedAway
from tether.client.errors import LOOK_INTO_IT, Failure
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream
from tether.net.tunnel.stream import AttachedCarrier
from tether.protocol.carriers.commands import Carried, Over, Stalled, Status
from tether.protocol.messages.base import Message
from tether.protocol.messages.control import Hello
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateOpen,
    CoordinateOpened,
    Node,
    PeerUpdate,
    PeerUpdates,
    PeerWord,
)
from tether.protocol.messages.derp import Restarting, encode_word
from tether.protocol.messages.tunnel import CarrierDenied, CarrierGrant, CarrierRequest, TunnelGrant
from tether.protocol.tunnel.carrier import FORGED_CODE
from tether.protocol.tunnel.frames import parse_carrier_frame
from tether.protocol.tunnel.join import Join

pytestmark = pytest.mark.virtual_time

DIRECT, DERP = ConnectionMethod.DIRECT, ConnectionMethod.DERP


class Net:
    """Relays and endpoints by address; each dial is a cable to the one agent."""

    def __init__(self, agent: Any, tasks: Tasks) -> None:
        self._agent, self._tasks = agent, tasks
        self.fails: dict[str, DialFailed] = {}
        self.cables: dict[str, list[Cable]] = {}

    async def relay(self, url: str, ticket: str, small_segments: bool) -> MessageStream:
        return await self._dial(url, DERP, Party.RELAY)

    async def direct(self, endpoint: str, small_segments: bool) -> MessageStream:
        return await self._dial(endpoint, DIRECT, Party.CLIENT)

    async def _dial(self, address: str, method: ConnectionMethod, peer: Party) -> MessageStream:
        await asyncio.sleep(0.01 if method is DIRECT else 0.03)
        if address in self.fails:
            raise self.fails[address]
        cable = Cable(delay=0.001 if method is DIRECT else 0.02)
        self.cables.setdefault(address, []).append(cable)
        self._tasks.spawn(self._accept(cable.right, method, peer), "accept")
        return cable.left

    async def _accept(self, end: CableEnd, method: ConnectionMethod, peer: Party) -> None:
        first = await end.recv()
        assert isinstance(first, bytes)
        attach = parse_carrier_frame(first)
        assert isinstance(attach, Join)
        self._agent.add(
            AttachedCarrier(number=attach.carrier, method=method, where="", stream=end, peer=peer),
            first,
        )


class Trip:
    """A tunnel's both ends, its ways, and the control plane."""

    def __init__(self, answer: Callable[[Message, LinkDriver], None], *endpoints: str) -> None:
        clock, self.loop = LoopClock(), asyncio.get_running_loop()
        self.tasks = Tasks("trip")
        self.plane = FakeControlPlane(answer)
        self.client = resumable(Party.CLIENT, clock)
        self.agent = resumable(Party.AGENT, clock)
        self.net = Net(self.agent, self.tasks)
        self.shown: list[Status] = []
        self.over: list[Over] = []
        self.ways = CarrierManager(
            TunnelGrant(
                request_id=1,
                connection_id="c1",
                relay_url="ws://fra",
                ticket="t",
                region="fra",
                workspace_id="w",
                workspace="dev",
                host_key="k",
                tunnel_key=KEY_TEXT,
                endpoints=list(endpoints),
            ),
            self.client,
            self.plane.control,
            clock=clock,
            dialler=self.net,
            on_status=self.shown.append,
            on_over=self.over.append,
            jitter=lambda: 0.0,
        )

    async def echo(self, message: bytes) -> None:
        """A message there; it arrives."""
        await self.client.send(message)
        assert await self.agent.recv() == message


def asks(message: Message, driver: LinkDriver) -> None:
    """A server that has a second relay."""
    match message:
        case Hello():
            driver.send(WELCOME)
        case CarrierRequest(request_id=request, carrier=carrier):
            driver.send(
                CarrierGrant(
                    request_id=request,
                    connection_id="c1",
                    carrier=carrier,
                    relay_url="ws://ams",
                    ticket="t2",
                    region="ams",
                )
            )
        case _:
            grants(message, driver)


def denies(**answer: Any) -> Callable[[Message, LinkDriver], None]:
    def answers(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, CarrierRequest):
            driver.send(CarrierDenied(request_id=message.request_id, **answer))
        else:
            grants(message, driver)

    return answers


@contextlib.asynccontextmanager
async def travelling(
    *endpoints: str,
    answer: Callable[[Message, LinkDriver], None] = asks,
    fails: dict[str, DialFailed] | None = None,
) -> AsyncIterator[Trip]:
    trip = Trip(answer, *endpoints)
    trip.net.fails = dict(fails or {})
    try:
        await trip.plane.control.connect()
        await trip.plane.control.request_tunnel("dev", "k")
        trip.ways.start()
        yield trip
    finally:
        await trip.ways.close()
        await asyncio.gather(trip.client.close(1001, ""), trip.agent.close(1001, ""))
        await trip.plane.control.leave()
        await trip.tasks.cancel()
        await trip.plane.tasks.cancel()


async def test_it_starts_on_the_first_and_moves_to_the_direct_one() -> None:
    async with travelling("10.0.0.1:1") as trip:
        await trip.ways.ready()
        await trip.echo(b"hello")
        await asyncio.sleep(1)
        assert trip.client.method is DIRECT
        assert set(trip.client.carriers()) == {1, 2}

    shown = trip.shown
    assert [(s.method, s.where) for s in shown if isinstance(s, Carried)][-1] == (
        DIRECT,
        "10.0.0.1:1",
    )


async def test_a_lost_direct_path_falls_back_to_the_standby_without_a_word() -> None:
    async with travelling("10.0.0.1:1") as trip:
        await trip.ways.ready()
        await asyncio.sleep(1)
        trip.net.cables["10.0.0.1:1"][0].reset()
        await trip.echo(b"over the relay")
        assert trip.client.method is DERP
        await asyncio.sleep(40)  # it is tried again, and must last before it is used
        assert trip.client.method is DIRECT

    assert not [s for s in trip.shown if isinstance(s, Stalled)]


async def test_without_a_standby_the_server_is_asked_and_the_loss_is_shown() -> None:
    async with travelling() as trip:
        await trip.ways.ready()
        await asyncio.sleep(15)
        trip.net.cables["ws://fra"][0].reset()
        await trip.echo(b"over the other relay")
        (request,) = [m for m in trip.plane.heard if isinstance(m, CarrierRequest)]
        assert (request.region, request.avoid) == ("fra", ["ws://fra"])

    first, lost, back = trip.shown
    assert isinstance(first, Carried) and isinstance(back, Carried)
    assert isinstance(lost, Stalled)
    assert lost.reason == "the connection to the relay was reset"
    assert (back.where, back.gap_s < 1) == ("ams", True)


async def test_a_relay_that_will_restart_is_left_before_it_does() -> None:
    async with travelling() as trip:
        await trip.ways.ready()
        await asyncio.sleep(15)
        await trip.net.cables["ws://fra"][0].right.send(encode_word(Restarting()))
        await asyncio.sleep(1)
        assert [c.where for c in trip.client.carriers().values()] == ["ams"]
        await trip.echo(b"moved")

    assert [type(s) for s in trip.shown] == [Carried, Carried]


async def test_a_path_that_swallows_everything_is_left_within_seconds() -> None:
    async with travelling() as trip:
        await trip.ways.ready()
        await asyncio.sleep(15)
        trip.net.cables["ws://fra"][0].go_silent()
        began = trip.loop.time()
        await trip.echo(b"resent")
        assert trip.loop.time() - began < 6

    lost = trip.shown[1]
    assert isinstance(lost, Stalled)
    assert lost.reason == "no answer"


async def test_after_sleep_or_a_new_network_it_is_left_within_two_seconds() -> None:
    async with travelling() as trip:
        await trip.ways.ready()
        await asyncio.sleep(15)
        trip.net.cables["ws://fra"][0].go_silent()
        trip.ways.disturbed()
        began = trip.loop.time()
        await trip.echo(b"resent")
        assert trip.loop.time() - began < 2.5


async def test_no_carrier_at_all_is_one_sentence() -> None:
    async with travelling(
        answer=denies(code="relay_unavailable", message=""),
        fails={"ws://fra": DialFailed("nothing listens at fra")},
    ) as trip:
        with pytest.raises(Failure) as failed:
            await trip.ways.ready()
        assert str(failed.value) == (
            f"the relay ws://fra could not be used (nothing listens at fra); {LOOK_INTO_IT}"
        )
        assert trip.loop.time() < 25


async def test_what_the_relay_was_told_to_say_ends_the_attempt_at_once() -> None:
    declined = DialFailed("the agent already serves 256 connections", cause="agent.declined")
    async with travelling(fails={"ws://fra": declined}) as trip:
        began = trip.loop.time()
        with pytest.raises(Failure, match="the agent already serves 256 connections"):
            await trip.ways.ready()
        assert trip.loop.time() - began < 1


async def test_a_tunnel_that_is_over_ends_with_the_servers_cause() -> None:
    async with travelling(
        answer=denies(
            code="tunnel_over",
            message="The workspace was stopped.",
            cause="workspace.stopped",
            actor="user:bob",
        )
    ) as trip:
        await trip.ways.ready()
        trip.net.cables["ws://fra"][0].reset()
        await asyncio.sleep(5)
        assert trip.over == [
            Over("tunnel_over", "The workspace was stopped.", "workspace.stopped", "user:bob")
        ]


async def test_whoever_is_turned_away_by_the_server_keeps_what_is_up_and_seeks_no_more() -> None:
    async with travelling() as trip:
        await trip.ways.ready()
        await asyncio.sleep(15)
        trip.ways.word(TurnedAway("this token was revoked"))
        await trip.echo(b"still here")
        trip.net.cables["ws://fra"][0].reset()
        await asyncio.sleep(5)
        assert trip.over == [Over("turned_away", "this token was revoked")]


async def test_the_control_link_may_go_and_come_meanwhile() -> None:
    async with travelling() as trip:
        await trip.ways.ready()
        await asyncio.sleep(15)
        trip.plane.refuses = DialFailed("the server is away")
        trip.plane.cables[0].reset()
        trip.net.cables["ws://fra"][0].reset()
        trip.loop.call_later(30, setattr, trip.plane, "refuses", None)
        began = trip.loop.time()
        await trip.echo(b"at last")
        assert 30 < trip.loop.time() - began < 42


def coordinates(message: Message, driver: LinkDriver) -> None:
    """A server that grants no further carrier, and whose coordinator knows of a new endpoint."""
    match message:
        case CoordinateOpen():
            driver.send(CoordinateOpened(peer_id="p"))
        case Coordinate(add_tunnel="w"):
            node = Node(id="w", as_of=1.0, endpoints=["10.0.0.9:1"])
            driver.send(PeerUpdates(updates=[PeerUpdate(id="w", kind=PeerWord.NODE, node=node)]))
        case _:
            denies(code="relay_unavailable", message="")(message, driver)


async def test_an_agent_that_can_be_dialled_elsewhere_is_followed_without_a_new_grant() -> None:
    async with travelling("10.0.0.1:1", answer=coordinates, fails=NOBODY) as trip:
        await trip.ways.ready()
        trip.plane.control.coordinate("w", "")
        await asyncio.sleep(5)
        assert trip.client.method is DIRECT
        await trip.echo(b"over the new endpoint")
        assert not [m for m in trip.plane.heard if isinstance(m, CarrierRequest)]
        loss = PeerUpdate(id="w", kind=PeerWord.LOST, reason="lost", cause="agent.vanished")
        trip.plane.servers[0].driver.send(PeerUpdates(updates=[loss]))
        await asyncio.sleep(3600)
        await trip.echo(b"an agent that the server has lost is carried on")

    importlib.import_module(
        "tether.client.control.coordination"
    )  # else in a thread, which knows real time only
    shown = trip.shown
    assert [s.where for s in shown if isinstance(s, Carried)] == ["fra", "10.0.0.9:1"]


async def test_a_loss_that_the_server_knows_of_too_is_shown_as_such() -> None:
    async with travelling(answer=denies(code="relay_unavailable", message="")) as trip:
        await trip.ways.ready()
        await asyncio.sleep(15)
        trip.ways.word(AgentLost(True))  # no trouble of the tunnel's so far
        trip.ways.word(AgentLost(False))
        trip.net.cables["ws://fra"][0].reset()
        await asyncio.sleep(1)
        trip.ways.word(AgentLost(True))
        trip.ways.word(AgentLost(False))

    _, *lost = trip.shown
    reset = "the connection to the relay was reset"
    assert [one.reason for one in lost if isinstance(one, Stalled)] == [
        reset,
        f"{reset}; the server has lost it, too",
        reset,
    ]


NOBODY = {"10.0.0.1:1": DialFailed("nothing listens at 10.0.0.1:1")}


async def test_nothing_is_left_behind_by_a_tunnel_that_is_closed_while_it_is_dialled() -> None:
    async with travelling("10.0.0.1:1", "10.0.0.2:1") as trip:
        await asyncio.sleep(0.005)

    assert trip.net.cables == {}


@pytest.mark.parametrize(
    ("fact", "words", "blames_the_relay"),
    [
        (
            ev.StreamEnded(vantage=Vantage.CLIENT, at=1.0, peer=Party.RELAY, how=StreamEnd.EOF),
            "the relay went away",
            True,
        ),
        (
            ev.StreamEnded(vantage=Vantage.RELAY, at=1.0, peer=Party.AGENT, how=StreamEnd.RESET),
            "the connection to the workspace was reset",
            False,
        ),
        (
            ev.GoodbyeSaid(vantage=Vantage.RELAY, at=1.0, by=Party.RELAY, cause="server.shutdown"),
            "the relay is stopping",
            True,
        ),
        (
            ev.ProtocolViolated(vantage=Vantage.CLIENT, at=1.0, by=Party.RELAY, what="x"),
            "the relay meddled with the connection",
            True,
        ),
        (
            ev.StreamEnded(
                vantage=Vantage.RELAY,
                at=1.0,
                peer=Party.AGENT,
                how=StreamEnd.CLOSED,
                close_code=FORGED_CODE,
            ),
            "the workspace closed the connection",
            True,
        ),
    ],
)
def test_the_end_of_a_carrier_in_a_few_words(
    fact: ev.Evidence, words: str, blames_the_relay: bool
) -> None:
    assert (why_lost(fact), by_the_relay(fact)) == (words, blames_the_relay)


def test_every_way_to_stop_has_words() -> None:
    for how in StreamEnd:
        fact = ev.StreamEnded(vantage=Vantage.CLIENT, at=1.0, peer=Party.RELAY, how=how)
        assert why_lost(fact)
