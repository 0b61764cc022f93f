"""Resume tokens: a peer that comes back keeps its id.

Law: pure. A token is signed by the server, names one peer id and one holder, and expires; whoever
offers another's, an old one or a forged one gets a new id, not an error.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import msgspec

EXPIRES_S = 24 * 3600.0
REFRESH_S = EXPIRES_S / 2

MAX_CHARS = 1024

_MAC_BYTES = hashlib.sha256().digest_size


class _Claims(msgspec.Struct, frozen=True, array_like=True):
    peer_id: str
    holder: str
    expires_at: float


_DECODER = msgspec.msgpack.Decoder(_Claims)


def mint(key: bytes, *, peer_id: str, holder: str, wall: float) -> str:
    """A token for `peer_id`, good for `holder` (who the bearer of the link's token is) only."""
    body = msgspec.msgpack.encode(_Claims(peer_id, holder, wall + EXPIRES_S))
    return base64.urlsafe_b64encode(_mac(key, body) + body).decode()


def read(key: bytes, token: str, *, holder: str, wall: float) -> str:
    """The peer id that `token` keeps for `holder`; "" where it is not good (any more)."""
    if len(token) > MAX_CHARS:
        return ""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii"))
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, _mac(key, body)):
            return ""
        claims = _DECODER.decode(body)
    except (binascii.Error, UnicodeEncodeError, msgspec.DecodeError):
        return ""
    return claims.peer_id if claims.holder == holder and wall < claims.expires_at else ""


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, b"tether resume token\0" + body, hashlib.sha256).digest()
