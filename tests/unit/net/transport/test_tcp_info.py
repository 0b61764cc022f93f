"""The kernel's counters: there for TCP, honestly absent elsewhere."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator

import pytest

from tether.attribution.evidence import TcpCounters
from tether.attribution.vocabulary import Party, Vantage
from tether.net.transport.tcp_info import (
    KEEPALIVE_COUNT,
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    counters_fact,
    is_lossy,
    read_tcp_info,
    set_keepalive,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_INFO is Linux's")


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
