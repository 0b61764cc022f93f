"""A sealed channel: what a page in a browser speaks over a tunnel, where a client speaks SSH.

Relay and server see only its ciphertext. A machine: bytes in, plaintext or bytes to send out. Why it is
this one: docs/adr/0013.

Law: no I/O and no clock; randomness only for the fresh key. Nothing is delivered before the other end
has proven who it is: the client by the key that the server has announced to the agent for it, the agent
by its SSH host key, which the client has pinned. Every record is authenticated and numbered, and one
that is not right ends the channel for good.

Handshake (the X25519 keys are fresh for each tunnel):
    client -> agent   record: client's X25519 key (32)
    agent  -> client  record: agent's X25519 key (32), Ed25519 signature of the host key (64) over
                      SHA-256("tether-sealed-1" | connection id | client's key | agent's key)
    keys              HKDF-SHA256(X25519(…), salt = that hash, info = direction), AES-256-GCM
A record is its length (4 bytes, big-endian), then that many bytes. Sealed ones have a nonce that counts
from 0 (RFC 5116 section 3.2).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from abc import ABC, abstractmethod
from enum import Enum, auto
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tether.protocol.messages.base import Garbage

KEY_PREFIX = "x25519 "
"""How a channel's public key is written where SSH's would stand: `x25519 BASE64`."""

MAX_RECORD = 64 << 10
"""Bytes of plaintext in one record; longer writes are several."""

_DOMAIN = b"tether-sealed-1"
_KEY, _TAG, _HEAD = 32, 16, 4  # bytes


def public_line(key: X25519PublicKey) -> str:
    """`key` as it is announced."""
    return KEY_PREFIX + base64.b64encode(key.public_bytes_raw()).decode()


def read_public_line(line: str) -> bytes:
    """The 32 bytes of an announced key.

    Raises:
        ValueError: it is none.
    """
    try:
        raw = base64.b64decode(line.removeprefix(KEY_PREFIX), validate=True)
    except binascii.Error as wrong:
        raise ValueError(f"not a channel's key: {wrong}") from wrong
    if not line.startswith(KEY_PREFIX) or len(raw) != _KEY:
        raise ValueError("not a channel's key: 32 bytes in base64 are expected after `x25519 `")
    return raw


class _State(Enum):
    GREETING = auto()  # the other end has not proven itself
    OPEN = auto()
    BROKEN = auto()  # something came that the other end has not sealed


class SealedChannel(ABC):
    """What both ends share: records, and sealing once the keys are there."""

    def __init__(self, connection_id: str) -> None:
        self._connection_id = connection_id.encode()
        self._state = _State.GREETING
        self._buffer = bytearray()
        self._sealing: AESGCM | None = None  # what we send
        self._opening: AESGCM | None = None  # what we receive
        self._sent = 0  # sealed records
        self._received = 0

    @property
    def open(self) -> bool:
        """Whether both ends have proven who they are, so that `seal` may be called."""
        return self._state is _State.OPEN

    def seal(self, data: bytes) -> bytes:
        """`data` as records to send."""
        assert self._sealing is not None, "not open yet"
        out = bytearray()
        for start in range(0, len(data), MAX_RECORD):
            sealed = self._sealing.encrypt(
                _nonce(self._sent), data[start : start + MAX_RECORD], None
            )
            self._sent += 1
            out += _record(sealed)
        return bytes(out)

    def receive(self, data: bytes | memoryview) -> tuple[bytes, bytes]:
        """Bytes arrived.

        Returns:
            Plaintext for the owner, and bytes to send to the other end.

        Raises:
            Garbage: they are not what the other end would have sent. The channel is of no more use.
        """
        if self._state is _State.BROKEN:
            raise Garbage("a sealed channel that is broken")
        self._buffer += data
        plain, reply = bytearray(), bytearray()
        try:
            while (record := self._next()) is not None:
                if self._opening is None:
                    reply += self._greeted(record)
                else:
                    plain += self._opened(self._opening, record)
        except Garbage:
            self._state = _State.BROKEN
            self._buffer.clear()
            raise
        return bytes(plain), bytes(reply)

    @abstractmethod
    def _greeted(self, record: bytes) -> bytes:
        """The other end's first record is here: make the keys, and return the answer."""

    def _opened(self, opening: AESGCM, record: bytes) -> bytes:
        try:
            data = opening.decrypt(_nonce(self._received), record, None)
        except InvalidTag:
            raise Garbage("a record that was not sealed by the other end") from None
        self._received += 1
        return data

    def _next(self) -> bytes | None:
        if len(self._buffer) < _HEAD:
            return None
        length = int.from_bytes(self._buffer[:_HEAD])
        if length > MAX_RECORD + _TAG:
            raise Garbage(f"a sealed record of {length} bytes")
        if len(self._buffer) < _HEAD + length:
            return None
        record = bytes(self._buffer[_HEAD : _HEAD + length])
        del self._buffer[: _HEAD + length]
        return record

    def _transcript(self, client: bytes, agent: bytes) -> bytes:
        return sha256(_DOMAIN + self._connection_id + client + agent).digest()

    def _agree(
        self,
        mine: X25519PrivateKey,
        theirs: bytes,
        transcript: bytes,
        *,
        sealing: bytes,
        opening: bytes,
    ) -> None:
        try:
            shared = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError:  # a point of small order: RFC 7748 section 6.1
            raise Garbage("a key that no honest end has") from None
        self._sealing = AESGCM(_derive(shared, transcript, sealing))
        self._opening = AESGCM(_derive(shared, transcript, opening))
        self._state = _State.OPEN


class AgentChannel(SealedChannel):
    """The agent's end."""

    def __init__(self, connection_id: str, announced: bytes, host_key: Ed25519PrivateKey) -> None:
        """`announced` is the client's key as the server told it in the offer (`read_public_line`)."""
        super().__init__(connection_id)
        self._announced = announced
        self._host_key = host_key

    def _greeted(self, record: bytes) -> bytes:
        if not hmac.compare_digest(record, self._announced):
            raise Garbage("a key that the server has not announced")
        mine = X25519PrivateKey.generate()
        public = mine.public_key().public_bytes_raw()
        transcript = self._transcript(record, public)
        self._agree(
            mine, record, transcript, sealing=b"agent to client", opening=b"client to agent"
        )
        return _record(public + self._host_key.sign(transcript))


def _record(data: bytes) -> bytes:
    return len(data).to_bytes(_HEAD) + data


def _nonce(number: int) -> bytes:
    return number.to_bytes(12)


def _derive(shared: bytes, transcript: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, transcript, info).derive(shared)
