"""No exception ends a program or a session: each is raised at each await, and what runs runs on.

Every class of `tests.support.faults` is raised in place of what a dial, a greeting, a read, a write and
a close do, at the control links of agents, clients and relays, at the carriers of tunnels (both ends),
and at a relay's legs; `server/test_link_faults.py` does the same at the server's end of control links.
`COVERED` says how many that are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from tests.support.clock import LoopClock
from tests.support.faults import A_FEW, CLASSES, FAULTS, ONE_OF_EACH
from tests.support.net.cable import Cable
from tests.support.net.played_server import PlayedServer
from tests.support.net.tunnels import KEY_TEXT, Joined, client_over, direct, resumable
from tests.support.server.control_plane import GRANT, FakeControlPlane, grants
from tether.agent.control.link import AgentControl, ServerCommand
from tether.agent.journal.journal import Journal
from tether.agent.journal.previous_run import RunMarker
from tether.agent.tunnels.manager import SshServing, Tunnels
from tether.attribution.vocabulary import Party
from tether.client.carriers import CarrierManager
from tether.client.control.link import ClientControl
from tether.net.derp.metrics import RelayCounts
from tether.net.derp.relay import Relay
from tether.net.derp.splice import CarrierEnding
from tether.net.derp.tickets import Ticket
from tether.net.link.dialer import Dialer
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.net.transport.streams import MessageStream, StreamLost
from tether.net.transport.ws_server import ServerStream
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.derp.outbox import RelayLedger
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import Hello, Ping, Welcome
from tether.protocol.messages.derp import RelayRegistered
from tether.protocol.messages.tunnel import (
    CarrierOffer,
    OfferDeclined,
    TunnelGrant,
    TunnelOffer,
    TunnelRequest,
)
from tether.relay.control import RelayControl

pytestmark = pytest.mark.virtual_time

COVERED: dict[str, int] = {}
"""Awaits × exceptions that were raised, by program."""


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of tracebacks help nobody."""
    caplog.set_level(logging.CRITICAL)


@pytest.fixture(scope="module", autouse=True)
def _tell_what_was_covered() -> Any:
    yield
    total = sum(COVERED.values())
    print(f"\n{len(CLASSES)} classes, {len(FAULTS)} exceptions; raised: {COVERED}, in all {total}")


def covered(program: str, awaits: int, exceptions: int) -> None:
    """Note what a test has raised, each of `exceptions` at each of `awaits`."""
    COVERED[program] = COVERED.get(program, 0) + awaits * exceptions
    assert exceptions in (len(A_FEW), len(FAULTS))


@pytest.fixture(
    params=[pytest.param(A_FEW, id="a-few"), pytest.param(FAULTS, id="all", marks=pytest.mark.long)]
)
def faults(request: pytest.FixtureRequest) -> tuple[Exception, ...]:
    """What is raised: a few in the ordinary run, and everything in `make lab`."""
    given: tuple[Exception, ...] = request.param
    return given


def test_the_libraries_are_asked_for_all_that_they_can_raise() -> None:
    untold = {kind.__name__ for kind in CLASSES} - {type(one).__name__ for one in ONE_OF_EACH}
    assert len(ONE_OF_EACH) > 200
    assert untold <= {"ProcessError"}, "of asyncssh's client processes, which we do not use"


# -- control links ---------------------------------------------------------------------------------


class BrokenServer(PlayedServer):
    """A played server whose next cable may raise what the test wishes."""

    def __init__(self, peer: Party, on_message: Callable[[Message, LinkDriver], None]) -> None:
        super().__init__(peer, on_message)
        self.next_raises: dict[str, Exception] = {}

    async def dial(self) -> MessageStream:
        stream = await super().dial()
        self.cables[-1].left.raises, self.next_raises = self.next_raises, {}
        return stream


AWAITS = ("dial", "greet-write", "greet-read", "read", "write", "close")


class Linked:
    """A control of one of the programs, its dialer, and its server."""

    def __init__(self, server: BrokenServer, dialer: Dialer, running: asyncio.Task[Any]) -> None:
        self.server = server
        self.dialer = dialer
        self.running = running

    async def up(self) -> LinkDriver:
        """The link that is up, once one is."""
        while True:
            assert not self.running.done(), self.running
            link = self.dialer.link
            if link is not None and link.welcome is not None and link.driver.is_open:
                return link.driver
            await asyncio.sleep(0.05)

    async def survives(self, wrong: Exception, where: str) -> None:
        """Raise `wrong` at this await; another link comes up after it."""
        before = await self.up()
        cable, ours = self.server.cables[-1], self.server.drivers[-1]
        match where:
            case "dial":
                self.server.answers = [wrong]
                cable.reset()
            case "greet-write" | "greet-read":
                self.server.next_raises = {"send" if where == "greet-write" else "recv": wrong}
                cable.reset()
            case "read" | "write":
                cable.left.raises = {"recv" if where == "read" else "send": wrong}
                ours.send(Ping(n=1))
            case "close":
                cable.left.raises = {"close": wrong}
                ours.leave("server.shutdown")
        while await self.up() is before:
            await asyncio.sleep(0.05)


class AgentOwner:
    """An agent with nothing to do."""

    async def hello(self) -> Hello:
        return Hello(protocol=PROTOCOL, role="agent", version="1", instance_id="run-1")

    def welcomed(self, welcome: Welcome) -> None:
        """See `ControlOwner`."""

    def commanded(self, command: ServerCommand) -> None:
        """See `ControlOwner`."""


class RelayOwner:
    """A relay that carries nothing."""

    def registered(self, keys: list[Any], *, draining: bool) -> None:
        """See `tether.relay.control.RelayOwner`."""

    def drain(self, *, draining: bool) -> None:
        """See `registered`."""

    def end(self, asked: Any) -> None:
        """See `registered`."""

    def joined(self) -> list[str]:
        return []


@contextlib.asynccontextmanager
async def agent_link(tmp_path: Path) -> AsyncIterator[Linked]:
    server, clock, tasks = BrokenServer(Party.AGENT, lambda *_: None), LoopClock(), Tasks("agent")
    run = RunMarker(instance_id="run-1", boot_id="b", pid=1, started_at=0.0)
    journal, _ = await Journal.open(tmp_path / "j.db", run, clock=clock, owed=lambda _: ())
    control = AgentControl(dial=server.dial, journal=journal, clock=clock, jitter=lambda: 0.0)
    try:
        running = tasks.spawn(control.run(AgentOwner()), "control")
        yield Linked(server, control._dialer, running)
    finally:
        await tasks.cancel()
        await server.tasks.cancel()
        await journal.close()


@contextlib.asynccontextmanager
async def client_link(tmp_path: Path) -> AsyncIterator[Linked]:
    def answer(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, TunnelRequest):
            driver.send(GRANT)

    server = BrokenServer(Party.CLIENT, answer)
    control = ClientControl(server.dial, LoopClock(), jitter=lambda: 0.0)
    await control.connect()
    await control.request_tunnel("dev", "key")
    assert control._keeping is not None
    try:
        yield Linked(server, control._dialer, control._keeping)
    finally:
        await control._tasks.cancel()
        await server.tasks.cancel()


@contextlib.asynccontextmanager
async def relay_link(tmp_path: Path) -> AsyncIterator[Linked]:
    server = BrokenServer(
        Party.RELAY, lambda message, driver: driver.send(RelayRegistered(ticket_keys=[]))
    )
    control = RelayControl(
        dial=server.dial,
        region="fra",
        url="wss://fra/derp",
        instance_id="run-1",
        hostname="box",
        clock=LoopClock(),
        ledger=RelayLedger(),
        jitter=lambda: 0.0,
    )
    tasks = Tasks("relay")
    try:
        running = tasks.spawn(control.run(RelayOwner()), "control")
        yield Linked(server, control._dialer, running)
    finally:
        await tasks.cancel()
        await server.tasks.cancel()


@pytest.mark.parametrize("where", AWAITS)
@pytest.mark.parametrize("program", [agent_link, client_link, relay_link])
async def test_no_exception_ends_the_control_link_of_a_program_for_good(
    program: Any, where: str, tmp_path: Path, faults: tuple[Exception, ...]
) -> None:
    async with program(tmp_path) as linked:
        for wrong in faults:
            await linked.survives(wrong, where)
    covered(program.__name__, 1, len(faults))


# -- carriers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("party", [Party.CLIENT, Party.AGENT])
@pytest.mark.parametrize("where", ["send", "recv", "close"])
async def test_no_exception_of_a_carrier_costs_a_byte_of_its_tunnel(
    where: str, party: Party, faults: tuple[Exception, ...]
) -> None:
    for wrong in faults:
        joined = Joined(LoopClock())
        cable = joined.relay(1)
        end = cable.left if party is Party.CLIENT else cable.right
        await joined.client.send(b"before")
        assert await joined.agent.recv() == b"before"
        end.raises = {where: wrong}
        if where == "close":
            cable.reset()
        await joined.client.send(b"there")
        await joined.agent.send(b"back")
        await asyncio.sleep(1)
        joined.relay(2)
        assert (await joined.agent.recv(), await joined.client.recv()) == (b"there", b"back")
        await joined.close()
    covered(f"{party} carriers", 1, len(faults))


class Ways:
    """A `Dialler` whose relay raises what the test wishes, and whose endpoint works."""

    def __init__(self, wrong: Exception, agent: TunnelStream) -> None:
        self._wrong = wrong
        self._agent = agent

    async def relay(self, url: str, ticket: str, small_segments: bool) -> MessageStream:
        raise self._wrong

    async def direct(self, endpoint: str, small_segments: bool) -> MessageStream:
        await asyncio.sleep(0.1)
        cable = Cable()
        self._agent.add(direct(2, cable.right, Party.CLIENT))
        return cable.left


async def test_no_exception_of_a_dial_keeps_a_client_from_its_other_ways(
    faults: tuple[Exception, ...],
) -> None:
    for wrong in faults:
        plane = FakeControlPlane(grants)
        client, agent = resumable(Party.CLIENT, LoopClock()), resumable(Party.AGENT, LoopClock())
        grant = TunnelGrant(
            request_id=1,
            connection_id="c1",
            relay_url="ws://fra",
            ticket="t",
            region="fra",
            workspace_id="w",
            workspace="dev",
            host_key="k",
            tunnel_key=KEY_TEXT,
            endpoints=["a:1"],
        )
        ways = CarrierManager(
            grant,
            client,
            plane.control,
            clock=LoopClock(),
            dialler=Ways(wrong, agent),
            jitter=lambda: 0.0,
        )
        ways.start()
        await ways.ready()
        await client.send(b"there")
        assert await agent.recv() == b"there"
        await ways.close()
        await asyncio.gather(client.close(1001, ""), agent.close(1001, ""))
        await plane.tasks.cancel()
    covered("client dials of carriers", 1, len(faults))


class Echo:
    """Serves a tunnel by sending back what comes."""

    async def serve(self, stream: TunnelStream, offer: TunnelOffer) -> Any:
        while True:
            await stream.send(await stream.recv())


async def test_no_exception_of_a_dial_harms_a_tunnel_that_the_agent_serves(
    tmp_path: Path, faults: tuple[Exception, ...]
) -> None:
    clock, raises = LoopClock(), list[Exception]()
    run = RunMarker(instance_id="run-1", boot_id="b", pid=1, started_at=0.0)
    journal, _ = await Journal.open(tmp_path / "j.db", run, clock=clock, owed=lambda _: ())
    cable = Cable()

    async def dial(url: str, ticket: str, small: bool) -> MessageStream:
        if raises:
            raise raises[-1]
        return cable.left

    serving = cast(SshServing, Echo())
    tunnels = Tunnels(ssh=serving, journal=journal, clock=clock, dial=dial)
    offer = TunnelOffer(
        connection_id="c1",
        relay_url="relay",
        ticket="t",
        user="alice",
        public_key="",
        tunnel_key=KEY_TEXT,
        region="eu",
    )
    declined: list[OfferDeclined] = []
    tunnels.offered(offer, declined.append)
    client = client_over(cable.right, clock)
    await client.send(b"first")
    assert await client.recv() == b"first"
    for number, wrong in enumerate(faults, 2):
        raises.append(wrong)
        tunnels.carrier_offered(
            CarrierOffer(connection_id="c1", carrier=number, relay_url="relay", ticket="t"),
            declined.append,
        )
        await client.send(b"%d" % number)
        assert await client.recv() == b"%d" % number
    assert [one.carrier for one in declined] == list(range(2, 2 + len(faults)))
    await client.close(1000, "")
    await tunnels._tasks.cancel()
    await journal.close()
    covered("agent dials of carriers", 1, len(faults))


# -- a relay's legs --------------------------------------------------------------------------------


class Told:
    """A `CarrierLog` that fails, too."""

    async def carrier_joined(self, carrier: CarrierId) -> None:
        raise KeyError(carrier)

    async def carrier_ended(self, carrier: CarrierId, ending: CarrierEnding) -> None:
        raise KeyError(carrier)


class Pair:
    """Both legs of one carrier at a relay, seen from outside."""

    def __init__(self, relay: Relay, connection_id: str, tasks: Tasks) -> None:
        self.cables = {party: Cable() for party in (Party.CLIENT, Party.AGENT)}
        self.served = [
            tasks.spawn(
                relay.serve(cast(ServerStream, cable.right), Ticket(connection_id, party)), "leg"
            )
            for party, cable in self.cables.items()
        ]

    async def joined(self) -> None:
        for cable in self.cables.values():
            assert "paired" in str(await cable.left.recv())

    async def carries(self) -> None:
        client, agent = self.cables.values()
        await client.left.send(b"there")
        assert await agent.left.recv() == b"there"
        await agent.left.send(b"back")
        assert await client.left.recv() == b"back"


@pytest.mark.parametrize("party", [Party.CLIENT, Party.AGENT])
@pytest.mark.parametrize("where", ["send", "recv", "close"])
async def test_no_exception_of_a_leg_harms_another_carrier_of_its_relay(
    where: str, party: Party, faults: tuple[Exception, ...]
) -> None:
    relay = Relay(log=Told(), clock=LoopClock(), counts=RelayCounts(CollectorRegistry()))
    tasks = Tasks("legs")
    healthy = Pair(relay, "healthy", tasks)
    await healthy.joined()
    for number, wrong in enumerate(faults):
        pair = Pair(relay, f"c{number}", tasks)
        await pair.joined()
        pair.cables[party].right.raises = {where: wrong}
        if where == "close":
            pair.cables[party].die(pair.cables[party].left)
        for cable in pair.cables.values():
            with contextlib.suppress(StreamLost):
                await cable.left.send(b"x")
        await asyncio.wait_for(asyncio.gather(*pair.served), 200)
        await healthy.carries()
    assert len(relay) == 1
    await tasks.cancel()
    await relay.aclose()
    covered("relay legs", 1, len(faults))
