"""A relay's control link: what it registers, what it reports, and that nothing of it ends a carrier."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.support.clock import EPOCH, LoopClock
from tests.support.net.played_server import PlayedServer
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.net.derp.splice import CarrierEnding
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed
from tether.protocol.derp.outbox import RelayLedger
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.link.redial import Dismissed, Outcome, Stopped, TokenRejected
from tether.protocol.messages.base import Message, records_of
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import Goodbye, Hello, WorkspaceStart
from tether.protocol.messages.derp import (
    CarrierReport,
    RelayDrain,
    RelayDraining,
    RelayEnd,
    RelayRegister,
    RelayRegistered,
    RelayReport,
    RelayReportAck,
)
from tether.relay.control import RelayControl, farewell
from tether.version import VERSION

pytestmark = pytest.mark.virtual_time

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
REGISTERED = RelayRegistered(ticket_keys=[base64.b64encode(KEY.public_bytes_raw()).decode()])
LEAVING = farewell("relay.shutdown", "signal:15", EPOCH)
ENDED = ev.StreamEnded(vantage=Vantage.RELAY, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.EOF)
ENDING = CarrierEnding((ENDED,), (), 10, 20)


def report(number: int, at: float) -> CarrierReport:
    """What is told of the end of the n-th carrier, `at` seconds after the test's start."""
    return CarrierReport(
        connection_id=f"t{number}",
        carrier=1,
        at=EPOCH + at,
        facts=records_of((ENDED,)),
        rx_bytes=10,
        tx_bytes=20,
    )


class Owner:
    """The relay, as its control link sees it."""

    def __init__(self) -> None:
        self.keys: list[list[Ed25519PublicKey]] = []
        self.drains: list[bool] = []
        self.asked: list[RelayEnd] = []
        self.carries = ["t1"]

    def registered(self, keys: list[Ed25519PublicKey], *, draining: bool) -> None:
        self.keys.append(keys)
        self.drains.append(draining)

    def drain(self, *, draining: bool) -> None:
        self.drains.append(draining)

    def end(self, asked: RelayEnd) -> None:
        self.asked.append(asked)

    def joined(self) -> list[str]:
        return self.carries


class RelayRig:
    """One relay's control link, and a server that registers it and acknowledges its reports."""

    def __init__(self, *answers: Any) -> None:
        self.acknowledging = True
        self.registering = True
        self.owner = Owner()
        self.server = PlayedServer(Party.RELAY, self._answer)
        self.server.answers = list(answers)
        self.control = RelayControl(
            dial=self.server.dial,
            region="fra",
            url="wss://fra/derp",
            instance_id="run-1",
            hostname="box",
            clock=LoopClock(),
            ledger=RelayLedger(),
            jitter=lambda: 0.0,
        )
        self.tasks = Tasks("rig")
        self.running: asyncio.Task[Outcome] = self.tasks.spawn(
            self.control.run(self.owner), "control"
        )

    def _answer(self, message: Message, driver: LinkDriver) -> None:
        match message:
            case RelayRegister() if self.registering:
                driver.send(REGISTERED)
            case RelayReport(first_seq=first, ended=ended) if ended and self.acknowledging:
                driver.send(RelayReportAck(seq=first + len(ended) - 1))

    async def registered(self, times: int = 1) -> None:
        while len(self.owner.keys) < times:
            await asyncio.sleep(0.01)

    async def end_carrier(self, number: int) -> None:
        await self.control.carrier_ended(CarrierId(f"t{number}", 1), ENDING)

    def reported(self) -> list[CarrierReport]:
        """What the server was told of ends, repetitions included."""
        return [
            one
            for message in self.server.heard
            if isinstance(message, RelayReport)
            for one in message.ended
        ]


@contextlib.asynccontextmanager
async def rig(*answers: Any) -> AsyncIterator[RelayRig]:
    played = RelayRig(*answers)
    try:
        yield played
    finally:
        await played.tasks.cancel()
        await played.server.tasks.cancel()


# -- registering ---------------------------------------------------------------------------


async def test_a_relay_says_who_it_is_and_what_it_carries() -> None:
    async with rig() as relay:
        await relay.registered()
        assert relay.server.heard[:2] == [
            Hello(
                protocol=PROTOCOL,
                role="relay",
                version=VERSION,
                instance_id="run-1",
                hostname="box",
            ),
            RelayRegister(region="fra", url="wss://fra/derp", joined=["t1"]),
        ]
        assert relay.owner.keys == [[KEY]]


async def test_each_link_is_registered_with_what_is_carried_then() -> None:
    async with rig() as relay:
        await relay.registered()
        relay.owner.carries = ["t2", "t3"]
        relay.server.cables[0].reset()
        await relay.registered(2)
        first, second = relay.server.heard_of(RelayRegister)
        assert isinstance(first, RelayRegister) and isinstance(second, RelayRegister)
        assert (first.joined, second.joined) == (["t1"], ["t2", "t3"])


async def test_a_ticket_key_that_is_none_is_left_out() -> None:
    async with rig() as relay:
        relay.registering = False
        while not relay.server.heard_of(RelayRegister):
            await asyncio.sleep(0.01)
        keys = ["", "nonsense!", base64.b64encode(b"short").decode(), *REGISTERED.ticket_keys]
        with structlog.testing.capture_logs() as lines:
            relay.server.drivers[0].send(RelayRegistered(ticket_keys=keys))
            await relay.registered()
        assert relay.owner.keys == [[KEY]]
        assert [line["event"] for line in lines].count("a ticket key of the server is none") == 3


async def test_the_servers_orders_reach_the_relay() -> None:
    async with rig() as relay:
        await relay.registered()
        order = RelayEnd(
            connection_id="t1", carrier=1, cause="auth.user_revoked", actor="admin:bob"
        )
        for message in (RelayDrain(draining=True), RelayDrain(draining=False), order):
            relay.server.drivers[0].send(message)
        await asyncio.sleep(1)
        assert (relay.owner.drains, relay.owner.asked) == ([False, True, False], [order])


async def test_a_message_that_is_not_a_relays_ends_the_link_and_it_is_dialled_again() -> None:
    async with rig() as relay:
        await relay.registered()
        relay.server.drivers[0].send(WorkspaceStart())
        await relay.registered(2)
        (goodbye,) = relay.server.heard_of(Goodbye)
        assert isinstance(goodbye, Goodbye)
        assert (goodbye.cause, goodbye.detail) == (
            "server.protocol_error",
            "a WorkspaceStart message",
        )


# -- reporting -----------------------------------------------------------------------------


async def test_ends_are_reported_once_the_server_has_registered_the_relay() -> None:
    async with rig() as relay:
        relay.registering = False
        await relay.end_carrier(1)
        await asyncio.sleep(5)
        assert relay.reported() == []
        relay.server.drivers[0].send(REGISTERED)
        await relay.registered()
        later = asyncio.get_running_loop().time()
        await relay.end_carrier(2)
        assert await relay.control.flushed(5.0)
        assert relay.reported() == [report(1, 0.0), report(2, later)]


async def test_what_was_not_acknowledged_is_reported_again_on_the_next_link() -> None:
    async with rig() as relay:
        relay.acknowledging = False
        await relay.registered()
        ended_at = asyncio.get_running_loop().time()
        await relay.end_carrier(1)
        await asyncio.sleep(1)
        relay.acknowledging = True
        relay.server.cables[0].reset()
        assert not await relay.control.flushed(0.05), "there is no link"
        await relay.registered(2)
        assert await relay.control.flushed(5.0)
        assert relay.reported() == [report(1, ended_at)] * 2


async def test_a_joined_carrier_is_told_at_once() -> None:
    async with rig() as relay:
        await relay.registered()
        await relay.control.carrier_joined(CarrierId("t9", 1))
        await asyncio.sleep(1)
        (told,) = relay.server.heard_of(RelayReport)
        assert isinstance(told, RelayReport)
        assert (told.joined, told.ended) == (["t9"], [])


async def test_a_server_that_acknowledges_nothing_is_waited_for_so_long_and_no_longer() -> None:
    async with rig() as relay:
        relay.acknowledging = False
        await relay.registered()
        await relay.end_carrier(1)
        began = asyncio.get_running_loop().time()
        assert not await relay.control.flushed(2.0)
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)


# -- draining and leaving --------------------------------------------------------------------


async def test_a_restart_is_announced_on_this_link_and_on_those_that_follow() -> None:
    async with rig() as relay:
        await relay.registered()
        relay.control.draining(5.0)
        await asyncio.sleep(1)
        assert relay.server.heard[-1] == RelayDraining(reconnect_in_s=5.0)
        relay.server.cables[0].reset()
        await relay.registered(2)
        again = relay.server.heard_of(RelayRegister)[-1]
        assert isinstance(again, RelayRegister)
        assert again.draining


async def test_quitting_says_goodbye_and_is_over_when_it_is_heard() -> None:
    async with rig() as relay:
        await relay.registered()
        relay.control.quit(LEAVING)
        await relay.control.over()
        assert await relay.running == Stopped()
        assert relay.server.heard[-1] == Goodbye(cause="relay.shutdown", actor="signal:15")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (
            DialFailed("this relay's token was revoked", status=401, cause="token_revoked"),
            TokenRejected("this relay's token was revoked"),
        ),
        (
            Goodbye(cause="relay.protocol_error", detail="another region", retry_after_s=-1.0),
            Dismissed(
                Goodbye(cause="relay.protocol_error", detail="another region", retry_after_s=-1.0)
            ),
        ),
    ],
    ids=["token", "goodbye"],
)
async def test_a_server_that_does_not_take_the_relay_ends_the_dialling(
    answer: Any, outcome: Outcome
) -> None:
    async with rig(answer) as relay:
        assert await relay.running == outcome
        await relay.control.over()
        assert len(relay.server.dialled_at) == 1


async def test_a_server_that_is_away_is_dialled_again_and_each_failure_is_a_line() -> None:
    with structlog.testing.capture_logs() as lines:
        async with rig(*[DialFailed("nothing listens")] * 3) as relay:
            await relay.registered()
            assert relay.server.waits() == [0.1, 0.2, 0.4]
    failed = [line for line in lines if line["event"] == "failed to dial server"]
    assert [(line["error"], line["retry_in_s"]) for line in failed] == [
        ("nothing listens", 0.1),
        ("nothing listens", 0.2),
        ("nothing listens", 0.4),
    ]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("goodbye", {"how": "goodbye", "by": "server", "cause": "server.shutdown"}),
        ("reset", {"how": "reset", "errno": "ECONNRESET"}),
        ("garbage", {"by": "server"}),
    ],
)
async def test_each_end_of_a_link_is_one_line(fault: str, told: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as lines:
        async with rig() as relay:
            await relay.registered()
            match fault:
                case "goodbye":
                    relay.server.drivers[0].leave("server.shutdown")
                case "reset":
                    relay.server.cables[0].reset()
                case _:
                    relay.server.drivers[0].send_data(b"\xc1")
            await relay.registered(2)
    line, _ = [line for line in lines if line["event"] == "disconnected from server"]
    assert told.items() <= line.items()
    assert line["retry_in_s"] == 0.1
