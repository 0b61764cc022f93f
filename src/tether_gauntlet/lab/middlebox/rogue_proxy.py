"""A load balancer of TCP connections that misbehaves when it is told to: a program of its own.

Law: `python -m tether_gauntlet.lab.middlebox.rogue_proxy --route PORT=HOST:PORT …`. It takes one order
a line on its standard input, answers each with the same line once it is carried out, and ends with its
input. What it does by itself is what some load balancer somewhere does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import struct
import sys
from dataclasses import dataclass, field

PAGE = b"<html><title>Log in to the Wi-Fi</title></html>\n"
LOG_IN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)
)


@dataclass(eq=False)
class RelayedPair:
    """One connection: to whoever dialled, and to the server."""

    dialler: asyncio.StreamWriter
    server: asyncio.StreamWriter
    ways: list[asyncio.Task[None]] = field(default_factory=list)

    def end(self, *, reset: bool = False) -> None:
        for writer in (self.dialler, self.server):
            if reset:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()
        for way in self.ways:
            way.cancel()


class Rogue:
    """Carries bytes until it is ordered to misbehave."""

    def __init__(self, lifetime_s: float | None) -> None:
        self.lifetime_s = lifetime_s
        self.hangs_up = self.logs_in = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.pairs: set[RelayedPair] = set()

    async def serve(
        self, host: str, port: int, reader: asyncio.StreamReader, dialler: asyncio.StreamWriter
    ) -> None:
        """Serve one connection to its end."""
        if self.logs_in:
            await self._show_page(reader, dialler)
            return
        try:
            far_reader, server = await asyncio.open_connection(host, port)
        except OSError:
            dialler.close()
            return
        pair = RelayedPair(dialler, server)
        self.pairs.add(pair)
        pair.ways = [
            asyncio.create_task(self._copy(reader, server)),
            asyncio.create_task(self._copy(far_reader, dialler)),
        ]
        await asyncio.wait(pair.ways, timeout=self.lifetime_s)
        pair.end()
        self.pairs.discard(pair)

    async def _show_page(self, reader: asyncio.StreamReader, dialler: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            dialler.write(LOG_IN)
            await dialler.drain()
        dialler.close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Copy until the source ends; then half-close the sink, and the other direction goes on."""
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self.flowing.wait()
                sink.write(data)
                await sink.drain()
            if sink.can_write_eof() and not sink.is_closing():
                sink.write_eof()

    def obey(self, order: str) -> None:
        """Carry out one order."""
        match order.split():
            case ["cut"]:
                self._end_all()
            case ["reset"]:
                self._end_all(reset=True)
            case ["half-close", "dialler"]:
                for pair in self.pairs:
                    pair.dialler.write_eof()
                    pair.ways[1].cancel()
            case ["half-close", "server"]:
                for pair in self.pairs:
                    pair.server.write_eof()
                    pair.ways[0].cancel()
            case ["stall"]:
                self.flowing.clear()
            case ["flow"]:
                self.flowing.set()
            case ["hang-up"]:
                self.hangs_up = True
            case ["log-in"]:
                self.logs_in = True
            case ["serve"]:
                self.hangs_up = self.logs_in = False
            case _:
                raise SystemExit(f"no such order: {order}")

    def _end_all(self, *, reset: bool = False) -> None:
        for pair in self.pairs:
            pair.end(reset=reset)


class Listener:
    """One port, and where it leads."""

    def __init__(self, rogue: Rogue, route: str) -> None:
        port, _, target = route.partition("=")
        host, _, to = target.rpartition(":")
        self._rogue = rogue
        self._host = host
        self._to = int(to)
        self._serving: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server(("0.0.0.0", int(port)), backlog=128)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # whoever dialled has left
            accepted, _ = self._socket.accept()
            if self._rogue.hangs_up:
                accepted.close()  # before they can have sent a byte
                return
            serving = asyncio.create_task(self._serve(accepted))
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=accepted)
        await self._rogue.serve(self._host, self._to, reader, writer)


async def run(routes: list[str], rogue: Rogue) -> None:
    listeners = [Listener(rogue, route) for route in routes]
    loop, orders = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while listeners and (line := (await orders.readline()).decode().strip()):
        rogue.obey(line)
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--route", action="append", required=True, metavar="PORT=HOST:PORT")
    parser.add_argument("--lifetime-s", type=float, help="ends each connection after so long")
    asked = parser.parse_args()
    asyncio.run(run(asked.route, Rogue(asked.lifetime_s)))


if __name__ == "__main__":
    main()
