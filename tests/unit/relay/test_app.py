"""What a relay answers at its port: to legs, and to whoever runs it."""

from __future__ import annotations

import asyncio
import json

import pytest
import structlog

from tests.support.deadline import DEADLINE_S
from tests.support.relay import Site, site
from tether.attribution.vocabulary import Party
from tether.net.transport.streams import DialFailed
from tether.net.tunnel.relay_dial import dial_relay
from tether.protocol.derp.pairing import CarrierId

# -- whoever runs it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [("/healthz", b'{"status":"ok"}'), ("/readyz", b'{"status": "ok", "warnings": []}')],
)
async def test_a_relay_that_knows_who_signs_tickets_is_well_and_ready(
    path: str, body: bytes
) -> None:
    async with site() as here:
        assert await here.get(path) == (200, "application/json", body)


async def test_a_relay_that_does_not_know_who_signs_is_well_and_not_ready() -> None:
    async with site(registers=False) as here:
        status, _, body = await here.get("/readyz")
        assert (status, json.loads(body)["error"]["code"]) == (503, "not_ready")
        assert (await here.get("/healthz"))[0] == 200


async def test_its_numbers_are_prometheus_text() -> None:
    async with site() as here:
        status, kind, body = await here.get("/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert b"tether_relay_bytes_total 0.0\n" in body


@pytest.mark.parametrize("path", ["/", "/api/v1/connections", "/derp"])
async def test_there_is_no_page_elsewhere(path: str) -> None:
    async with site() as here:
        status, _, body = await here.get(path)
    assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")


# -- legs ---------------------------------------------------------------------------------------


async def refusal(here: Site, ticket: str, path: str = "/derp") -> tuple[int, str]:
    with pytest.raises(DialFailed) as refused:
        await dial_relay(here.url(path), ticket)
    return refused.value.status, refused.value.cause


async def test_both_legs_with_good_tickets_are_joined() -> None:
    async with site() as here:
        client, agent = await here.join("c1")
        await client.send(b"through")
        assert await asyncio.wait_for(agent.recv(), DEADLINE_S) == b"through"
        assert here.relay.living() == [CarrierId("c1", 1)]


async def test_a_bad_ticket_is_refused_before_the_upgrade_and_logged_without_it() -> None:
    async with site() as here:
        ticket = here.ticket(Party.CLIENT, region="fra")
        with structlog.testing.capture_logs() as lines:
            assert await refusal(here, ticket) == (401, "ticket_invalid")
    (line,) = [line for line in lines if line["event"] == "leg refused"]
    assert (line["code"], line["client_ip"]) == ("ticket_invalid", "127.0.0.1")
    assert ticket not in str(lines)


async def test_a_relay_that_does_not_know_who_signs_asks_legs_to_come_again() -> None:
    async with site(registers=False) as here:
        assert await refusal(here, here.ticket(Party.CLIENT)) == (503, "relay_busy")


async def test_a_leg_elsewhere_is_told_where_legs_are_dialled() -> None:
    async with site() as here:
        assert await refusal(here, here.ticket(Party.CLIENT), "/relay") == (
            404,
            "websocket_not_found",
        )
