"""A short way through asyncssh for the data of channels under AES-GCM.

Law: changes how fast bytes are handled, and nothing else. The same bytes in give the same events out,
and every packet that leaves is one that asyncssh might have sent. What is not plainly the data of an
open channel is left untouched, and asyncssh handles it as ever: every other message, other ciphers,
compression, a packet that is wrong in any way, everything before the user was let in, and everything
while keys are exchanged. `tests/unit/agent/ssh/test_fast_path.py` holds both ways against each other.

What is saved, for each packet of data:

- the AES-GCM context is made once for each key (`KeptGcm`), not for each packet;
- packets are taken from the buffer by their offset; the buffer is cut once, not three times a packet;
- no MSG_IGNORE goes before it. That guards ciphers in CBC mode, where the next packet's IV is known; a
  nonce of GCM is a counter (RFC 5647), and OpenSSH sends none either;
- data that waits for its channel's window is kept as views, and not moved for each packet;
- random padding is fetched from the system for many packets at once (`_Padding`).

It knows nothing of tether: only asyncssh's classes, which it extends. They are private ones;
`tests/integration/agent/test_asyncssh_contract.py` pins the version in which they were read.
"""

from __future__ import annotations

import os
import struct
import time
from typing import Any, AnyStr

from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_USERAUTH_LAST,
)
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.logging import SSHLogger
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BLOCK = 16
"""Bytes of a block of AES, to which packets are padded."""

TAG = 16
"""Bytes of the authentication tag after each packet."""

LEAST_PADDING = 4
"""Bytes of padding that every packet has (RFC 4253 section 6)."""

_COUNTER_MASK = (1 << 64) - 1
_SEQUENCE_MASK = (1 << 32) - 1
_QUIET = 1  # the level of debugging at which asyncssh says nothing of packets

_u32 = struct.Struct(">I").pack
_read_u32 = struct.Struct(">I").unpack_from
_head = struct.Struct(">IBB")  # length of the packet, of its padding; type
_data_head = struct.Struct(">BBII")  # length of the padding, type, channel, length of the data


class _Padding:
    """Random bytes from the system, each handed out once."""

    POOL = 4096

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        """`count` bytes, at most 255."""
        end = self._used + count
        if end > len(self._pool):
            self._pool = os.urandom(self.POOL)
            self._used, end = 0, count
        taken = self._pool[self._used : end]
        self._used = end
        return taken


_padding = _Padding()


class KeptGcm(GCMCipher):
    """asyncssh's AES-GCM of one direction under one key, with its context kept.

    The short way and asyncssh's own use this one object, so there is one counter for the nonces.
    """

    def __init__(self, stock: GCMCipher) -> None:
        """Go on from where `stock` is, which is used no more."""
        self._aead = AESGCM(stock._key)
        self._fixed = stock._iv[:4]
        self._counter = int.from_bytes(stock._iv[4:], "big")

    def encrypt_and_sign(self, header: bytes, data: bytes) -> tuple[bytes, bytes]:
        sealed = self._aead.encrypt(self._nonce(), data, header)
        self.advance()
        return header + sealed[:-TAG], sealed[-TAG:]

    def verify_and_decrypt(self, header: bytes, data: bytes, mac: bytes) -> bytes | None:
        opened: bytes | None
        try:
            opened = self._aead.decrypt(self._nonce(), data + mac, header)
        except InvalidTag:
            opened = None
        self.advance()
        return opened

    def seal(self, kind: int, *parts: bytes | memoryview) -> bytearray:
        """A packet of type `kind` with the payload `parts`, as it goes on the wire."""
        size = 2 + sum(map(len, parts))
        padding = -size % BLOCK
        if padding < LEAST_PADDING:
            padding += BLOCK
        size += padding
        head = _head.pack(size, padding, kind)
        plain = b"".join((head[4:], *parts, _padding.take(padding)))
        wire = bytearray(4 + size + TAG)
        wire[:4] = head[:4]
        with memoryview(wire) as view:
            self._aead.encrypt_into(self._nonce(), plain, head[:4], view[4:])
        self.advance()
        return wire

    def peek(self, wire: memoryview) -> bytes | None:
        """The packet that is the whole of `wire`; None if its tag is wrong.

        It is not taken yet: call `advance`, or let asyncssh open it once more.
        """
        try:
            return self._aead.decrypt(self._nonce(), wire[4:], wire[:4])
        except InvalidTag:
            return None

    def advance(self) -> None:
        """A packet was sealed, or taken."""
        self._counter = (self._counter + 1) & _COUNTER_MASK

    def _nonce(self) -> bytes:
        return self._fixed + self._counter.to_bytes(8, "big")


def _kept(encryption: Encryption | None) -> KeptGcm | None:
    """The cipher of `encryption`, if the short way can use it."""
    if type(encryption) is not GCMEncryption or SSHLogger._debug_level != _QUIET:
        return None
    cipher = encryption._cipher
    if type(cipher) is not KeptGcm:
        cipher = encryption._cipher = KeptGcm(cipher)
    return cipher


class FastConnection(SSHConnection):
    """A connection with the short way for the data of its channels."""

    # -- in --------------------------------------------------------------------------------

    def _recv_pkthdr(self) -> bool:
        """Take packets of data as long as there are any, then the header of the next packet.

        asyncssh calls this where a packet begins, and handles what is raised.
        """
        if self._auth_complete and self._decompressor is None:
            cipher = _kept(self._recv_encryption)
            if cipher is not None and not self._recv_channel_data(cipher):
                return False
        return super()._recv_pkthdr()

    def _recv_channel_data(self, cipher: KeptGcm) -> bool:
        """Returns whether asyncssh is to look at what is left: not where it is a part of a packet."""
        buffer = self._inpbuf
        end = len(buffer)
        start = 0
        try:
            with memoryview(buffer) as view:
                while end - start >= BLOCK:
                    (length,) = _read_u32(buffer, start)
                    if not BLOCK <= length <= self._max_recv_pktlen:
                        return True
                    after = start + 4 + length + TAG
                    if after > end:
                        return False
                    packet = cipher.peek(view[start:after])
                    found = None if packet is None else self._channel_data(packet)
                    if found is None:
                        return True
                    cipher.advance()
                    start = after
                    channel, data = found
                    channel._accept_data(data)
                    self._auth_final = True
                    if self._transport is not None:
                        self._recv_seq = (self._recv_seq + 1) & _SEQUENCE_MASK
                return False
        finally:
            if start:
                self._inpbuf = buffer[start:]

    def _channel_data(self, packet: bytes) -> tuple[SSHChannel[Any], bytes] | None:
        """The channel and the data, if that is all there is in `packet` and the channel may take it."""
        padding, kind, number, size = _data_head.unpack_from(packet)
        if kind != MSG_CHANNEL_DATA or padding == 0:
            return None
        channel = self._channels.get(number)
        if (
            channel is None
            or channel._recv_state != "open"
            or size > channel._recv_window
            or _data_head.size + size + padding != len(packet)
        ):
            return None
        return channel, packet[_data_head.size : _data_head.size + size]

    # -- out -------------------------------------------------------------------------------

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        """Send a packet; `args` may be views of what nobody changes."""
        cipher = self._sending() if pkttype > MSG_USERAUTH_LAST else None
        if cipher is None:
            super().send_packet(pkttype, *map(bytes, args), handler=handler)
            return
        wire = cipher.seal(pkttype, *args)
        self._send(wire)  # type: ignore[arg-type]  # a transport takes either
        self._send_seq = (self._send_seq + 1) & _SEQUENCE_MASK
        self._rekey_bytes_sent += len(wire) - 4 - TAG

    def _sending(self) -> KeptGcm | None:
        """The cipher, unless asyncssh has to send: before the user is let in, while keys are exchanged,
        when they are due to be, and with compression."""
        if (
            not self._auth_complete
            or not self._kex_complete
            or self._compressor is not None
            or self._rekey_bytes_sent >= self._rekey_bytes
            or (self._rekey_seconds and time.monotonic() >= self._rekey_time)  # noqa: TID251 (its clock)
        ):
            return None
        return _kept(self._send_encryption)


class FastChannel(SSHChannel[AnyStr]):
    """A channel whose data waits as views, and leaves without being moved first."""

    def write(self, data: AnyStr, datatype: int | None = None) -> None:
        if (
            type(data) is bytes  # nobody can change it while it waits
            and data
            and datatype is None
            and self._encoding is None
            and self._send_state == "open"
            and SSHLogger._debug_level == _QUIET
        ):
            self._send_buf.append((memoryview(data), None))  # type: ignore[arg-type]
            self._send_buf_len += len(data)
            self._flush_send_buf()
        else:
            super().write(data, datatype)  # type: ignore[arg-type]

    def _flush_send_buf(self) -> None:
        """Send what the window allows; the rest of asyncssh's method then finds nothing to send."""
        while self._send_buf and self._send_window:
            waiting, datatype = self._send_buf[0]
            view = memoryview(waiting)
            piece = view[: min(self._send_window, self._send_pktsize)]
            if len(piece) < len(view):
                self._send_buf[0] = (view[len(piece) :], datatype)  # type: ignore[assignment]
            else:
                del self._send_buf[0]
            self._send_buf_len -= len(piece)
            self._send_window -= len(piece)
            self._send_data(piece, datatype)
        super()._flush_send_buf()

    def _send_data(self, piece: memoryview, datatype: int | None) -> None:
        if self._send_chan is None or self._conn is None:
            return
        head: tuple[bytes, ...] = (_u32(self._send_chan),)
        kind = MSG_CHANNEL_DATA
        if datatype is not None:
            head = (*head, _u32(datatype))
            kind = MSG_CHANNEL_EXTENDED_DATA
        self._conn.send_packet(kind, *head, _u32(len(piece)), piece, handler=self)  # type: ignore[arg-type]
