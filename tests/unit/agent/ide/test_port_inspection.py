"""Claims about finding the process behind a port. Real listeners, real processes, this kernel."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.agent.listening import Listening, has_ipv6, listening
from tests.support.deadline import DEADLINE_S
from tether.agent.ide.port_inspection import (
    CannotInspect,
    CannotSee,
    Elsewhere,
    ListenersFound,
    NothingListens,
    PortInspector,
)
from tether.agent.process.socket_holders import Holder, command_line, started_at
from tether.net.clock import SystemClock
from tether.net.host.sock_diag import (
    DiagUnavailable,
    ListenSocket,
    listening_on,
    listening_on_by_proc,
)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="/proc and netlink are Linux's"
)
needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")

MARKER = "-Didea.vendor.name=JetBrains"


@pytest.fixture
def inspector() -> Iterator[PortInspector]:
    inspector = PortInspector(clock=SystemClock())
    yield inspector
    inspector.close()


def pids(found: object) -> set[int]:
    assert isinstance(found, ListenersFound), found
    return {listener.process.pid for listener in found.listeners}


async def test_the_process_is_found_with_its_identity_and_command(
    inspector: PortInspector,
) -> None:
    with listening("127.0.0.1", MARKER, "two words") as backend:
        found = await inspector.inspect("127.0.0.1", backend.port)
    assert isinstance(found, ListenersFound)
    (listener,) = found.listeners
    assert listener.process.pid == backend.pid
    assert listener.command[-2:] == (MARKER, "two words")
    assert (listener.address, listener.port, listener.uid) == (
        IPv4Address("127.0.0.1"),
        backend.port,
        os.geteuid(),
    )


@pytest.mark.parametrize(
    ("bound", "destination"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.8.9.1", "127.8.9.1"),
        ("0.0.0.0", "127.0.0.1"),
        pytest.param("::1", "::1", marks=needs_ipv6),
        pytest.param("::1", "[::1]", marks=needs_ipv6),
        pytest.param("::1", "localhost", marks=needs_ipv6),
        pytest.param("::", "::1", marks=needs_ipv6),
        pytest.param("::", "127.0.0.1", marks=needs_ipv6),
        pytest.param("::ffff:127.0.0.1", "127.0.0.1", marks=needs_ipv6),
        pytest.param("127.0.0.1", "::ffff:127.0.0.1", marks=needs_ipv6),
    ],
)
async def test_every_bind_that_would_accept_counts(
    inspector: PortInspector, bound: str, destination: str
) -> None:
    with listening(bound) as backend:
        assert pids(await inspector.inspect(destination, backend.port)) == {backend.pid}


@pytest.mark.parametrize(
    ("bound", "destination"),
    [
        ("127.8.9.1", "127.0.0.1"),
        pytest.param("127.0.0.1", "::1", marks=needs_ipv6),
        pytest.param("0.0.0.0", "::1", marks=needs_ipv6),
        pytest.param("::1", "127.0.0.1", marks=needs_ipv6),
    ],
)
async def test_the_same_port_on_another_address_is_nothing(
    inspector: PortInspector, bound: str, destination: str
) -> None:
    with listening(bound) as backend:
        assert await inspector.inspect(destination, backend.port) == NothingListens()


async def test_only_a_listening_socket_counts(inspector: PortInspector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = server.accept()
    with client, served:  # a connection with this local port lives on, nobody listens any more
        assert await inspector.inspect("127.0.0.1", port) == NothingListens()


async def test_an_exact_bind_hides_a_wildcard_one(inspector: PortInspector) -> None:
    with listening("0.0.0.0") as everywhere, listening("127.0.0.1", port=everywhere.port) as here:
        assert pids(await inspector.inspect("127.0.0.1", here.port)) == {here.pid}
        assert pids(await inspector.inspect("127.8.9.1", here.port)) == {everywhere.pid}


async def test_processes_that_share_a_port_are_all_found(inspector: PortInspector) -> None:
    with listening() as one, listening(port=one.port) as other:
        assert pids(await inspector.inspect("localhost", one.port)) == {one.pid, other.pid}


async def test_another_machine_is_not_looked_for_here(inspector: PortInspector) -> None:
    with listening("0.0.0.0") as backend:
        assert await inspector.inspect("192.0.2.1", backend.port) == Elsewhere()
        assert await inspector.inspect("no-such-host.invalid", backend.port) == Elsewhere()


async def test_what_is_remembered_is_verified(inspector: PortInspector) -> None:
    with listening() as first:
        assert pids(await inspector.inspect("localhost", first.port)) == {first.pid}
        assert pids(await inspector.inspect("localhost", first.port)) == {first.pid}
    assert await inspector.inspect("localhost", first.port) == NothingListens()
    with listening(port=first.port) as second:
        assert pids(await inspector.inspect("localhost", second.port)) == {second.pid}


async def test_a_warm_inspector_finds_what_came_later(inspector: PortInspector) -> None:
    await inspector.warm()
    with socket.create_server(("127.0.0.1", 0)) as ours, listening() as theirs:
        assert pids(await inspector.inspect("localhost", theirs.port)) == {theirs.pid}
        port = ours.getsockname()[1]
        assert pids(await inspector.inspect("localhost", port)) == {os.getpid()}


async def test_many_questions_at_once_have_one_answer(inspector: PortInspector) -> None:
    with listening() as backend:
        answers = await asyncio.gather(
            *(inspector.inspect("localhost", backend.port) for _ in range(50))
        )
    assert {frozenset(pids(answer)) for answer in answers} == {frozenset({backend.pid})}


# -- honesty ------------------------------------------------------------------------------------


async def test_a_process_that_is_not_ours_to_see_is_no_guess(tmp_path: Path) -> None:
    inspector = PortInspector(clock=SystemClock(), proc=tmp_path)
    with listening() as backend:
        assert await inspector.inspect("localhost", backend.port) == CannotSee(os.geteuid())
    inspector.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_process_cannot_be_seen() -> None:
    nobody = pwd.getpwnam("nobody")
    script = (
        "import asyncio, os, sys\n"
        "from tether.agent.ide.port_inspection import PortInspector\n"
        "from tether.net.clock import SystemClock\n"
        f"os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})\n"
        "async def main():\n"
        "    inspector = PortInspector(clock=SystemClock())\n"
        "    print(await inspector.inspect('localhost', int(sys.argv[1])))\n"
        "asyncio.run(main())\n"
    )
    with listening() as backend:
        said = subprocess.run(
            [sys.executable, "-c", script, str(backend.port)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        )
    assert said.stdout == "CannotSee(uid=0)\n"


async def test_a_system_that_cannot_tell_says_so_once() -> None:
    inspector = PortInspector(clock=SystemClock(), platform="darwin")
    with capture_logs() as lines:
        answers = [await inspector.inspect("localhost", 1) for _ in range(3)]
    assert answers == [CannotInspect("ports cannot be inspected on darwin")] * 3
    assert [line["event"] for line in lines] == ["ports cannot be inspected"]
    inspector.close()


def without_netlink(port: int) -> list[ListenSocket]:
    raise DiagUnavailable("no netlink in this sandbox", permanent=True)


async def test_without_netlink_proc_tells_the_same() -> None:
    inspector = PortInspector(clock=SystemClock(), diagnose=without_netlink)
    with capture_logs() as lines, listening("127.0.0.1", MARKER) as backend:
        for _ in range(2):
            assert pids(await inspector.inspect("localhost", backend.port)) == {backend.pid}
    assert [line["event"] for line in lines] == ["netlink unavailable, reading /proc/net/tcp"]
    inspector.close()


async def test_with_neither_it_cannot_inspect(tmp_path: Path) -> None:
    inspector = PortInspector(clock=SystemClock(), diagnose=without_netlink, proc=tmp_path)
    with listening() as backend:
        assert isinstance(await inspector.inspect("localhost", backend.port), CannotInspect)
    inspector.close()


# -- both sources of sockets agree ----------------------------------------------------------------


@pytest.mark.parametrize(
    "bound",
    [
        "127.0.0.1",
        "0.0.0.0",
        pytest.param("::1", marks=needs_ipv6),
        pytest.param("::", marks=needs_ipv6),
        pytest.param("::ffff:127.0.0.1", marks=needs_ipv6),
    ],
)
def test_netlink_and_proc_see_the_same_sockets(bound: str) -> None:
    with listening(bound) as backend:
        by_netlink, by_proc = listening_on(backend.port), listening_on_by_proc(backend.port)
    assert [(s.address, s.port, s.inode, s.uid) for s in by_netlink] == [
        (s.address, s.port, s.inode, s.uid) for s in by_proc
    ]
    assert [s.address for s in by_netlink] == [ip_address(bound)]


@needs_ipv6
def test_a_v6only_socket_refuses_v4() -> None:
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind(("::", 0))
        server.listen()
        (found,) = listening_on(server.getsockname()[1])
    assert found.v6only is True
    assert not found.accepts(IPv4Address("127.0.0.1"))
    assert found.accepts(IPv6Address("::1"))


def test_an_identity_is_gone_with_its_process() -> None:
    backend: Listening
    with listening() as backend:
        assert started_at(backend.pid) is not None
        assert Holder(backend.pid, started_at(backend.pid) or 0) != Holder(os.getpid(), 0)
    assert started_at(backend.pid) is None
    assert command_line(backend.pid) == ()
