"""An HTTP CONNECT proxy, well-behaved or not: a program of its own, run on some host.

Law: `python -m tether_gauntlet.lab.connect_proxy --listen HOST:PORT`; one JSON line a request on stderr.
It carries bytes and looks at none.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import sys

CAPTIVE_PAGE = b"<html><title>Log in to the Wi-Fi</title></html>\n"


class ConnectProxy:
    """Serves CONNECT, or misbehaves as it was told to."""

    def __init__(self, *, credentials: str, idle_s: float | None, captive: bool) -> None:
        self._expected = base64.b64encode(credentials.encode()).decode() if credentials else ""
        self._idle_s = idle_s
        self._captive = captive

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, *_ = head.split()
            status = self._judge(method, head)
            if status == 200:
                status = await self._tunnel(target, reader, writer)
            elif status == 511:
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(CAPTIVE_PAGE), CAPTIVE_PAGE)
                )
            else:
                reason = {407: "Proxy Authentication Required", 405: "Method Not Allowed"}[status]
                offer = 'Proxy-Authenticate: Basic realm="lab"\r\n' if status == 407 else ""
                writer.write(
                    f"HTTP/1.1 {status} {reason}\r\n{offer}Content-Length: 0\r\n\r\n".encode()
                )
            line = {"event": "proxied", "method": method, "target": target, "status": status}
            print(json.dumps(line), file=sys.stderr, flush=True)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # the client left, or is none
        finally:
            writer.close()

    def _judge(self, method: str, head: str) -> int:
        if self._captive:
            return 511
        if method != "CONNECT":
            return 405
        given = next(
            (
                line.split()[-1]
                for line in head.splitlines()
                if line.lower().startswith("proxy-authorization: basic ")
            ),
            "",
        )
        return 200 if given == self._expected else 407

    async def _tunnel(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int:
        host, _, port = target.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return 502
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        ways = [
            asyncio.create_task(self._copy(reader, far_writer)),
            asyncio.create_task(self._copy(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            far_writer.close()
        return 200

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            while data := await asyncio.wait_for(source.read(65536), self._idle_s):
                sink.write(data)
                await sink.drain()


async def run(listen: str, proxy: ConnectProxy) -> None:
    host, _, port = listen.rpartition(":")
    server = await asyncio.start_server(proxy.serve, host, int(port))
    line = {"event": "proxy ready", "port": server.sockets[0].getsockname()[1]}
    print(json.dumps(line), file=sys.stderr, flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--credentials", default="", metavar="USER:PASSWORD")
    parser.add_argument("--idle-s", type=float, help="ends what was silent one way for so long")
    parser.add_argument("--captive", action="store_true", help="answers all with a log-in page")
    asked = parser.parse_args()
    proxy = ConnectProxy(credentials=asked.credentials, idle_s=asked.idle_s, captive=asked.captive)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(asked.listen, proxy))


if __name__ == "__main__":
    main()
