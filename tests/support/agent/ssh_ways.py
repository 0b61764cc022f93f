"""Asyncssh's own way of handling packets and the short one, side by side on the same bytes.

A `Way` is a server's connection after the log-in, under AES-GCM with known keys, without a network.
`Wire` makes what its client sends. What happens is recorded as plain values, so that two ways compare.
"""

from __future__ import annotations

import asyncio
import random
import struct
from typing import Any

import asyncssh
from asyncssh.channel import SSHServerChannel
from asyncssh.connection import SSHServerConnection
from asyncssh.encryption import GCMEncryption
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tether.agent.ssh.fast_path import FastChannel, FastConnection

KEY, IV = bytes(range(16)), bytes(range(100, 112))
WINDOW, PACKET = 4096, 1024
IGNORE, DISCONNECT, UNIMPLEMENTED, DEBUG, KEXINIT = 2, 1, 3, 4, 20
GLOBAL_REQUEST, OPEN, ADJUST, DATA, EXTENDED, EOF, CLOSE, REQUEST = 80, 90, 93, 94, 95, 96, 97, 98
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


def text(value: bytes) -> bytes:
    return u32(len(value)) + value


class Wire:
    """The client's side of the wire."""

    def __init__(self) -> None:
        self._aead = AESGCM(KEY)
        self._sent = int.from_bytes(IV[4:], "big")
        self._received = self._sent

    def packet(self, kind: int, payload: bytes, *, padding: int | None = None) -> bytes:
        """A sealed packet; `padding` says another length than there is."""
        size = 2 + len(payload)
        right = -size % 16
        right += 16 if right < 4 else 0
        said = right if padding is None else padding
        return self.sealed(bytes((said, kind)) + payload + bytes(right))

    def sealed(self, plain: bytes) -> bytes:
        head = u32(len(plain))
        wire = head + self._aead.encrypt(IV[:4] + self._sent.to_bytes(8, "big"), plain, head)
        self._sent += 1
        return wire

    def data(self, channel: int, data: bytes, *, size: int | None = None) -> bytes:
        """Data for a channel; `size` says another length than there is."""
        said = len(data) if size is None else size
        return self.packet(DATA, u32(channel) + u32(said) + data)

    def opened(self, wire: bytes) -> list[bytes]:
        """The packets in `wire`, each from its type on, without padding."""
        found = []
        while wire:
            size = int.from_bytes(wire[:4], "big")
            assert (size % 16, len(wire) >= 4 + size + 16) == (0, True)
            nonce = IV[:4] + self._received.to_bytes(8, "big")
            plain = self._aead.decrypt(nonce, wire[4 : 4 + size + 16], wire[:4])
            assert plain[0] >= 4
            self._received += 1
            found.append(plain[1 : -plain[0]])
            wire = wire[4 + size + 16 :]
        return found


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 22)})
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        pass


class Session(asyncssh.SSHServerSession[bytes]):
    """Records, and reacts to the first byte of what comes: as programs that are slow, leave or fail."""

    def __init__(self, way: Way, channel: Any) -> None:
        self._way = way
        self._channel = channel

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._way.events.append(("data", self._channel.number, bytes(data), datatype))
        match data[0]:
            case 1:
                self._channel.pause_reading()
            case 2 if not self._channel.is_closing():
                self._channel.write(data)
            case 3:
                self._channel.close()
            case 4 if not self._channel.is_closing():
                self._channel.write_stderr(data)
            case 5:
                raise RuntimeError("a bug of the session")
            case 6:
                self._way.connection.disconnect(11, "enough")

    def eof_received(self) -> bool:
        self._way.events.append(("eof", self._channel.number))
        return True

    def pause_writing(self) -> None:
        self._way.events.append(("pause", self._channel.number))

    def resume_writing(self) -> None:
        self._way.events.append(("resume", self._channel.number))

    def connection_lost(self, exc: Exception | None) -> None:
        self._way.events.append(("lost", self._channel.number, repr(exc)))


class _Recorded(SSHServerConnection):
    way: Way

    def _force_close(self, exc: Exception | None) -> None:
        self.way.events.append(("close", repr(exc), self._transport is None))
        super()._force_close(exc)


class StockConnection(_Recorded):
    pass


class ShortConnection(FastConnection, _Recorded):
    pass


class StockChannel(SSHServerChannel[bytes]):
    number: int


class ShortChannel(FastChannel[bytes], SSHServerChannel[bytes]):
    number: int


class Way:
    """One way at work. Construct it in a running loop."""

    def __init__(
        self, short: bool, options: asyncssh.SSHServerConnectionOptions, channels: int = 2
    ) -> None:
        loop = asyncio.get_running_loop()
        kind = ShortConnection if short else StockConnection
        self.events: list[tuple[Any, ...]] = []
        self.connection: Any = kind(loop, options)
        self.connection.way = self
        self.transport = _Transport()
        self.connection.connection_made(self.transport)
        self.transport.written.clear()
        self.opened = Wire().opened
        self._logged_in()
        channel_kind = ShortChannel if short else StockChannel
        self.channels: list[Any] = []
        for number in range(channels):
            channel: Any = channel_kind(
                self.connection, loop, True, False, False, 0, 0, None, "strict", WINDOW, PACKET
            )
            channel.number = number
            channel._send_chan, channel._send_window, channel._send_pktsize = number, 3000, 512
            channel._send_state = channel._recv_state = "open"
            channel._recv_paused = False
            channel._session = Session(self, channel)
            self.channels.append(channel)

    def _logged_in(self) -> None:
        connection = self.connection
        connection._client_version = b"SSH-2.0-test"
        connection._session_id = b"session"
        connection._recv_encryption = GCMEncryption.new("aes128-gcm", KEY, IV)
        connection._send_encryption = GCMEncryption.new("aes128-gcm", KEY, IV)
        connection._recv_blocksize = connection._send_blocksize = 16
        connection._recv_macsize, connection._send_enchdrlen = 16, 1
        connection._auth_complete = connection._kex_complete = connection._strict_kex = True
        connection._rekey_time = float("inf")
        connection._recv_handler = connection._recv_pkthdr

    async def feed(self, data: bytes) -> None:
        """These bytes arrive, and everything that they cause happens."""
        if self.connection._transport is not None:
            self.connection.data_received(data)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(6):  # the steps of the longest chain of tasks and callbacks
            await asyncio.sleep(0)
        for packet in self.opened(b"".join(self.transport.written)):
            if packet[0] == KEXINIT:
                self.events.append(("sent", "kexinit"))  # a random cookie is in it
            elif packet[0] != IGNORE:
                self.events.append(("sent", packet))
        self.transport.written.clear()

    def state(self) -> tuple[Any, ...]:
        """What both ways must agree upon in the end."""
        connection = self.connection
        return (
            [
                (c._send_state, c._recv_state, c._recv_window, c._send_window, c._send_buf_len)
                for c in self.channels
            ],
            connection._transport is None,
            connection._recv_seq,
            connection._auth_final,
        )


def options() -> asyncssh.SSHServerConnectionOptions:
    return asyncssh.SSHServerConnectionOptions(
        server_host_keys=[HOST_KEY], login_timeout=0, keepalive_interval=0
    )


class Input:
    """What one client sends, made from a seed: mostly data, and everything else that can go wrong."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._wire = Wire()
        pieces = [self._piece() for _ in range(self._random.randint(1, 12))]
        stream = b"".join(pieces)
        if self._random.random() < 0.15:
            stream = self._damaged(stream)
        self.chunks = self._cut(stream)
        self.resumes = [self._random.random() < 0.3 for _ in self.chunks]

    def _piece(self) -> bytes:
        pick, wire = self._random, self._wire
        channel = pick.choice((0, 0, 0, 1, 1, 1, 1, 0, 2 if pick.random() < 0.2 else 0))
        if pick.random() < 0.6:
            return wire.data(channel, self._data())
        return pick.choice(
            (
                lambda: wire.packet(
                    EXTENDED, u32(channel) + u32(pick.randint(0, 2)) + text(self._data())
                ),
                lambda: wire.packet(ADJUST, u32(channel) + u32(pick.choice((0, 1, 600, 5000)))),
                lambda: wire.packet(EOF, u32(channel)),
                lambda: wire.packet(CLOSE, u32(channel)),
                lambda: wire.packet(IGNORE, text(self._data())),
                lambda: wire.packet(DEBUG, b"\0" + text(b"hello") + text(b"")),
                lambda: wire.packet(UNIMPLEMENTED, u32(3)),
                lambda: wire.packet(GLOBAL_REQUEST, text(b"keepalive@openssh.com") + b"\1"),
                lambda: wire.packet(OPEN, text(b"what") + u32(9) + u32(100) + u32(100)),
                lambda: wire.packet(
                    REQUEST, u32(channel) + text(b"window-change") + b"\0" + u32(1) * 4
                ),
                lambda: wire.packet(DISCONNECT, u32(11) + text(b"bye") + text(b"")),
                lambda: wire.packet(pick.randint(0, 255), self._data()),
                lambda: wire.packet(KEXINIT, self._data()),
                lambda: wire.data(channel, self._data(), size=pick.choice((0, 5, 2**32 - 1))),
                lambda: wire.packet(
                    DATA, u32(channel) + text(self._data()), padding=pick.randint(0, 255)
                ),
                lambda: wire.data(channel, bytes(WINDOW + 1)),
                lambda: wire.sealed(bytes(pick.randint(0, 3) * 16)),
                lambda: wire.sealed(pick.randbytes(pick.randint(1, 40))),
                lambda: u32(pick.choice((0, 11, 2**31, 2**32 - 1))) + pick.randbytes(20),
            )
        )()

    def _data(self) -> bytes:
        reaction = self._random.choices(range(10), (1, 3, 8, 1, 2, 0.3, 0.3, 20, 20, 20))[0]
        size = self._random.choice((0, 1, 7, 100, 700, 1500, 3000))
        return bytes((reaction,)) * min(size, 1) + self._random.randbytes(max(size - 1, 0))

    def _damaged(self, stream: bytes) -> bytes:
        at = self._random.randrange(len(stream))
        if self._random.random() < 0.3:
            return stream[:at]
        return (
            stream[:at] + bytes((stream[at] ^ 1 << self._random.randrange(8),)) + stream[at + 1 :]
        )

    def _cut(self, stream: bytes) -> list[bytes]:
        style = self._random.random()
        if style < 0.3 or len(stream) < 2:
            return [stream]
        if style < 0.36:
            return [stream[i : i + 1] for i in range(min(len(stream), 300))] + [stream[300:]]
        cuts = sorted(
            self._random.randrange(len(stream)) for _ in range(self._random.randint(1, 6))
        )
        return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if b > a]


async def both(
    chosen: Input, shared: asyncssh.SSHServerConnectionOptions
) -> list[tuple[list[tuple[Any, ...]], tuple[Any, ...]]]:
    """What the same input does in each way: events, then the state in the end."""
    results = []
    for short in (False, True):
        way = Way(short, shared)
        for chunk, resume in zip(chosen.chunks, chosen.resumes, strict=True):
            await way.feed(chunk)
            if resume:
                for channel in way.channels:
                    channel.resume_reading()
                await way.settle()
        results.append((way.events[:], way.state()))
        if way.connection._transport is not None:
            way.connection.abort()
            await asyncio.sleep(0)
    return results
