"""The subsystem that carries UDP, over real pipes and sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tether.agent.commands.policy import TransferPolicy, check_session
from tether.agent.ssh.udp_subsystem import UdpForwarder
from tether.protocol.udp import (
    SUBSYSTEM,
    DatagramReader,
    UdpOpen,
    UdpOpened,
    frame,
    line,
    read_opened,
)


class UdpRig:
    """A relay with its pipes, and a UDP service."""

    def __init__(self, *, at: str = "127.0.0.1", **options: Any) -> None:
        self.now = 0.0
        stdin, self.writes = os.pipe()
        self.reads, stdout = os.pipe()
        self.forwarder = UdpForwarder(stdin, stdout, now=lambda: self.now, **options)
        self.fds = [stdin, stdout, self.writes, self.reads]
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run)
        family = socket.AF_INET6 if ":" in at else socket.AF_INET
        self.service = socket.socket(family, socket.SOCK_DGRAM)
        self.service.bind((at, 0))
        self.service.settimeout(DEADLINE_S)
        self._frames = DatagramReader()
        self._ready: list[tuple[int, bytes]] = []
        self._buffer = b""

    def _run(self) -> None:
        self.code = self.forwarder.run()

    @property
    def port(self) -> int:
        return int(self.service.getsockname()[1])

    def open(self, port: int | None = None, *, host: str = "127.0.0.1") -> UdpOpened:
        self.thread.start()
        self.send(line(UdpOpen(host=host, port=port or self.port)))
        while b"\n" not in self._buffer:
            self._buffer += os.read(self.reads, 1000)
        first, _, self._buffer = self._buffer.partition(b"\n")
        return read_opened(first)

    def send(self, data: bytes) -> None:
        os.write(self.writes, data)

    def received(self) -> tuple[int, bytes]:
        while not self._ready:
            self._ready += self._frames.feed(os.read(self.reads, 100_000))
        return self._ready.pop(0)

    def ask(self, flow: int, datagram: bytes) -> tuple[str, int]:
        """Send one and wait for it at the service; where it came from."""
        self.send(frame(flow, datagram))
        got, source = self.service.recvfrom(70_000)
        assert got == datagram
        return (str(source[0]), int(source[1]))

    def finish(self) -> int | None:
        with contextlib.suppress(OSError):
            os.close(self.writes)
        self.thread.join(5)
        return self.code


@pytest.fixture
def rigs() -> Iterator[list[UdpRig]]:
    made: list[UdpRig] = []
    yield made
    for rig in made:
        if rig.thread.is_alive():
            rig.finish()
        rig.service.close()
        for descriptor in rig.fds:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def rig(rigs: list[UdpRig], **options: Any) -> UdpRig:
    rigs.append(UdpRig(**options))
    return rigs[-1]


def test_datagrams_find_their_way_there_and_back(rigs: list[UdpRig]) -> None:
    udp = rig(rigs)
    assert udp.open() == UdpOpened()
    first, second = udp.ask(7, b"one"), udp.ask(8, b"x" * 65_000)
    assert first != second
    udp.service.sendto(b"for eight", second)
    assert udp.received() == (8, b"for eight")
    udp.service.sendto(b"for seven", first)
    assert udp.received() == (7, b"for seven")
    assert udp.finish() == 0


def test_a_flow_keeps_its_socket(rigs: list[UdpRig]) -> None:
    udp = rig(rigs)
    udp.open()
    assert udp.ask(1, b"a") == udp.ask(1, b"b")
    assert udp.finish() == 0


def test_the_flow_that_was_idle_for_longest_makes_room(rigs: list[UdpRig]) -> None:
    udp = rig(rigs, max_flows=2)
    udp.open()
    before = [udp.ask(1, b"a"), udp.ask(2, b"b")]
    udp.ask(1, b"c")  # two is the idle one now
    udp.ask(3, b"d")
    assert udp.ask(1, b"e") == before[0]
    assert udp.ask(2, b"f") != before[1]
    assert udp.finish() == 0


def test_an_idle_flow_is_forgotten(rigs: list[UdpRig]) -> None:
    udp = rig(rigs, idle_s=60.0)
    udp.open()
    before = udp.ask(1, b"a")
    udp.now = 61.0
    udp.ask(2, b"b")  # the loop goes round, and looks at the time
    udp.ask(2, b"c")
    assert udp.ask(1, b"d") != before
    assert udp.finish() == 0


def test_a_port_where_nobody_listens_loses_datagrams_and_nothing_else(rigs: list[UdpRig]) -> None:
    udp = rig(rigs)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    assert udp.open(port) == UdpOpened()
    for _ in range(3):
        udp.send(frame(1, b"anybody?"))
    assert udp.finish() == 0


def test_a_name_that_nobody_knows_is_told(rigs: list[UdpRig]) -> None:
    udp = rig(rigs)
    assert udp.open(53, host="no-such-host.invalid") == UdpOpened(
        error="the name could not be resolved in the workspace"
    )
    assert udp.finish() == 1


@pytest.mark.parametrize("first", [b"{}\n", b"x" * 3000, b""])
def test_a_client_that_names_no_destination_is_told_and_left(
    rigs: list[UdpRig], first: bytes
) -> None:
    udp = rig(rigs)
    udp.thread.start()
    udp.send(first) if first else None
    assert udp.finish() == 1
    assert read_opened(os.read(udp.reads, 1000)).error.startswith("no destination")


def test_garbage_in_the_stream_ends_it(rigs: list[UdpRig]) -> None:
    udp = rig(rigs)
    udp.open()
    udp.send(b"\0\0\0\1\xff\xff")
    udp.thread.join(5)
    assert udp.code == 1


def test_a_client_that_is_gone_ends_it(rigs: list[UdpRig]) -> None:
    udp = rig(rigs)
    udp.open()
    source = udp.ask(1, b"a")
    os.close(udp.reads)
    udp.service.sendto(b"nobody reads this", source)
    udp.thread.join(5)
    assert udp.code == 0


def test_whoever_may_forward_no_ports_may_carry_no_datagrams() -> None:
    assert check_session(TransferPolicy(block_file_transfer=True), subsystem=SUBSYSTEM) is None
    refusal = check_session(TransferPolicy(block_local_forwarding=True), subsystem=SUBSYSTEM)
    assert refusal is not None
    assert read_opened(refusal.output) == UdpOpened(error="local port forwarding is disabled")
    assert (refusal.what, refusal.cause) == (SUBSYSTEM, "policy.local_forwarding_blocked")


def test_a_program_that_listens_in_the_other_family_is_found(rigs: list[UdpRig]) -> None:
    rigs.append(rig := UdpRig(at="::1"))
    assert rig.open() == UdpOpened()
    source = rig.ask(1, b"where are you")
    rig.service.sendto(b"here", source)
    assert rig.received() == (1, b"here")
    rig.ask(2, b"and for another flow")


def test_a_datagram_without_bytes_is_one(rigs: list[UdpRig]) -> None:
    rigs.append(rig := UdpRig())
    rig.open()
    rig.service.sendto(b"", rig.ask(1, b""))
    assert rig.received() == (1, b"")
