"""A tag before each frame of a carrier: without the tunnel's key nobody can make, alter or move one.

Law: no I/O. One `FrameTags` is one direction of one carrier. It counts frames, so that one that was left
out, doubled, moved or sent back fails the check. Bytes of data are covered where `data_too` says so;
elsewhere only their number is, because SSH has a MAC of its own for them.
"""

from __future__ import annotations

import hashlib
import hmac

from tether.protocol.tunnel.frames import DATA, split_head

TAG_BYTES = 16

_PREFIX = 8 + 4
_KIND = 1
"""Bytes of a frame of data that are always covered, so that data cannot be made a message."""


class FrameTags:
    """Makes the tags of one direction, or checks them: once for each frame, in order."""

    __slots__ = ("_count", "_data_too", "_mac")

    def __init__(self, key: bytes, *, data_too: bool) -> None:
        """`key` is for this direction of this carrier, and for nothing else."""
        self._mac = hmac.new(key, digestmod=hashlib.sha256)
        self._count = 0
        self._data_too = data_too

    def __repr__(self) -> str:
        return "FrameTags(…)"

    def tag(self, head: bytes | memoryview, body: bytes | memoryview) -> bytes:
        """The tag of the next frame. `body` is the frame of the layer above in it, b"" for none."""
        mac = self._mac.copy()
        mac.update((self._count << 32 | len(head) + len(body)).to_bytes(_PREFIX, "big"))
        mac.update(head)
        covered = self._data_too or not body or body[0] != DATA
        mac.update(body if covered else body[:_KIND])
        self._count += 1
        return mac.digest()[:TAG_BYTES]

    def checked(self, raw: bytes | memoryview) -> memoryview | None:
        """The frame behind the tag, if it is the next one; None if it is not."""
        view = memoryview(raw)
        frame = view[TAG_BYTES:]
        good = hmac.compare_digest(self.tag(*split_head(frame)), view[:TAG_BYTES])
        return frame if good else None
