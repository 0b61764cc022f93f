"""TCP: small segments where they are asked for, and the kernel's counters, absent where it has none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.net.ws import raw_server, serving
from tether.attribution.evidence import TcpCounters
from tether.attribution.vocabulary import DialStage, Party, Vantage
from tether.net.transport import tcp
from tether.net.transport.streams import DialFailed
from tether.net.transport.tcp import (
    KEEPALIVE_COUNT,
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    SMALL_SEGMENT,
    NoAddress,
    connect_tcp,
    connect_tcp_blocking,
    counters_fact,
    is_lossy,
    join_address,
    read_tcp_info,
    set_keepalive,
    split_address,
)
from tether.net.transport.ws_client import dial

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")


def segment(sock: socket.socket) -> int:
    counters = read_tcp_info(sock)
    assert counters is not None
    return counters["snd_mss"]


@pytest.mark.parametrize("small", [True, False])
async def test_both_ends_agree_on_what_the_dialler_asks_for(small: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        ours = await connect_tcp(*listener.getsockname(), small_segments=small)
        theirs, _ = await asyncio.get_running_loop().sock_accept(listener)
        with ours, theirs:
            sizes = [segment(ours) <= SMALL_SEGMENT, segment(theirs) <= SMALL_SEGMENT]
    assert sizes == [small, small]


async def test_the_last_address_that_fails_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await connect_tcp(*address, small_segments=True)


# -- addresses that lead nowhere ------------------------------------------------------------------

V6, V4 = socket.AF_INET6, socket.AF_INET

names_can_be_made_up = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"]
)
"""uvloop asks the resolver by itself."""


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """An address whose kernel answers no SYN: the backlog of its listener is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(V6))
        listener.bind(("::1", 0))
        listener.listen(0)
        address = listener.getsockname()[:2]
        for _ in range(4):
            filling = stack.enter_context(socket.socket(V6))
            filling.setblocking(False)
            filling.connect_ex(address)
        yield address


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Gives `many.example` its addresses."""
    known: list[tuple[str, int]] = []
    stock = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host != "many.example":
            return stock(host, port, *more, **options)
        return [found for each in known for found in stock(*each, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield lambda *addresses: known.extend(addresses)
    tcp._worked.pop("many.example", None)


def test_the_families_are_tried_in_turn() -> None:
    found = [(V6, "a"), (V6, "b"), (V6, "c"), (V4, "d")]
    in_turn = [address for _, address in tcp.in_turn(found)]
    assert in_turn == ["a", "d", "b", "c"]
    assert [address for _, address in tcp.in_turn(found, first=V4)] == ["d", "a", "b", "c"]
    assert [address for _, address in tcp.in_turn(found[:1], first=V4)] == ["a"]


@names_can_be_made_up
async def test_an_address_that_leads_nowhere_holds_up_no_other(
    name: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tether.dial")
    with black_hole() as nowhere, socket.create_server(("127.0.0.1", 0)) as listener:
        name(nowhere, listener.getsockname())
        (await connect_tcp("many.example", 0)).close()
        told = "many.example was reached, but not at ::1: it did not answer in time"
        assert caplog.messages == [told]
        (
            await connect_tcp("many.example", 0)
        ).close()  # the family that worked is the first one now
        assert caplog.messages == [told]
        assert await tcp.family_of("many.example", 0) == V4


def test_programs_without_a_loop_do_the_same(name: Callable[..., None]) -> None:
    with black_hole() as nowhere, socket.create_server(("127.0.0.1", 0)) as listener:
        name(nowhere, listener.getsockname())
        with connect_tcp_blocking(("many.example", 0), DEADLINE_S) as sock:
            assert (sock.family, sock.gettimeout()) == (V4, DEADLINE_S)


@names_can_be_made_up
async def test_a_name_with_one_family_costs_no_connection(name: Callable[..., None]) -> None:
    name(("127.0.0.1", 1))
    assert await tcp.family_of("many.example", 0) == socket.AF_UNSPEC


@names_can_be_made_up
async def test_a_websocket_is_dialled_by_the_address_that_answers(
    name: Callable[..., None],
) -> None:
    async with serving() as server:
        parts = urlsplit(server.url)
        with black_hole() as nowhere:
            name(nowhere, (parts.hostname, parts.port))
            stream = await dial("ws://many.example:9/ws", token="t", max_size=1 << 20)
            await stream.close(1000, "")


async def test_a_websocket_with_small_segments_is_one_like_any_other() -> None:
    async with serving() as server:
        stream = await dial(server.url, token="t", max_size=1 << 20, small_segments=True)
        counters = stream.counters()
        assert counters is not None
        assert counters["snd_mss"] <= SMALL_SEGMENT
        await stream.close(1000, "")


async def test_a_redirect_is_followed_with_small_segments_as_without() -> None:
    async with serving() as server:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {server.url}\r\nContent-Length: 0\r\n\r\n"
        async with raw_server(moved.encode()) as first:
            url = f"ws://127.0.0.1:{first.port}/"
            stream = await dial(url, token="t", max_size=1 << 20, small_segments=True)
            counters = stream.counters()
            assert counters is not None
            assert counters["snd_mss"] <= SMALL_SEGMENT
            await stream.close(1000, "")


async def test_a_page_that_answers_instead_of_the_server_is_told_by_its_status() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(page) as portal:
        to_it = f"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{portal.port}/in\r\n\r\n"
        async with raw_server(to_it.encode()) as between:
            with pytest.raises(DialFailed) as raised:
                await dial(
                    f"ws://127.0.0.1:{between.port}/", token="t", max_size=1, small_segments=True
                )
    assert (raised.value.status, raised.value.stage) == (200, DialStage.HTTP)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as left,
    ):
        right, _ = listener.accept()
        with right:
            yield left, right


def test_a_live_tcp_socket_tells(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    left.sendall(b"x")
    assert right.recv(1) == b"x"
    counters = read_tcp_info(left)
    assert counters is not None
    assert counters["pmtu"] >= 1280
    assert counters["rtt_us"] > 0
    assert counters["last_ack_recv_ms"] < 10_000
    assert (counters["retransmits"], counters["probes"], counters["total_retrans"]) == (0, 0, 0)


def test_the_counters_are_those_of_the_fact(pair: tuple[socket.socket, socket.socket]) -> None:
    fact = counters_fact(read_tcp_info(pair[0]), vantage=Vantage.SERVER, peer=Party.AGENT, at=5.0)
    assert isinstance(fact, TcpCounters)
    assert (fact.vantage, fact.peer, fact.at) == (Vantage.SERVER, Party.AGENT, 5.0)


def test_a_socket_whose_peer_does_not_read_still_tells(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, _ = pair
    left.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            left.send(b"x" * 65536)
    counters = read_tcp_info(left)
    assert counters is not None
    assert counters["last_data_recv_ms"] < 60_000


def test_a_reset_socket_still_tells_while_it_is_open(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, right = pair
    right.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    right.close()
    with pytest.raises(ConnectionResetError):
        left.recv(1)
    assert read_tcp_info(left) is not None


def test_what_is_no_tcp_socket_tells_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    left, _ = pair
    left.close()
    unix, other = socket.socketpair()
    with unix, other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        assert [read_tcp_info(s) for s in (None, object(), left, unix, udp)] == [None] * 5
    assert counters_fact(None, vantage=Vantage.AGENT, peer=Party.SERVER, at=1.0) is None


def test_the_kernel_looks_after_an_idle_connection(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, _ = pair
    set_keepalive(left)
    tcp = socket.IPPROTO_TCP
    assert left.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert left.getsockopt(tcp, socket.TCP_NODELAY) == 1
    assert [
        left.getsockopt(tcp, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    ] == [KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT]


def test_keepalive_is_for_tcp_alone() -> None:
    unix, other = socket.socketpair()
    with unix, other:
        set_keepalive(unix)
        assert unix.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    set_keepalive(None)


@pytest.mark.parametrize(
    ("changed", "lossy"),
    [
        ({}, True),
        ({"unacked": 2, "retransmits": 2}, True),  # measured at 30 % loss
        ({"total_retrans": 17}, False),  # nothing was lost meanwhile: the peer's program is silent
        ({"unacked": 1, "retransmits": 4}, False),  # what we send does not arrive
        ({"last_ack_recv_ms": 5952}, False),  # nothing of the peer arrives
    ],
)
def test_a_path_that_loses_and_lives_is_lossy(changed: dict[str, int], lossy: bool) -> None:
    counters = {
        "unacked": 0,
        "retransmits": 0,
        "total_retrans": 18,
        "last_ack_recv_ms": 1988,
    } | changed
    assert is_lossy(counters, 6.0, 17) is lossy
    assert not is_lossy(None, 6.0, 0)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("192.0.2.1:80", ("192.0.2.1", 80)),
        ("[2001:db8::1]:9", ("2001:db8::1", 9)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:0", ("::1", 0)),
    ],
)
def test_an_address_has_one_form(text: str, parts: tuple[str, int]) -> None:
    assert split_address(f" {text}\n") == parts
    assert join_address(*parts) == text


@pytest.mark.parametrize(
    "text",
    ["", "x", "7080", "x:", ":9", "x:y", "x:99999", "x:-1", "x:1/y", "a@b:1", "[::1:9", "::1:9"],
)
def test_what_is_no_address_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(NoAddress, match="is no address: write HOST:PORT, such as"):
        split_address(text)
