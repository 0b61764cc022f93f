"""The client's end of the end-to-end channel, as a page in a browser has it."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tether.net.e2e_channel import SealedChannel
from tether.protocol.messages.base import Garbage


def record_of(data: bytes) -> bytes:
    """A record that is not sealed."""
    return len(data).to_bytes(4) + data


class ClientChannel(SealedChannel):
    """The client's end: what the page in the browser does."""

    def __init__(
        self, connection_id: str, key: X25519PrivateKey, host_key: Ed25519PublicKey
    ) -> None:
        """`key` is the one whose public half was given to the server; `host_key` is pinned."""
        super().__init__(connection_id)
        self._key = key
        self._host_key = host_key

    def greeting(self) -> bytes:
        """The first bytes to send."""
        return record_of(self._key.public_key().public_bytes_raw())

    def _greeted(self, record: bytes) -> bytes:
        if len(record) != 32 + 64:
            raise Garbage("an answer that is no agent's")
        theirs, signature = record[:32], record[32:]
        transcript = self._transcript(self._key.public_key().public_bytes_raw(), theirs)
        try:
            self._host_key.verify(signature, transcript)
        except InvalidSignature:
            raise Garbage("an answer that the workspace's host key has not signed") from None
        self._agree(
            self._key, theirs, transcript, sealing=b"client to agent", opening=b"agent to client"
        )
        return b""
