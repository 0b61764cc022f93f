"""The REST API and the environment's proxies."""

from __future__ import annotations

import pytest

from tether.cli.api import Api
from tether.client.errors import Failure
from tether.config import ClientConfig

SERVER = ClientConfig(url="https://tether.example.com", token="t")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_calls_go_through_the_proxy_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library reads `ALL_PROXY` and does nothing with it."""
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with pytest.raises(Failure, match=r"could not be reached|nothing listens"):
        Api(SERVER).get("/workspaces")  # directly, the name would not be found


def test_a_socks_proxy_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:1")
    with pytest.raises(Failure, match="ALL_PROXY names a SOCKS proxy, and only HTTP proxies are"):
        Api(SERVER)
