"""Dialling through an HTTP CONNECT proxy, and what is said where that fails."""

from __future__ import annotations

import socket
import ssl

import pytest
from websockets.exceptions import InvalidProxyMessage, InvalidUpgrade
from websockets.proxy import Proxy as ProxyAddress

from tests.support.deadline import DEADLINE_S
from tests.support.net.proxy import proxying
from tests.support.net.ws import raw_server, serving
from tether.attribution.vocabulary import Party, Reach, Vantage
from tether.net.transport.streams import DialFailed
from tether.net.transport.ws_client import dial, proxy_failed, proxy_of

SECRET = "p@ss w/rd"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def failure(url: str, *, timeout: float = DEADLINE_S) -> DialFailed:
    with pytest.raises(DialFailed) as raised:
        await dial(url, token="t", max_size=1000, timeout=timeout)
    assert SECRET not in str(raised.value)
    assert "p%40ss" not in str(raised.value)
    return raised.value


async def test_a_proxy_with_credentials_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying(user="alice", password=SECRET) as proxy, serving() as served:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        stream = await dial(served.url, token="t", max_size=1000)
        theirs = await served.accepted()
        await stream.send(b"through")
        assert await theirs.recv() == b"through"
        assert (stream.reach, stream.proxy) == (Reach.PROXIED, "127.0.0.1")
        counters = stream.counters_fact(vantage=Vantage.CLIENT, peer=Party.SERVER, at=1.0)
        assert counters is not None
        assert counters.reach is Reach.PROXIED
        await stream.close(1000, "")
        assert proxy.joined == [served.url.removeprefix("ws://").rstrip("/")]


async def test_what_the_environment_exempts_is_dialled_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with proxying() as proxy, serving() as served:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        stream = await dial(served.url, token="t", max_size=1000)
        await stream.close(1000, "")
        assert proxy.joined == []
        assert (stream.reach, stream.proxy) == (Reach.UNKNOWN, "")


async def test_a_proxy_that_wants_credentials_says_where_they_belong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with proxying(user="alice", password=SECRET) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url(credentials=False))
        failed = await failure("ws://tether.example.com/")
        assert (str(failed), failed.fatal) == (
            f"the proxy 127.0.0.1:{proxy.port} wants a user name and password: write them into"
            " HTTPS_PROXY, as http://USER:PASSWORD@HOST:PORT",
            True,
        )


async def test_wrong_credentials_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying(user="alice", password="other") as proxy:
        url = proxy.url().replace("other", "p%40ss%20w%2Frd")
        monkeypatch.setenv("HTTPS_PROXY", url)
        failed = await failure("ws://tether.example.com/")
        assert (str(failed), failed.fatal) == (
            f"the proxy 127.0.0.1:{proxy.port} did not accept the user name and password in"
            " HTTPS_PROXY",
            True,
        )


async def test_a_proxy_that_will_not_connect_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying(status=403) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        failed = await failure("wss://tether.example.com/x")
        assert (str(failed), failed.fatal) == (
            f"the proxy 127.0.0.1:{proxy.port} refused to connect to tether.example.com"
            " (HTTP status 403)",
            False,
        )


async def test_a_proxy_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://alice:p%40ss@127.0.0.1:{port}")
    assert str(await failure("ws://tether.example.com/")) == (
        f"nothing listens at the proxy 127.0.0.1:{port}: is HTTPS_PROXY right?"
    )


async def test_a_proxy_that_never_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        assert str(await failure("ws://tether.example.com/", timeout=0.3)) == (
            f"tether.example.com did not answer in time through the proxy 127.0.0.1:{port}"
        )


@pytest.mark.parametrize("value", ["gopher://alice:p%40ss@h:1", "http://alice@h:1"])
async def test_a_proxy_that_is_none_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    failed = await failure("ws://tether.example.com/")
    assert str(failed).startswith("the proxy that the environment names is not valid: ")
    assert failed.fatal


async def test_something_that_is_no_proxy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(b"SSH-2.0-OpenSSH_9.2p1\r\n") as raw:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{raw.port}")
        assert str(await failure("ws://tether.example.com/")).startswith(
            f"the proxy 127.0.0.1:{raw.port} does not answer as a proxy"
        )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (InvalidProxyMessage("garbage"), "the proxy p:1 does not answer as a proxy: garbage"),
        (
            socket.gaierror(-2, "?"),
            "the name of the proxy p:1 could not be resolved: is HTTPS_PROXY right?",
        ),
        (OSError(113, "?"), "the proxy p:1 could not be reached: EHOSTUNREACH"),
        (InvalidUpgrade("Upgrade"), None),
        (ssl.SSLError(), None),
        (ValueError(), None),
    ],
)
def test_the_proxy_is_blamed_only_for_what_is_its_own(
    wrong: Exception, sentence: str | None
) -> None:
    failed = proxy_failed(wrong, "h", ProxyAddress("http", "p", 1))
    assert (None if failed is None else str(failed)) == sentence


def test_without_an_environment_there_is_no_proxy() -> None:
    assert proxy_of("wss://tether.example.com/") is None
