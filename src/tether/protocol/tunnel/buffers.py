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
"""What a frame counts beside its bytes, because an empty one takes memory, too."""

ACK_BYTES = 256 << 10
"""An acknowledgement that no frame carries leaves by itself after so many bytes."""

ACK_S = 0.1
"""… or after so long."""


class SendBuffer:
    """Frames that the peer has not acknowledged."""

    def __init__(self, window: int = WINDOW) -> None:
        self.acked = 0  # the number of the last frame that is acknowledged
        self.sent = 0  # the number of the last frame that was added
        self.reached = 0  # the number of the last frame that any carrier has taken
        self.unacked_bytes = 0  # with what frames cost
        self.unsent_bytes = 0  # of these, what no carrier has taken
        self._window = window
        self._frames: dict[int, bytes] = {}
        self._cursor = 1  # the number of the next frame for the carrier in use

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
        """The peer has consumed everything up to `ack`; an old acknowledgement says nothing.

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
        """Another carrier is in use: begin with what is not acknowledged. Returns how many bytes of that
        were sent before."""
        self._cursor = self.acked + 1
        return self.unacked_bytes - self.unsent_bytes

    def clear(self) -> None:
        """Forget all frames: nobody will ask for them."""
        self._frames.clear()


class ReceiveBuffer:
    """What the peer sends: how much of it was delivered, and how much of that consumed."""

    def __init__(self, window: int = WINDOW) -> None:
        self.received = 0  # the number of the last frame that was delivered
        self.consumed = 0  # the number of the last frame that was consumed
        self.ack_at: float | None = None  # when an acknowledgement leaves by itself at the latest
        self._most = window + MAX_TUNNEL_FRAME + FRAME_COST
        self._unconsumed: deque[int] = deque()  # the costs of the frames between the two
        self._unconsumed_bytes = 0
        self._unacknowledged_bytes = 0  # consumed since the last acknowledgement
        self._due = False  # an acknowledgement leaves by itself as soon as it can

    @property
    def due(self) -> bool:
        """Whether an acknowledgement is to leave by itself."""
        return self._due or self._unacknowledged_bytes >= ACK_BYTES

    def arrived(self, number: int, frame: memoryview) -> bool:
        """Frame `number` is here. Returns whether it is to be delivered, as it is no duplicate.

        Raises:
            Garbage: an honest peer could not have sent it.
        """
        if number <= self.received:
            return False
        if number != self.received + 1:
            raise Garbage(f"sent frame {number} after frame {self.received}")
        size = len(frame) + FRAME_COST
        if self._unconsumed_bytes + size > self._most:
            raise Garbage("sent more than it may before an acknowledgement")
        self._unconsumed_bytes += size
        self._unconsumed.append(size)
        self.received = number
        return True

    def consume(self, now: Timestamp) -> None:
        """The oldest delivered frame has been consumed."""
        size = self._unconsumed.popleft()
        self.consumed += 1
        self._unconsumed_bytes -= size
        self._unacknowledged_bytes += size
        if self.ack_at is None and not self._due:
            self.ack_at = now.mono + ACK_S

    def tick(self, now: Timestamp) -> None:
        """Time has passed."""
        if self.ack_at is not None and now.mono >= self.ack_at:
            self.ask()

    def ask(self) -> None:
        """An acknowledgement is due now."""
        self._due = True
        self.ack_at = None

    def acknowledge(self) -> int:
        """The number to acknowledge, in a frame that leaves now."""
        self._unacknowledged_bytes = 0
        self._due = False
        self.ack_at = None
        return self.consumed
