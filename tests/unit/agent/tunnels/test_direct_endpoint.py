"""Where an agent listens for direct carriers, and what it offers."""

from __future__ import annotations

import pytest

from tether.agent.tunnels.direct_endpoint import (
    DirectEndpoint,
    DirectSettings,
    listen_at,
)
from tether.net.transport.direct import DirectStream
from tether.net.transport.tcp import NoAddress
from tether.protocol.messages.coordination import TRIED_ENDPOINTS
from tether.protocol.tunnel.join import Join

pytestmark = pytest.mark.anyio


async def nobody(stream: DirectStream, attach: Join, raw: bytes) -> None:
    pass


@pytest.mark.parametrize(
    ("listen", "url", "expected"),
    [
        ("", "http://127.0.0.1:7080", ("127.0.0.1", 0)),
        ("", "http://[::1]:7080", ("127.0.0.1", 0)),
        ("", "http://localhost:7080", ("127.0.0.1", 0)),
        ("", "https://tether.example.com", ("", 0)),
        ("off", "https://tether.example.com", None),
        ("0.0.0.0:4000", "http://127.0.0.1:7080", ("", 4000)),
        ("[::]:0", "http://127.0.0.1:7080", ("", 0)),
        ("192.0.2.1:4000", "http://127.0.0.1:7080", ("192.0.2.1", 4000)),
    ],
)
def test_an_agent_listens_where_its_clients_are(
    listen: str, url: str, expected: tuple[str, int] | None
) -> None:
    assert listen_at(DirectSettings(listen=listen), url) == expected


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        (DirectSettings(listen="4000"), "--direct-listen"),
        (DirectSettings(listen=":0"), "--direct-listen"),
        (DirectSettings(external=("example.com",)), "--external-address"),
    ],
)
def test_what_is_no_address_is_said_with_its_option(settings: DirectSettings, option: str) -> None:
    with pytest.raises(NoAddress, match=option):
        listen_at(settings, "http://127.0.0.1:1")


async def test_endpoints_are_offered_once_each_bounded_and_as_they_are_now() -> None:
    addresses = ["192.0.2.1", "2001:db8::1", "192.0.2.1"]
    door = DirectEndpoint(
        DirectSettings(listen="0.0.0.0:0", external=("gw.example.com:4000",)),
        "https://tether.example.com",
        nobody,
        addresses=lambda: addresses,
    )
    try:
        assert door.open
        port = door.endpoints()[0].rpartition(":")[2]
        assert door.endpoints() == [
            f"192.0.2.1:{port}",
            f"[2001:db8::1]:{port}",
            "gw.example.com:4000",
        ]
        addresses[:] = [f"192.0.2.{number}" for number in range(100)]
        assert len(door.endpoints()) == TRIED_ENDPOINTS
    finally:
        await door.close()


async def test_a_loopback_door_offers_itself_only_and_a_closed_one_nothing() -> None:
    door = DirectEndpoint(
        DirectSettings(), "http://127.0.0.1:1", nobody, addresses=lambda: ["192.0.2.1"]
    )
    door.start()
    try:
        (endpoint,) = door.endpoints()
        assert endpoint.startswith("127.0.0.1:")
    finally:
        await door.close()
    off = DirectEndpoint(DirectSettings(listen="off"), "http://127.0.0.1:1", nobody)
    off.start()
    assert (off.open, off.endpoints()) == (False, [])
    await off.close()
