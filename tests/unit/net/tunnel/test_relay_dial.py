"""Dialling a leg: it is there once the other one is, and anything else is a failed dial."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.net.ws import RawServer, raw_server, serving
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed
from tether.net.tunnel.relay_dial import dial_relay


def text_frame(text: str) -> bytes:
    return bytes((0x81, len(text))) + text.encode()


async def dialled(raw: RawServer, frames: bytes, *, hang_up: bool = False) -> Any:
    """Dial while the relay says `frames`; what comes of it."""
    tasks = Tasks("test")
    dialling = tasks.spawn(dial_relay(raw.url, "ticket"), "dial")
    reader, writer = await raw.connected()
    writer.write(frames)
    if hang_up:
        writer.close()
    tasks.spawn(_answer_a_close(reader, writer), "answer")
    try:
        return await dialling
    except DialFailed as failed:
        return failed
    finally:
        writer.close()


async def _answer_a_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


async def test_a_paired_leg_is_a_stream() -> None:
    async with raw_server() as raw:
        said = text_frame('{"type":"hint"}') + text_frame('{"type":"paired"}') + b"\x82\x01x"
        stream = await dialled(raw, said)
        assert await stream.recv() == b"x"
        await stream.close(1000, "")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (
            text_frame('{"type":"goodbye","cause":"x","detail":"the ticket has expired"}'),
            "the ticket has expired",
        ),
        (text_frame('{"type":"goodbye","cause":"x"}'), "the relay refused the tunnel"),
        (
            text_frame('{"type":"peer_gone","how":"eof"}'),
            "the other end of the tunnel left before it was joined",
        ),
        (b"\x82\x01x", "the relay sent data before it had paired the tunnel"),
        (text_frame("<html>"), "the relay does not speak this protocol"),
        (b"\x88\x02\x03\xe8", "the relay ended the tunnel before it was joined: closed"),
    ],
    ids=["goodbye", "curt goodbye", "peer gone", "data", "raving", "close"],
)
async def test_a_relay_that_does_not_join_us_is_a_failed_dial(frames: bytes, words: str) -> None:
    async with raw_server() as raw:
        failed = await dialled(raw, frames)
        assert isinstance(failed, DialFailed)
        assert str(failed).startswith(words)


async def test_a_relay_that_dies_while_we_wait_is_a_failed_dial() -> None:
    async with raw_server() as raw:
        failed = await dialled(raw, b"", hang_up=True)
        assert isinstance(failed, DialFailed)
        assert str(failed) == "the relay ended the tunnel before it was joined: eof"


async def test_a_refused_ticket_is_a_failed_dial_in_the_relays_words() -> None:
    body = b'{"error": {"code": "ticket_used", "message": "This ticket was used before."}}'
    async with serving(refuse=(401, body)) as served:
        with pytest.raises(DialFailed, match=r"^This ticket was used before\.$"):
            await dial_relay(served.url, "ticket")


async def test_another_end_that_never_comes_is_a_failed_dial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tether.net.tunnel.relay_dial.PAIRING_TIMEOUT_S", 0.1)
    async with raw_server() as raw:
        failed = await dialled(raw, b"")
        assert str(failed) == "the other end of the tunnel did not come to the relay in time"
