"""Accepting a leg: with a good ticket it is served, without one it is told why and counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from tests.support.clock import HandClock
from tether.attribution.vocabulary import Party
from tether.net.clock import SystemClock
from tether.net.derp.accept import accept_leg
from tether.net.derp.metrics import RelayCounts
from tether.net.derp.relay import Relay
from tether.net.derp.splice import CarrierEnding
from tether.net.derp.tickets import TICKET_LIFE_S, TicketGate, Tickets
from tether.net.tasks import Tasks
from tether.net.transport.http_server import HttpServer, bind
from tether.net.transport.streams import DialFailed
from tether.net.transport.ws_server import ServerStream, bearer, error_body
from tether.net.tunnel.relay_dial import dial_relay
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.derp import RelayGoodbye

KEY = Ed25519PrivateKey.generate()


class NoLog:
    """A `CarrierLog` that nobody reads."""

    async def carrier_joined(self, carrier: CarrierId) -> None: ...

    async def carrier_ended(self, carrier: CarrierId, ending: CarrierEnding) -> None: ...


@dataclass
class Site:
    """A relay on a free port, and the server that mints its tickets."""

    clock: HandClock
    tickets: Tickets
    registry: CollectorRegistry
    url: str

    def ticket(self, leg: Party) -> str:
        return self.tickets.mint(CarrierId("c1"), leg, "here")

    def refused(self, reason: str) -> float | None:
        return self.registry.get_sample_value("tether_relay_legs_refused_total", {"reason": reason})


@contextlib.asynccontextmanager
async def site(**gate: Any) -> AsyncIterator[Site]:
    clock, registry = HandClock(), CollectorRegistry()
    relay = Relay(log=NoLog(), clock=SystemClock(), counts=RelayCounts(registry))
    door = TicketGate("here", clock, [KEY.public_key()], **gate)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = ServerStream(scope, receive, send)

        async def refuse(status: int, code: str, message: str) -> None:
            await stream.refuse(status, error_body(code, message))

        await accept_leg(
            stream, bearer(scope), gate=door, relay=relay, client_ip="192.0.2.1", refuse=refuse
        )

    listener, sock, tasks = HttpServer(app), bind("127.0.0.1", 0), Tasks("site")
    serving = tasks.spawn(listener.serve(sockets=[sock]), "listener")
    await listener.wait_started()
    try:
        url = f"ws://127.0.0.1:{sock.getsockname()[1]}/derp"
        yield Site(clock, Tickets(KEY, clock), registry, url)
    finally:
        relay.stop(RelayGoodbye(cause="server.shutdown"))
        listener.should_exit = True
        await serving
        await relay.aclose()


async def failure(here: Site, token: str) -> tuple[int, str, bool]:
    with pytest.raises(DialFailed) as failed:
        await dial_relay(here.url, token)
    return failed.value.status, failed.value.cause, failed.value.fatal


async def test_two_legs_with_good_tickets_are_joined() -> None:
    async with site() as here:
        tickets = [here.ticket(leg) for leg in (Party.CLIENT, Party.AGENT)]
        client, agent = await asyncio.gather(*(dial_relay(here.url, one) for one in tickets))
        await client.send(b"hello")
        assert await agent.recv() == b"hello"
        await client.close(1000, "")
        await agent.close(1000, "")


async def test_a_ticket_that_is_not_good_is_refused_for_good_and_counted() -> None:
    async with site() as here:
        late = here.ticket(Party.CLIENT)
        here.clock.mono = TICKET_LIFE_S
        assert await failure(here, late) == (401, "ticket_expired", True)
        assert await failure(here, "made up") == (401, "ticket_invalid", True)
        assert [here.refused(why) for why in ("ticket_expired", "ticket_invalid")] == [1.0, 1.0]


async def test_a_relay_that_is_busy_may_be_asked_again() -> None:
    async with site(capacity=0) as here:
        assert await failure(here, here.ticket(Party.CLIENT)) == (503, "relay_busy", False)
        assert here.refused("relay_busy") == 1.0
