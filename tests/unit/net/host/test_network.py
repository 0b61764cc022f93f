"""What the kernel tells of addresses, routes and links: each real change once, and nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.host.netns import in_namespace, ip
from tether.net.host.network import NetworkWatch
from tether.net.host.rtnetlink import (
    AddressChange,
    ChangesMissed,
    LinkChange,
    NetworkChange,
    RouteChange as Route,
    default_routes,
)


def told(
    *acts: tuple[str, ...], before: tuple[tuple[str, ...], ...] = (), late: int = 0
) -> list[NetworkChange]:
    """What a watch tells of `acts`, each an `ip` command, in a namespace prepared by `before`.

    A last act, whose event is known and left out, tells when all of them have been told; but for
    `late` changes of a carrier, which the kernel tells when it comes to it.
    """

    async def main() -> list[NetworkChange]:
        for act in before:
            ip(*act)
        if before == UP:
            await carrier("here")
        seen: list[NetworkChange] = []
        watch, last = await watching(seen.append, LinkChange("lo", True))
        for act in acts:
            ip(*act)
        ip("link", "set", "lo", "up")
        try:
            async with asyncio.timeout(DEADLINE_S):
                await last.wait()
                while len(others(seen)) < late:
                    await asyncio.sleep(0)
        finally:
            watch.stop()
        return others(seen)

    return in_namespace(main)


def others(seen: list[NetworkChange]) -> list[NetworkChange]:
    return [change for change in seen if getattr(change, "interface", "?") not in ("lo", "")]


async def carrier(interface: str) -> None:
    """Wait until the kernel has seen the carrier: an IPv6 address is not usable before."""
    async with asyncio.timeout(DEADLINE_S):
        while "state UP" not in ip("-o", "link", "show", interface):
            await asyncio.sleep(0)


async def watching(
    hand_on: Callable[[NetworkChange], None], until: NetworkChange
) -> tuple[NetworkWatch, asyncio.Event]:
    happened = asyncio.Event()

    def on_change(change: NetworkChange) -> None:
        hand_on(change)
        if change == until:
            happened.set()

    watch = NetworkWatch(on_change)
    if not watch.start():
        pytest.skip("the kernel tells nothing of its network here")
    async with asyncio.timeout(DEADLINE_S):
        while watch.has("127.0.0.1") is None:
            await asyncio.sleep(0)
    return watch, happened


PAIR = ("link", "add", "here", "type", "veth", "peer", "name", "there")
UP = (PAIR, ("link", "set", "there", "up"), ("link", "set", "here", "up"))
ADDRESS = ("addr", "add", "10.9.0.1/24", "dev", "here")
ROUTE = ("route", "add", "default", "via", "10.9.0.2")


def test_a_new_interface_that_has_no_carrier_is_no_change() -> None:
    assert told(PAIR) == []


def test_a_carrier_that_comes_is_told_at_both_ends() -> None:
    assert set(told(*UP[1:], before=(PAIR,), late=2)) == {
        LinkChange("here", up=True),
        LinkChange("there", up=True),
    }


def test_a_carrier_that_is_lost_is_told_at_both_ends() -> None:
    assert set(told(("link", "set", "there", "down"), before=UP, late=2)) == {
        LinkChange("here", up=False),
        LinkChange("there", up=False),
    }


@pytest.mark.parametrize("address", ["10.9.0.1/24", "fd00::5/64"])
def test_an_address_that_comes_and_goes_is_told_twice(address: str) -> None:
    come = ("addr", "add", address, "dev", "here", *(("nodad",) if ":" in address else ()))
    bare = address.partition("/")[0]
    assert told(come, ("addr", "del", address, "dev", "here"), before=UP) == [
        AddressChange("here", bare, gone=False),
        AddressChange("here", bare, gone=True),
    ]


def test_an_address_whose_lifetime_is_renewed_is_no_change() -> None:
    renew = ("addr", "change", "10.9.0.1/24", "dev", "here", "valid_lft", "900")
    assert told((*renew, "preferred_lft", "900"), before=(*UP, ADDRESS)) == []


def test_an_address_of_the_link_alone_is_no_change() -> None:
    assert told(("addr", "add", "fe80::9/64", "dev", "here", "nodad"), before=UP) == []


def test_a_default_route_that_goes_and_comes_back_is_told() -> None:
    assert told(("route", "del", "default"), ROUTE, before=(*UP, ADDRESS, ROUTE)) == [
        Route("here", "0.0.0.0/0", "10.9.0.2", gone=True),
        Route("here", "0.0.0.0/0", "10.9.0.2", gone=False),
    ]


def test_a_vpn_that_outbids_the_default_route_is_told() -> None:
    halves = [("route", "add", half, "dev", "here") for half in ("0.0.0.0/1", "128.0.0.0/1")]
    assert told(*halves, before=UP) == [
        Route("here", "0.0.0.0/1", "", gone=False),
        Route("here", "128.0.0.0/1", "", gone=False),
    ]


def test_a_vpn_with_a_table_of_its_own_is_told() -> None:
    act = ("route", "add", "default", "dev", "here", "table", "51820")
    assert told(act, before=UP) == [Route("here", "0.0.0.0/0", "", gone=False)]


def test_a_route_to_one_network_is_no_change() -> None:
    assert told(("route", "add", "10.77.0.0/16", "dev", "here"), before=UP) == []


def test_a_default_route_that_was_lost_with_its_link_is_told_when_it_comes_back() -> None:
    away = (("link", "set", "here", "down"), ("link", "set", "here", "up"), ROUTE)
    seen = told(*away, before=(*UP, ADDRESS, ROUTE))
    assert seen[-1] == Route("here", "0.0.0.0/0", "10.9.0.2", gone=False)
    assert LinkChange("here", up=False) in seen


def test_the_watch_knows_what_the_machine_has_now() -> None:
    async def main() -> tuple[bool | None, bool | None, bool | None]:
        for act in (*UP, ADDRESS):
            ip(*act)
        gone = AddressChange("here", "10.9.0.1", gone=True)
        watch, happened = await watching(lambda change: None, gone)
        before, other = watch.has("10.9.0.1"), watch.has("10.9.0.9")
        ip("addr", "del", "10.9.0.1/24", "dev", "here")
        await asyncio.wait_for(happened.wait(), DEADLINE_S)
        after = watch.has("10.9.0.1")
        assert [change for _, change in watch.recent(60.0)] == [gone]
        watch.stop()
        return before, after, other

    assert in_namespace(main) == (True, False, False)


def test_what_the_kernel_could_not_keep_is_told_as_missed() -> None:
    async def main() -> list[NetworkChange]:
        for act in UP:
            ip(*act)
        seen: list[NetworkChange] = []
        watch, missed = await watching(seen.append, ChangesMissed())
        assert watch._socket is not None
        watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for number in range(1, 40):  # while the loop does not read
            ip("addr", "add", f"10.9.{number}.1/24", "dev", "here")
        await asyncio.wait_for(missed.wait(), DEADLINE_S)
        async with asyncio.timeout(DEADLINE_S):
            while not watch.has("10.9.39.1"):
                await asyncio.sleep(0)
        watch.stop()
        return seen

    assert ChangesMissed() in in_namespace(main)


def test_default_routes_are_read_from_proc(tmp_path: Path) -> None:
    net = tmp_path / "thread-self" / "net"
    net.mkdir(parents=True)
    (net / "route").write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "tun0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n"
        "eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
    )
    (net / "ipv6_route").write_text(
        f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00000003     eth0\n"
        f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200       lo\n"
    )
    assert default_routes(tmp_path) == {
        ("eth0", "0.0.0.0/0", "192.168.0.1"),
        ("tun0", "128.0.0.0/1", ""),
        ("eth0", "::/0", "fe80::1"),
    }
