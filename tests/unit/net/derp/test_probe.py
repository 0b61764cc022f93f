"""How far the regions are: timed over real sockets, whatever answers there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator

import pytest

from tests.support.net.proxy import proxying
from tests.support.net.ws import raw_server
from tether.net.derp.probe import Measured, measure

pytestmark = pytest.mark.usefixtures("_no_proxies")


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.asynccontextmanager
async def relay(*, delay: float = 0.0, keeps: bool = True) -> AsyncIterator[str]:
    """Answers 404, after `delay`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(delay)
                closing = b"" if keeps else b"Connection: close\r\n"
                writer.write(b"HTTP/1.1 404 No\r\n" + closing + b"Content-Length: 0\r\n\r\n")
                if not keeps:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/derp"
    finally:
        server.close()


def latency(measured: Measured) -> float:
    assert measured.latency_s is not None, measured.error
    return measured.latency_s


async def test_the_nearest_region_comes_first() -> None:
    async with relay(delay=0.1) as far, relay() as near:
        found = await measure({"far": [far], "near": [near], "empty": []})
    assert [m.region for m in found] == ["near", "far"]
    assert latency(found[0]) < 0.1 <= latency(found[1]) < 1.0


async def test_a_relay_that_hangs_up_after_each_answer_is_measured_all_the_same() -> None:
    async with relay(keeps=False) as url:
        (found,) = await measure({"r": [url]})
    assert latency(found) < 1.0


async def test_what_cannot_be_reached_says_why_and_comes_last() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with relay() as url, raw_server(b"SSH-2.0-x\r\n") as other:
        found = await measure(
            {
                "gone": [f"ws://127.0.0.1:{port}/derp"],
                "here": [url],
                "other": [f"ws://127.0.0.1:{other.port}/derp"],
                "unknown": ["wss://no-such-host.invalid/derp"],
            }
        )
    assert [(m.region, m.error) for m in found[1:]] == [
        ("gone", f"nothing listens at 127.0.0.1:{port}: is the server running?"),
        ("other", f"127.0.0.1:{other.port} does not answer as a relay"),
        ("unknown", "the name no-such-host.invalid could not be resolved"),
    ]


async def test_where_no_thread_can_be_started_nothing_is_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    (found,) = await measure({"fra": ["ws://127.0.0.1:9/derp"]})
    assert found == Measured("fra", "ws://127.0.0.1:9/derp", error="can't start new thread")


async def test_a_relay_that_does_not_answer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        (found,) = await measure({"deaf": [f"ws://127.0.0.1:{port}/derp"]}, timeout=0.2)
    assert found.error == f"127.0.0.1:{port} did not answer in time"


async def test_a_proxy_is_gone_through_with_its_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with relay() as url, proxying(user="alice", password="s3cret") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        (found,) = await measure({"r": [url]})
        assert latency(found) < 1.0
        assert proxy.joined == [url.removeprefix("ws://").removesuffix("/derp")]
        monkeypatch.setenv("HTTPS_PROXY", proxy.url(credentials=False))
        (refused,) = await measure({"r": [url]})
        assert "407" in refused.error
