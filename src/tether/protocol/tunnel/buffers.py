"""The two halves of a numbered stream: what is kept until it is acknowledged, and what is taken in.

Law: no I/O and no clock. Both are bounded by the same window: a frame is acknowledged when it was
consumed, so that an honest peer never has more of ours, nor we of it, than the window and one frame.
"""

from __future__ import annotations

from collections import deque

from tether.protocol.messages.base import Garbage
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME
from tether.protocol.timestamp import Timestamp

WINDOW = 8 << 20
"""Bytes that one end keeps for the other until they are acknowledged; then its writer waits."""

FRAME_COST = 64
"""What a frame counts beside its bytes: an empty one takes memory, too."""

ACK_BYTES = 256 << 10
ACK_S = 0.1
"""An acknowledgement that nothing carries leaves after so many bytes, or after so long."""


class SendBuffer:
    """Frames that the peer has not acknowledged: `acked + 1 … sent`; `reached`: the last one that any
    carrier has taken."""

    def __init__(self, window: int = WINDOW) -> None:
        self.acked = self.sent = self.reached = 0
        self.unacked_bytes = self.unsent_bytes = 0
        self._window = window
        self._frames: dict[int, bytes] = {}
        self._cursor = 1

    @property
    def writable(self) -> bool:
        """Whether there is room for a frame."""
        return self.unacked_bytes < self._window

    @property
    def flushed(self) -> bool:
        """Whether the carrier in use has taken all of it."""
        return self._cursor > self.sent

    def add(self, frame: bytes) -> None:
        """Keep one more frame. Only while `writable`."""
        if not self.writable:
            raise BufferError("the window is full: wait until it is writable")
        self.sent += 1
        self._frames[self.sent] = frame
        self.unacked_bytes += len(frame) + FRAME_COST
        self.unsent_bytes += len(frame) + FRAME_COST

    def next(self) -> tuple[int, bytes] | None:
        """The next frame for the carrier in use, and its number."""
        number = self._cursor
        if number > self.sent:
            return None
        frame = self._frames[number]
        self._cursor += 1
        if number > self.reached:
            self.reached = number
            self.unsent_bytes -= len(frame) + FRAME_COST
        return number, frame

    def acknowledged(self, ack: int) -> None:
        """The peer has taken everything up to `ack`; an old acknowledgement says nothing.

        Raises:
            Garbage: it was never sent.
        """
        if ack > self.reached:
            raise Garbage(f"acknowledged frame {ack} of {self.reached}")
        while self.acked < ack:
            self.acked += 1
            self.unacked_bytes -= len(self._frames.pop(self.acked)) + FRAME_COST
        self._cursor = max(self._cursor, self.acked + 1)

    def rewind(self) -> int:
        """Another carrier is in use: begin with what is not acknowledged. Bytes sent before."""
        self._cursor = self.acked + 1
        return self.unacked_bytes - self.unsent_bytes

    def clear(self) -> None:
        """Nobody will ever ask for them."""
        self._frames.clear()


class ReceiveBuffer:
    """What the peer sends: everything up to `received` was delivered, up to `taken` consumed."""

    def __init__(self, window: int = WINDOW) -> None:
        self.received = self.taken = 0
        self.ack_at: float | None = None
        """When an acknowledgement is due, if nothing carries it before."""
        self._most = window + MAX_TUNNEL_FRAME + FRAME_COST
        self._untaken: deque[int] = deque()
        self._untaken_bytes = self._untold_bytes = 0
        self._due = False

    @property
    def due(self) -> bool:
        """Whether an acknowledgement is to leave by itself."""
        return self._due or self._untold_bytes >= ACK_BYTES

    def arrived(self, number: int, frame: memoryview) -> bool:
        """Frame `number` is here; whether it is to be delivered (not: a duplicate).

        Raises:
            Garbage: an honest peer could not have sent it.
        """
        if number <= self.received:
            return False
        if number != self.received + 1:
            raise Garbage(f"sent frame {number} after frame {self.received}")
        size = len(frame) + FRAME_COST
        if self._untaken_bytes + size > self._most:
            raise Garbage("sent more than it may before an acknowledgement")
        self._untaken_bytes += size
        self._untaken.append(size)
        self.received = number
        return True

    def took(self, now: Timestamp) -> None:
        """The oldest delivered frame has been consumed."""
        size = self._untaken.popleft()
        self.taken += 1
        self._untaken_bytes -= size
        self._untold_bytes += size
        if self.ack_at is None and not self._due:
            self.ack_at = now.mono + ACK_S

    def tick(self, now: Timestamp) -> None:
        """Time has passed."""
        if self.ack_at is not None and now.mono >= self.ack_at:
            self.ask()

    def ask(self) -> None:
        """An acknowledgement is due now."""
        self._due, self.ack_at = True, None

    def acknowledge(self) -> int:
        """The number to acknowledge; it leaves now."""
        self._untold_bytes, self._due, self.ack_at = 0, False, None
        return self.taken
