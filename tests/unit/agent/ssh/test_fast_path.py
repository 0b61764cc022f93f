"""The short way for data: the same as asyncssh's own, and as safe."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from typing import Any

import asyncssh
import pytest

from tests.support.agent.ssh_ways import (
    DATA,
    IV,
    KEXINIT,
    KEY,
    PACKET,
    WINDOW,
    Input,
    ShortChannel,
    ShortConnection,
    Way,
    Wire,
    both,
    options,
    u32,
)
from tether.agent.ssh.fast_path import KeptGcm

BLOCK_OF_INPUTS = 100


@pytest.mark.parametrize("block", range(5))
async def test_the_same_bytes_in_give_the_same_events_out(block: int) -> None:
    """`scripts/fuzz_ssh.py` does the same with as many inputs as one likes."""
    shared = options()
    for seed in range(block * BLOCK_OF_INPUTS, (block + 1) * BLOCK_OF_INPUTS):
        stock, short = await both(Input(seed), shared)
        assert stock == short, f"seed {seed}"


class Chunks(Input):
    """Bytes that are given."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.resumes = [False] * len(chunks)


def closed(events: list[tuple[Any, ...]]) -> list[str]:
    return [event[1] for event in events if event[0] == "close"]


def flipped(wire: bytes, at: int) -> bytes:
    return wire[:at] + bytes((wire[at] ^ 1,)) + wire[at + 1 :]


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (lambda wire: flipped(wire.data(0, b"hello"), 8), ["MACError('MAC verification failed')"]),
        (lambda wire: flipped(wire.data(0, b"hello"), -1), ["MACError('MAC verification failed')"]),
        (lambda wire: flipped(wire.data(0, b"hello"), 3), []),  # it says to be longer than it is
        (lambda wire: wire.data(0, b"hello")[:-1], []),
        (
            lambda wire: b"\xff\xff\xff\xff" + bytes(20),
            ["ProtocolError('Max packet size exceeded')"],
        ),
        (lambda wire: bytes(36), ["MACError('MAC verification failed')"]),
        (lambda wire: wire.data(0, bytes(WINDOW + 1)), ["ProtocolError('Window exceeded')"]),
        (lambda wire: wire.data(7, b"x"), ["ProtocolError('Invalid channel number 7 received')"]),
        (
            lambda wire: wire.data(0, b"hello", size=2**32 - 1),
            ["ProtocolError('Incomplete packet')"],
        ),
        (
            lambda wire: wire.data(0, b"hello", size=4),
            ["ProtocolError('Unexpected data at end of packet')"],
        ),
    ],
    ids=[
        *("bit flipped in the data", "bit flipped in the tag", "bit flipped in the length"),
        *("truncated", "absurd length", "length of nothing", "window overrun", "unknown channel"),
        *("data longer than its packet", "data shorter than its packet"),
    ],
)
async def test_what_is_wrong_ends_as_it_does_in_asyncssh(
    make: Callable[[Wire], bytes], end: list[str]
) -> None:
    wire = Wire()
    good = wire.data(0, b"\x08 good")
    (events, state), short = await both(Chunks(good + make(wire)), options())
    assert (events, state) == short
    assert closed(events) == end
    assert events[0] == ("data", 0, b"\x08 good", None)


async def test_packets_that_come_byte_by_byte_are_whole_in_the_end() -> None:
    wire = Wire()
    stream = wire.data(0, b"\x08 one") + wire.data(1, b"\x08 two")
    stock, short = await both(Chunks(*(bytes((byte,)) for byte in stream)), options())
    assert stock == short
    assert short[0] == [("data", 0, b"\x08 one", None), ("data", 1, b"\x08 two", None)]


class SentBy:
    """A way, and the client that opens what it sends."""

    def __init__(self) -> None:
        self.way = Way(True, options(), channels=1)
        self.channel = self.way.channels[0]

    def packets(self) -> list[bytes]:
        sent = b"".join(self.way.transport.written)
        self.way.transport.written.clear()
        return self.way.opened(sent)

    def close(self) -> None:
        self.way.connection.abort()


@pytest.fixture
async def sent_by() -> Any:
    one = SentBy()
    yield one
    one.close()
    await asyncio.sleep(0)


async def test_data_leaves_without_a_message_before_it(sent_by: SentBy) -> None:
    sent_by.channel.write(b"hello")
    assert sent_by.packets() == [bytes((DATA,)) + u32(0) + u32(5) + b"hello"]


async def test_no_more_is_sent_than_the_window_and_a_packet_may_hold(sent_by: SentBy) -> None:
    data = random.Random(1).randbytes(4000)
    sent_by.channel.write(data)
    sizes = [len(packet) - 9 for packet in sent_by.packets()]
    assert sizes == [512] * 5 + [440]
    assert sent_by.channel._send_window == 0
    assert sent_by.channel.get_write_buffer_size() == 1000
    wire = Wire()
    await sent_by.way.feed(wire.packet(93, u32(0) + u32(10_000)))
    sent = [event[1][9:] for event in sent_by.way.events if event[0] == "sent"]
    assert b"".join(sent) == data[3000:]
    assert sent_by.channel._send_window == 9000


async def test_what_waits_does_not_change_with_the_callers_buffer(sent_by: SentBy) -> None:
    data = bytearray(b"a" * 4000)
    sent_by.channel.write(data)
    data[:] = b"b" * 4000
    sent_by.packets()
    await sent_by.way.feed(Wire().packet(93, u32(0) + u32(10_000)))
    sent = b"".join(event[1][9:] for event in sent_by.way.events if event[0] == "sent")
    assert sent == b"a" * 1000


async def test_a_stalled_client_costs_what_the_session_may_buffer(sent_by: SentBy) -> None:
    sent_by.channel.write(bytes(3000 + (64 << 10)))
    assert ("pause", 0) not in sent_by.way.events
    sent_by.channel.write(b"x")
    assert ("pause", 0) in sent_by.way.events


async def test_padding_is_random_at_least_four_bytes_and_fills_the_block() -> None:
    key = asyncssh.encryption.GCMEncryption.new("aes128-gcm", KEY, IV)._cipher
    sender, reader = KeptGcm(key), KeptGcm(key)
    paddings = []
    for size in range(200):
        wire = sender.seal(DATA, bytes(size))
        plain = reader.peek(memoryview(wire))
        reader.advance()
        assert plain is not None
        assert (len(plain) % 16, plain[1], plain[2 : 2 + size]) == (0, DATA, bytes(size))
        padding = plain[2 + size :]
        assert plain[0] == len(padding) and 4 <= len(padding) < 20
        paddings.append(padding)
    assert len(set(paddings)) == len(paddings)


async def test_keys_are_exchanged_after_as_many_bytes_as_in_asyncssh(sent_by: SentBy) -> None:
    connection = sent_by.way.connection
    connection._rekey_bytes = 96
    for _ in range(3):
        sent_by.channel.write(bytes(30))  # in a packet of 48
    kinds = [packet[0] for packet in sent_by.packets()]
    assert kinds == [DATA, DATA, KEXINIT]
    assert len(connection._deferred_packets) == 1, "data waits for the new keys"
    assert connection._deferred_packets[0][1] == (u32(0), u32(30), bytes(30))


async def test_keys_are_exchanged_when_it_is_time(sent_by: SentBy) -> None:
    sent_by.channel.write(b"before")
    sent_by.way.connection._rekey_time = 0.0
    sent_by.channel.write(b"after")
    assert [packet[0] for packet in sent_by.packets()] == [DATA, KEXINIT]


class _Server(ShortConnection):
    """A whole server, whose sessions send back what they get."""

    exchanges = 0

    def _send_kexinit(self) -> None:
        self.exchanges += 1
        super()._send_kexinit()

    def create_server_channel(self, *_: Any, **__: Any) -> Any:
        channel = ShortChannel(
            self, self._loop, True, False, False, 0, 0, None, "strict", 64 * PACKET, 32 * PACKET
        )
        channel.number = 0
        return channel


class _Echo(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> Any:
        return _EchoSession()


class _EchoSession(asyncssh.SSHServerSession[bytes]):
    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        return True

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._channel.write(data)

    def eof_received(self) -> bool:
        self._channel.exit(0)
        return True

    def pause_writing(self) -> None:
        self._channel.pause_reading()

    def resume_writing(self) -> None:
        self._channel.resume_reading()


@pytest.mark.parametrize(
    "cipher",
    [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes256-ctr",
        "chacha20-poly1305@openssh.com",
    ],
)
async def test_nothing_is_lost_where_keys_are_exchanged_amid_bursts(cipher: str) -> None:
    """Both ends ask for new keys all the time, under strict key exchange: it resets the numbers."""
    loop = asyncio.get_running_loop()
    made: list[_Server] = []
    shared = asyncssh.SSHServerConnectionOptions(
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        server_factory=_Echo,
        encoding=None,
        rekey_bytes=100_000,
    )

    def accept() -> _Server:
        server = _Server(loop, shared)
        server.way = _Unwatched()  # type: ignore[assignment]
        made.append(server)
        return server

    listener = await loop.create_server(accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    data = random.Random(cipher).randbytes(2_000_000)
    async with (
        listener,
        asyncio.timeout(60),
        asyncssh.connect(
            "127.0.0.1",
            port,
            known_hosts=None,
            username="u",
            config=None,
            client_keys=None,
            encryption_algs=[cipher],
            rekey_bytes=150_000,
        ) as client,
    ):
        assert client._strict_kex and made[0]._strict_kex
        result = await client.run("echo", input=data, encoding=None, check=True)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()  # type: ignore[arg-type]
    assert made[0].exchanges > 10


class _Unwatched:
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
