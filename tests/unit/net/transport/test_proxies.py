"""Dialling through an HTTP CONNECT proxy, and what is said where that fails."""

from __future__ import annotations

import socket
import ssl

import pytest
from websockets.exceptions import InvalidProxyMessage, InvalidUpgrade

from tests.support.deadline import DEADLINE_S
from tests.support.net.proxy import proxying
from tests.support.net.ws import raw_server, serving
from tether.attribution.vocabulary import Party, Reach, Vantage
from tether.net.transport.proxies import NamedProxy, named_proxy
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
    assert str(failed).startswith("the proxy that HTTPS_PROXY names is not valid: ")
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
    failed = proxy_failed(wrong, "h", NamedProxy("http://p:1", "HTTPS_PROXY"))
    assert (None if failed is None else str(failed)) == sentence


def test_without_an_environment_there_is_no_proxy() -> None:
    assert proxy_of("wss://tether.example.com/") is None


# -- which proxy the environment names ---------------------------------------------------------


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy"])
async def test_the_proxy_for_everything_is_gone_through(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with proxying() as proxy, serving() as served:
        monkeypatch.setenv(name, proxy.url())
        stream = await dial(served.url, token="t", max_size=1000)
        await stream.close(1000, "")
        assert len(proxy.joined) == 1


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({"ALL_PROXY": "http://a:1"}, "wss://h/", ("http://a:1", "ALL_PROXY")),
        ({"ALL_PROXY": "http://a:1"}, "ws://h/", ("http://a:1", "ALL_PROXY")),
        ({"ALL_PROXY": "http://a:1"}, "https://h/", ("http://a:1", "ALL_PROXY")),
        ({"ALL_PROXY": "a:1"}, "https://h/", ("http://a:1", "ALL_PROXY")),
        (
            {"ALL_PROXY": "socks5://a:1", "HTTPS_PROXY": "http://b:2"},
            "wss://h/",
            ("http://b:2", "HTTPS_PROXY"),
        ),
        ({"HTTP_PROXY": "http://c:3"}, "wss://h/", None),
        ({"HTTP_PROXY": "http://c:3"}, "ws://h/", ("http://c:3", "HTTP_PROXY")),
        ({"ALL_PROXY": "http://a:1", "NO_PROXY": "h"}, "wss://h/", None),
        ({"ALL_PROXY": "socks5://a:1", "no_proxy": ".example.com"}, "wss://x.example.com/", None),
        ({"ALL_PROXY": "http://a:1", "NO_PROXY": "*"}, "http://h/", None),
        ({"ALL_PROXY": ""}, "wss://h/", None),
    ],
)
def test_which_proxy_is_named_for_what(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    url: str,
    expected: tuple[str, str] | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert named_proxy(url) == (None if expected is None else NamedProxy(*expected))


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4"])
async def test_a_socks_proxy_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("all_proxy", f"{scheme}://alice:p%40ss@127.0.0.1:1080")
    failed = await failure("wss://tether.example.com/")
    assert (str(failed), failed.fatal) == (
        "ALL_PROXY names a SOCKS proxy, and only HTTP proxies are supported: name one in HTTPS_PROXY,"
        " or dial directly with NO_PROXY=tether.example.com",
        True,
    )
