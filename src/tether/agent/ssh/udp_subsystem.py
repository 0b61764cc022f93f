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
from typing import Any

from tether.agent.forwarding.loopback import OTHER_LOOPBACK
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
_Target = tuple[socket.AddressFamily, Any]
"""The family and the address of the destination."""

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
        self._sent: dict[int, bytes] = {}  # the last datagram of each flow
        self._targets: list[_Target] = []  # the one in use first
        self._selector = selectors.DefaultSelector()
        self._reader = DatagramReader()
        self._rest = b""  # what came behind the opening line

    def run(self) -> int:
        """Serve until the end of the input; the exit code."""
        try:
            self._targets = self._opening()
        except (Garbage, OSError) as wrong:
            self._write(line(UdpOpened(error=_error_text(wrong))))
            return 1
        self._write(line(UdpOpened()))
        self._selector.register(self._in, selectors.EVENT_READ, None)
        data = self._rest
        try:
            while True:
                for flow, datagram in self._reader.feed(data):
                    self._send(flow, datagram)
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

    def _opening(self) -> list[_Target]:
        head = b""
        while b"\n" not in head:
            more = os.read(self._in, MAX_LINE)
            if not more or len(head) > MAX_LINE:
                raise Garbage("no destination")
            head += more
        first, _, self._rest = head.partition(b"\n")
        wanted: UdpOpen = read_open(first)
        hosts = [wanted.host, *filter(None, [OTHER_LOOPBACK.get(wanted.host)])]
        found = [socket.getaddrinfo(host, wanted.port, type=socket.SOCK_DGRAM)[0] for host in hosts]
        return [(each[0], each[4]) for each in found]

    def _send(self, flow: int, datagram: bytes, *, again: bool = False) -> None:
        try:
            sock = self._flows.get(flow) or self._open(flow)
            self._touch(flow)
            sock.send(datagram)
            self._sent[flow] = datagram
        except ConnectionRefusedError:
            self._refused(flow, datagram, again=again)
        except OSError:  # too long, no room: datagrams may be lost
            if again:  # there is no such family here
                self._targets.reverse()

    def _refused(self, flow: int, datagram: bytes, *, again: bool = False) -> None:
        """Nobody listens there (ICMP). Where the program may listen in the other family, look there
        from now on, and say it once more."""
        self._close(flow)
        if len(self._targets) > 1 and not again:
            self._targets.reverse()
            self._send(flow, datagram, again=True)

    def _open(self, flow: int) -> socket.socket:
        if len(self._flows) >= self._max_flows:
            self._close(next(iter(self._flows)))
        family, address = self._targets[0]
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
            except ConnectionRefusedError:
                self._refused(flow, self._sent[flow])
                return
            except OSError:  # nothing more
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
        self._sent.pop(flow, None)
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
