"""TLS by the server itself: who is believed, what is told, and certificates that are replaced."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.net.certificates import TestAuthority
from tests.support.server.live_server import LiveServer, running
from tether.net.transport import tls
from tether.net.transport.streams import DialFailed
from tether.net.transport.ws_client import dial
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE
from tether.run.starting import CannotStart

pytestmark = pytest.mark.anyio


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path)


@pytest.fixture
async def live(
    tmp_path: Path, authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LiveServer]:
    """A server whose certificate runs out in ten days."""
    monkeypatch.setattr(tls, "LOOK_EVERY_S", 0.02)
    certificate, key = authority.issue("server", days=10.0)
    async with running(tmp_path, tls_cert=certificate, tls_key=key) as here:
        yield here


async def get(live: LiveServer, authority: TestAuthority, path: str) -> tuple[str, bytes, int]:
    """The head and the body of an answer, and the serial number of the certificate that was shown."""
    context = ssl.create_default_context(cafile=str(authority.file))
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port, ssl=context)
    try:
        shown: Any = writer.get_extra_info("ssl_object").getpeercert()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.read(), DEADLINE_S)
    finally:
        writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    return head.decode().lower(), body, int(shown["serialNumber"], 16)


async def test_control_links_come_by_tls_from_whoever_trusts_the_authority(
    live: LiveServer, authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, token = live.control_url.replace("ws://", "wss://"), await live.admin_token()
    assert live.server.url == f"https://127.0.0.1:{live.port}"
    with pytest.raises(DialFailed, match=r"certificate of .* was not accepted"):
        await dial(url, token=token, max_size=MAX_CONTROL_MESSAGE)
    monkeypatch.setenv("TETHER_CA_FILE", str(authority.file))
    stream = await dial(url, token=token, max_size=MAX_CONTROL_MESSAGE)
    await stream.close(1000, "")


async def test_a_file_of_authorities_that_is_none_is_named(
    live: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "nowhere.pem"):
        monkeypatch.setenv("TETHER_CA_FILE", str(tmp_path / name))
        with pytest.raises(DialFailed, match=f"the CA file .*{name} cannot be used"):
            await dial(
                live.control_url.replace("ws://", "wss://"), token="x", max_size=MAX_CONTROL_MESSAGE
            )


async def test_browsers_are_told_to_stay_with_tls_and_operators_when_it_runs_out(
    live: LiveServer, authority: TestAuthority
) -> None:
    head, body, _ = await get(live, authority, "/readyz")
    assert "strict-transport-security: max-age=31536000" in head
    (warning,) = json.loads(body)["warnings"]
    assert warning.startswith("the TLS certificate expires in 10.0 days")
    _, metrics, _ = await get(live, authority, "/metrics")
    assert b"tether_tls_certificate_expires_at_seconds " in metrics


async def test_a_certificate_that_is_replaced_is_shown_and_one_that_is_broken_is_not(
    live: LiveServer, authority: TestAuthority
) -> None:
    _, _, first = await get(live, authority, "/healthz")
    newer = authority.issue("newer", days=90.0)
    # half of it: the certificate has been replaced and its key has not
    shutil.copy(newer[0], authority.directory / "server.crt")
    async with asyncio.timeout(DEADLINE_S):
        while "cannot be used" not in str(live.server.tls and live.server.tls.warnings()):
            await asyncio.sleep(0.01)
    assert (await get(live, authority, "/healthz"))[2] == first
    shutil.copy(newer[1], authority.directory / "server.key")
    async with asyncio.timeout(DEADLINE_S):
        while (await get(live, authority, "/healthz"))[2] == first:
            await asyncio.sleep(0.01)
    assert json.loads((await get(live, authority, "/readyz"))[1])["warnings"] == []


async def test_a_key_that_does_not_go_with_its_certificate_keeps_the_server_from_starting(
    tmp_path: Path, authority: TestAuthority
) -> None:
    (certificate, _), (_, other_key) = authority.issue("server"), authority.issue("other")
    with pytest.raises(CannotStart, match="does not go with the certificate"):
        async with running(tmp_path, tls_cert=certificate, tls_key=other_key):
            pass
