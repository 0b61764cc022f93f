"""Real WebSockets on loopback: what each end is told for every way in which the other can end.

The contract with uvicorn's and websockets' internals, on both event loops.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.net.ws import Served, linger_0, raw_client, raw_server, serving
from tether.attribution.vocabulary import Reach, StreamEnd
from tether.net.transport.streams import DialFailed, MessageStream, StreamLost
from tether.net.transport.ws_client import ClientStream, dial
from tether.net.transport.ws_server import ServerStream

MAX_SIZE = 4096
BAD_OPCODE = b"\x8f\x80\0\0\0\0"
UNMASKED = b"\x82\x01x"
INVALID_UTF8 = b"\x81\x81\0\0\0\0\xff"


@dataclass
class Pair:
    served: Served
    client: ClientStream
    server: ServerStream


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    async with serving(max_size=MAX_SIZE) as served:
        client = await dial(served.url, token="t", max_size=MAX_SIZE)
        try:
            yield Pair(served, client, await served.accepted())
        finally:
            await client.close(1000, "")


async def lost(stream: MessageStream) -> StreamLost:
    """What the stream's reader is told."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await stream.recv()
            except StreamLost as it:
                return it


async def lost_sending(stream: MessageStream) -> StreamLost:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await stream.send(b"x" * 1000)
            except StreamLost as it:
                return it
            await asyncio.sleep(0)


def told(
    it: StreamLost,
) -> tuple[StreamEnd, str, int | None, str, bool]:
    assert it.counters is not None, "TCP_INFO is read before the socket is forgotten"
    assert it.counters["pmtu"] > 0
    return it.how, it.errno_name, it.close_code, it.close_reason, bool(it.violation)


# -- messages ---------------------------------------------------------------------------


async def test_messages_pass_both_ways_in_both_kinds() -> None:
    async with pair() as both:
        for message in (b"binary", "text", b"", b"x" * MAX_SIZE):
            await both.client.send(message)
            assert await both.server.recv() == message
            await both.server.send(message)
            assert await both.client.recv() == message


@pytest.mark.parametrize("header", ["X-Forwarded-For", "forwarded", "Via", "X-Real-IP"])
async def test_whoever_comes_with_a_proxys_header_is_seen_as_far_as_the_proxy(header: str) -> None:
    async with serving() as served:
        plain = await dial(served.url, token="t", max_size=1000)
        assert (await served.accepted()).reach is Reach.UNKNOWN
        through = await dial(served.url, token="t", max_size=1000, headers={header: "10.0.0.9"})
        accepted = await served.accepted()
        assert (accepted.reach, accepted.proxy) == (Reach.PROXIED, "127.0.0.1")
        for stream in (plain, through):
            await stream.close(1000, "")


async def test_counters_can_be_read_at_any_time() -> None:
    async with pair() as both:
        for stream in (both.client, both.server):
            counters = stream.counters()
            assert counters is not None
            assert counters["last_ack_recv_ms"] < 5000


# -- the client ends --------------------------------------------------------------------


async def test_a_client_that_closes_with_a_code_is_heard() -> None:
    async with pair() as both:
        await both.client.close(4001, "because")
        it = await lost(both.server)
        assert told(it) == (StreamEnd.CLOSED, "", 4001, "because", False)


async def test_a_killed_client_is_an_eof() -> None:
    async with pair() as both:
        both.client._ws.transport.abort()
        it = await lost(both.server)
        assert told(it) == (StreamEnd.EOF, "", None, "", False)


async def test_a_client_that_resets_is_a_reset() -> None:
    async with pair() as both:
        linger_0(both.client._ws.transport.get_extra_info("socket"))
        both.client._ws.transport.abort()
        it = await lost(both.server)
        assert told(it) == (StreamEnd.RESET, "ECONNRESET", None, "", False)


async def test_what_a_client_sent_before_it_was_killed_is_read_first() -> None:
    async with pair() as both:
        await both.client.send(b"last words")
        both.client._ws.transport.close()
        assert await both.server.recv() == b"last words"
        assert told(await lost(both.server))[0] is StreamEnd.EOF


@pytest.mark.parametrize("frame", [BAD_OPCODE, UNMASKED], ids=["bad opcode", "unmasked"])
async def test_a_client_that_breaks_websocket_is_a_violation(frame: bytes) -> None:
    async with serving() as served:
        reader, writer = await raw_client(served.url)
        server = await served.accepted()
        writer.write(frame)
        it = await lost(server)
        assert told(it) == (StreamEnd.OTHER, "", None, "", True)
        assert (await reader.read())[2:4] == (1002).to_bytes(2)
        writer.close()


async def test_text_that_is_no_text_is_a_violation() -> None:
    async with serving() as served:
        _, writer = await raw_client(served.url)
        server = await served.accepted()
        writer.write(INVALID_UTF8)
        it = await lost(server)
        assert told(it) == (StreamEnd.OTHER, "", None, "", True)
        assert it.violation == "text that is not UTF-8"
        writer.close()


async def test_an_oversize_message_of_the_client_is_a_violation() -> None:
    async with pair() as both:
        await both.client.send(b"x" * (MAX_SIZE + 1))
        it = await lost(both.server)
        assert told(it) == (StreamEnd.OTHER, "", None, "", True)
        assert f"{MAX_SIZE + 1} bytes" in it.violation
        assert told(await lost(both.client)) == (
            StreamEnd.CLOSED,
            "",
            1009,
            (await lost(both.client)).close_reason,
            False,
        )


# -- the server ends --------------------------------------------------------------------


async def test_a_server_that_closes_with_a_code_is_heard() -> None:
    async with pair() as both:
        await both.server.close(4408, "silent for too long")
        it = await lost(both.client)
        assert told(it) == (StreamEnd.CLOSED, "", 4408, "silent for too long", False)


async def test_a_killed_server_is_an_eof() -> None:
    async with pair() as both:
        both.server.abort()
        it = await lost(both.client)
        assert told(it) == (StreamEnd.EOF, "", None, "", False)


async def test_a_server_that_resets_is_a_reset() -> None:
    async with pair() as both:
        linger_0(both.server._protocol.transport.get_extra_info("socket"))
        both.server.abort()
        it = await lost(both.client)
        assert told(it) == (StreamEnd.RESET, "ECONNRESET", None, "", False)


async def test_a_server_that_shuts_its_protocol_down_is_heard_by_both() -> None:
    async with pair() as both:
        both.server._protocol.shutdown()
        assert told(await lost(both.client))[:3] == (StreamEnd.CLOSED, "", 1012)
        with pytest.raises(StreamLost) as raised:
            await both.server.recv()
        assert raised.value.how is StreamEnd.CLOSED
        assert raised.value.errno_name == ""


async def test_a_server_that_breaks_websocket_is_a_violation() -> None:
    async with raw_server() as raw:
        client = await dial(raw.url, token="t", max_size=MAX_SIZE)
        _, writer = await raw.connected()
        writer.write(b"\x8f\x00")
        it = await lost(client)
        assert told(it) == (StreamEnd.OTHER, "", None, "", True)
        writer.close()


async def test_an_oversize_message_of_the_server_is_a_violation() -> None:
    async with pair() as both:
        await both.server.send(b"x" * (MAX_SIZE + 1))
        it = await lost(both.client)
        assert told(it) == (StreamEnd.OTHER, "", None, "", True)
        assert f"{MAX_SIZE + 1} bytes" in it.violation


# -- our own close ----------------------------------------------------------------------


async def test_our_own_close_ends_our_own_reader() -> None:
    async with pair() as both:
        reading = asyncio.gather(lost(both.client), lost(both.server))
        await asyncio.sleep(0)
        await both.client.close(4000, "enough")
        client, server = await reading
        assert (client.how, client.close_code) == (StreamEnd.CLOSED, 4000)
        assert (server.how, server.close_code) == (StreamEnd.CLOSED, 4000)


@pytest.mark.parametrize("end", ["client", "server"])
async def test_closing_twice_or_after_a_loss_is_harmless(end: str) -> None:
    async with pair() as both:
        stream: MessageStream = getattr(both, end)
        other: MessageStream = both.server if end == "client" else both.client
        await stream.close(1000, "goodbye")
        await lost(other)
        await stream.close(1000, "goodbye")
        await other.close(1000, "goodbye")


@pytest.mark.parametrize("end", ["client", "server"])
async def test_a_reason_of_any_length_fits_the_close_frame(end: str) -> None:
    async with pair() as both:
        stream: MessageStream = getattr(both, end)
        other: MessageStream = both.server if end == "client" else both.client
        await stream.close(1000, "ü€" * 200)
        it = await lost(other)
        assert it.close_reason.startswith("ü€")
        assert 115 <= len(it.close_reason.encode()) <= 123


@pytest.mark.parametrize("end", ["client", "server"])
async def test_sending_to_a_lost_peer_says_how_it_was_lost(end: str) -> None:
    async with pair() as both:
        if end == "client":
            linger_0(both.server._protocol.transport.get_extra_info("socket"))
            both.server.abort()
            it = await lost_sending(both.client)
        else:
            linger_0(both.client._ws.transport.get_extra_info("socket"))
            both.client._ws.transport.abort()
            it = await lost_sending(both.server)
        assert told(it)[:2] == (StreamEnd.RESET, "ECONNRESET")


@pytest.mark.parametrize("end", ["client", "server"])
async def test_a_peer_that_does_not_read_makes_us_wait_but_cannot_keep_us_from_closing(
    end: str,
) -> None:
    if end == "server":
        async with serving() as served:
            _, writer = await raw_client(served.url)
            await stuffed_then_closed(await served.accepted())
            writer.transport.abort()
    else:
        async with raw_server() as raw:
            client = await dial(raw.url, token="t", max_size=MAX_SIZE)
            _, writer = await raw.connected()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await stuffed_then_closed(client)
            writer.transport.abort()


async def stuffed_then_closed(stream: MessageStream) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                await stream.send(b"x" * (256 << 10))
    async with asyncio.timeout(4):
        await stream.close(4408, "silent for too long")


# -- refusals ---------------------------------------------------------------------------


async def test_a_refusal_carries_its_sentence() -> None:
    body = b'{"error": {"code": "token_revoked", "message": "Run `tether login` again."}}'
    async with serving(refuse=(401, body)) as served:
        with pytest.raises(DialFailed) as raised:
            await dial(served.url, token="t", max_size=MAX_SIZE)
        failed = raised.value
        assert (str(failed), failed.status, failed.cause, failed.fatal) == (
            "Run `tether login` again.",
            401,
            "token_revoked",
            True,
        )
