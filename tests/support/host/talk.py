"""One TCP connection across a laboratory, both of its ends held by the test."""

from __future__ import annotations

import socket
from types import TracebackType

from tether_gauntlet.lab.building import Lab

QUIET_S = 0.3
"""How long silence is listened to. A packet across the laboratory takes less than a millisecond."""
SOON_S = 5.0
"""For what will come: TCP repeats itself after 0.2, 0.4, 0.8 … s."""


class Talk:
    """A connection from one host to another."""

    def __init__(self, lab: Lab, caller: str = "client", callee: str = "server") -> None:
        address = lab.topology.address_seen(callee, caller)
        with lab[callee].listen() as listener:
            self.port: int = listener.getsockname()[1]
            self.caller = lab[caller].connect(address, self.port)
            self.callee, peer = listener.accept()
        self.seen_from: str = peer[0]
        for sock in (self.caller, self.callee):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.caller.close()
        self.callee.close()

    def forth(self, data: bytes = b"ping", seconds: float = SOON_S) -> str:
        """Say something to the callee; what became of it there."""
        return pass_on(self.caller, self.callee, data, seconds)

    def back(self, data: bytes = b"pong", seconds: float = SOON_S) -> str:
        """Say something to the caller; what became of it there."""
        return pass_on(self.callee, self.caller, data, seconds)


def pass_on(source: socket.socket, sink: socket.socket, data: bytes, seconds: float) -> str:
    """`arrived`, or why not."""
    source.sendall(data)
    return heard(sink, len(data), seconds)


def heard(sink: socket.socket, size: int = 1, seconds: float = SOON_S) -> str:
    """What a socket hears within a time: `arrived`, `silence`, `end`, or an error's name."""
    sink.settimeout(seconds)
    try:
        while size > 0:
            data = sink.recv(65536)
            if not data:
                return "end"
            size -= len(data)
    except TimeoutError as wrong:
        return "silence" if wrong.errno is None else "ETIMEDOUT"
    except OSError as wrong:
        return type(wrong).__name__
    return "arrived"
