"""The subsystem that carries UDP: datagrams of many flows, to one destination and back.

Law: a process of its own on its standard streams, as sftp's is: it ends, is counted and is attributed
like any other. Each flow has a socket of its own, so that answers find their way back. The flow that
was idle for longest makes room for a new one, and one that is idle for too long is closed. A client that
reads slowly loses datagrams in the kernel's buffers, as on any slow path. Run as a module, this file is
that process.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable

from tether.protocol.messages.base import Garbage
from tether.protocol.udp import (
    IDLE_S,
    MAX_DATAGRAM,
    MAX_FLOWS,
    MAX_LINE,
    DatagramReader,
    UdpOpen,
    UdpOpened,
    frame,
    line,
    read_open,
)

_READ = 256 << 10
_BURST = 64
"""Datagrams of one flow that are taken before the next flow has its turn."""


def command() -> list[str]:
    """The program that serves the subsystem on its standard streams."""
    return [sys.executable, "-I", "-m", "tether.agent.ssh.udp_subsystem"]


class UdpForwarder:
    """All flows of one session. Blocking: `run` returns when the client sends no more."""

    def __init__(
        self,
        stdin: int,
        stdout: int,
        *,
        now: Callable[[], float],
        max_flows: int = MAX_FLOWS,
        idle_s: float = IDLE_S,
    ) -> None:
        self._in = stdin
        self._out = stdout
        self._now = now
        self._max_flows = max_flows
        self._idle_s = idle_s
        self._flows: OrderedDict[int, socket.socket] = OrderedDict()  # the longest idle first
        self._used: dict[int, float] = {}  # when each flow was last used
        self._selector = selectors.DefaultSelector()
        self._reader = DatagramReader()
        self._rest = b""  # what came behind the opening line

    def run(self) -> int:
        """Serve until the end of the input; the exit code."""
        try:
            target = self._opening()
        except (Garbage, OSError) as wrong:
            self._write(line(UdpOpened(error=_error_text(wrong))))
            return 1
        self._write(line(UdpOpened()))
        self._selector.register(self._in, selectors.EVENT_READ, None)
        data = self._rest
        try:
            while True:
                for flow, datagram in self._reader.feed(data):
                    self._send(target, flow, datagram)
                data = b""
                for key, _ in self._selector.select(self._wait()):
                    if key.data is None:
                        data = os.read(self._in, _READ)
                        if not data:
                            return 0
                    else:
                        self._receive(key.data)
                self._forget_idle()
        except Garbage as garbage:
            sys.stderr.write(f"tether: {garbage}\n")
            return 1
        except BrokenPipeError:
            return 0
        finally:
            for flow in list(self._flows):
                self._close(flow)

    def _opening(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        head = b""
        while b"\n" not in head:
            more = os.read(self._in, MAX_LINE)
            if not more or len(head) > MAX_LINE:
                raise Garbage("no destination")
            head += more
        first, _, self._rest = head.partition(b"\n")
        wanted: UdpOpen = read_open(first)
        family, _, _, _, address = socket.getaddrinfo(
            wanted.host, wanted.port, type=socket.SOCK_DGRAM
        )[0]
        return family, (str(address[0]), int(address[1]))

    def _send(
        self, target: tuple[socket.AddressFamily, tuple[str, int]], flow: int, datagram: bytes
    ) -> None:
        sock = self._flows.get(flow)
        try:
            if sock is None:
                sock = self._open(target, flow)
            self._touch(flow)
            sock.send(datagram)
        except OSError:  # nobody there, too long, no room: datagrams may be lost
            return

    def _open(
        self, target: tuple[socket.AddressFamily, tuple[str, int]], flow: int
    ) -> socket.socket:
        if len(self._flows) >= self._max_flows:
            self._close(next(iter(self._flows)))
        family, address = target
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        self._flows[flow] = sock
        self._selector.register(sock, selectors.EVENT_READ, flow)
        return sock

    def _receive(self, flow: int) -> None:
        sock = self._flows.get(flow)
        for _ in range(_BURST):
            try:
                if sock is None:
                    return
                datagram = sock.recv(MAX_DATAGRAM)
            except OSError:  # nothing more, or nobody listens there (ICMP)
                return
            self._touch(flow)
            self._write(frame(flow, datagram))

    def _touch(self, flow: int) -> None:
        self._used[flow] = self._now()
        self._flows.move_to_end(flow)

    def _wait(self) -> float | None:
        if not self._flows:
            return None
        oldest = next(iter(self._flows))
        return max(0.0, self._used[oldest] + self._idle_s - self._now())

    def _forget_idle(self) -> None:
        before = self._now() - self._idle_s
        while self._flows and self._used[oldest := next(iter(self._flows))] <= before:
            self._close(oldest)

    def _close(self, flow: int) -> None:
        sock = self._flows.pop(flow)
        del self._used[flow]
        self._selector.unregister(sock)
        sock.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._out, view) :]


def _error_text(wrong: Exception) -> str:
    if isinstance(wrong, socket.gaierror):
        return "the name could not be resolved in the workspace"
    return wrong.strerror or str(wrong) if isinstance(wrong, OSError) else str(wrong)


if __name__ == "__main__":
    sys.exit(UdpForwarder(0, 1, now=time.monotonic).run())  # noqa: TID251  # a process of its own
