"""Message streams: what links run over, and the one table from errors of the platform to `StreamEnd`.

Law: nothing above this package sees an `OSError` or an exception of the WebSocket library. A stream
that stops raises `StreamLost`, which says how. A stream that never came up raises `DialFailed`, which
is not a disconnect.
"""

from __future__ import annotations

import asyncio
import errno
import math
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from tether.attribution.evidence import Evidence, TcpCounters
from tether.attribution.vocabulary import DialStage, Party, Reach, StreamEnd, Vantage
from tether.net.transport.tcp import counters_fact

MAX_TOLD = 200
"""Characters of an unforeseen exception that go into a sentence or a fact."""


class StreamLost(Exception):
    """A stream stopped."""

    def __init__(
        self,
        how: StreamEnd,
        *,
        errno_name: str = "",
        close_code: int | None = None,
        close_reason: str = "",
        counters: dict[str, int] | None = None,
        violation: str = "",
        silence_s: float | None = None,
        fact: Evidence | None = None,
        counters_fact: TcpCounters | None = None,
    ) -> None:
        """
        Args:
            how: by what.
            errno_name: the kernel's error, such as ECONNRESET.
            close_code: of the close frame that ended it.
            close_reason: the text in that frame.
            counters: TCP_INFO at the end.
            violation: what the peer did against the protocol; "" where it did nothing of the kind.
            silence_s: for how long nothing had come, where that ended it.
            fact: what ended it, where the stream knows that better (a tunnel's does).
            counters_fact: in place of `counters`, where those are not of the stream itself.
        """
        super().__init__(f"{how}{f' ({errno_name})' if errno_name else ''}")
        self.fact = fact
        self.counters_fact = counters_fact
        self.how = how
        self.errno_name = errno_name
        self.close_code = close_code
        self.close_reason = close_reason
        self.counters = counters
        self.violation = violation
        self.silence_s = silence_s


class DialFailed(Exception):
    """A connection could not be made; its text is one sentence for people."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        cause: str = "",
        fatal: bool = False,
        stage: DialStage = DialStage.TCP,
        unforeseen: bool = False,
    ) -> None:
        """
        Args:
            message: the sentence.
            status: the HTTP status of a refusal; 0 where none arrived.
            cause: the server's code for its refusal.
            fatal: whether dialling again cannot help as long as nothing is changed.
            stage: how far it came.
            unforeseen: whether no table has a row for what was raised, which is the `__cause__`.
        """
        super().__init__(message)
        self.status = status
        self.cause = cause
        self.fatal = fatal
        self.stage = stage
        self.unforeseen = unforeseen


def unforeseen_failure(wrong: Exception, whom: str) -> DialFailed:
    """The last row of every table of dial errors: a failed dial, with `wrong` as its evidence."""
    told = f"{type(wrong).__name__}: {wrong}".removesuffix(": ")[:MAX_TOLD]
    failed = DialFailed(
        f"dialling {whom} failed in a way that was not foreseen ({told})",
        stage=DialStage.OTHER,
        unforeseen=True,
    )
    failed.__cause__ = wrong
    return failed


def unforeseen_loss(wrong: Exception) -> StreamLost:
    """The last row of every table of ends: a lost stream, with `wrong` as its evidence."""
    how, name = translate(wrong)
    return StreamLost(how, errno_name=name or type(wrong).__name__)


Sink = Callable[[bytes | memoryview | str], Awaitable[None] | None]
"""Takes one message. Where it returns an awaitable, the next message waits until that is done."""


class MessageStream(ABC):
    """An ordered stream of binary (and, from relays, text) messages."""

    local_address: str = ""
    """The address that it runs from, as the kernel lists it; "" where that is not known."""

    outlives_connections = False
    """Whether it goes on when a connection below it ends, so that the silence of one is not its own."""

    reach: Reach = Reach.UNKNOWN
    """How far the kernel at this end can see."""

    proxy: str = ""
    """The address of what ends TCP in between; "" where there is nothing, or it is not known."""

    last_heard_at: float = -math.inf
    """When (monotonic seconds) anything last came, handed on or not; not every stream keeps it."""

    @abstractmethod
    async def send(self, message: bytes | str) -> None:
        """Send one message, waiting for room. Raises `StreamLost`."""

    @abstractmethod
    async def recv(self) -> bytes | str:
        """The next message. Raises `StreamLost`."""

    @abstractmethod
    async def close(self, code: int, reason: str) -> None:
        """Close with a WebSocket close code and reason; never raises."""

    @abstractmethod
    def counters(self) -> dict[str, int] | None:
        """TCP_INFO of the stream right now."""

    def send_now(self, message: bytes) -> bool:
        """Send one message if there is room for it; False if there is none and nothing was sent."""
        return False

    async def serve(self, sink: Sink) -> None:
        """Hand every message to `sink` as it arrives. Raises `StreamLost` after the last one."""
        while True:
            if (waiting := sink(await self.recv())) is not None:
                await waiting

    def counters_fact(self, *, vantage: Vantage, peer: Party, at: float) -> TcpCounters | None:
        """`counters` as evidence of `vantage` about its peer, at a wall-clock time."""
        return counters_fact(self.counters(), vantage=vantage, peer=peer, at=at, reach=self.reach)


def close_reason(text: str) -> str:
    """As much of `text` as a close frame holds (RFC 6455 section 5.5: 125 bytes with the code)."""
    return text.encode()[:120].decode(errors="ignore")


Table = Sequence[tuple[type[BaseException], StreamEnd]]

_BY_ERRNO = {
    errno.ECONNRESET: StreamEnd.RESET,
    errno.EPIPE: StreamEnd.RESET,
    errno.ECONNABORTED: StreamEnd.ABORTED,
    errno.ETIMEDOUT: StreamEnd.TIMED_OUT,
    errno.EHOSTUNREACH: StreamEnd.UNREACHABLE,
    errno.ENETUNREACH: StreamEnd.UNREACHABLE,
    errno.ENETDOWN: StreamEnd.UNREACHABLE,
}
_BY_TYPE: Table = (
    (asyncio.IncompleteReadError, StreamEnd.EOF),
    (EOFError, StreamEnd.EOF),
    (ConnectionResetError, StreamEnd.RESET),
    (BrokenPipeError, StreamEnd.RESET),
    (ConnectionAbortedError, StreamEnd.ABORTED),
    (OSError, StreamEnd.OTHER),
)


def translate(exc: BaseException | None) -> tuple[StreamEnd, str]:
    """How a stream ended and the errno's name, from what the platform raised (None for a FIN).

    The errno decides before the class: since Python 3.11 the kernel's ETIMEDOUT and a timeout of asyncio
    are of one class, and only the kernel's has an errno.
    """
    if exc is None:
        return StreamEnd.EOF, ""
    if isinstance(exc, ssl.SSLError):  # its errno is OpenSSL's, not the kernel's
        how = StreamEnd.EOF if isinstance(exc, ssl.SSLEOFError) else StreamEnd.OTHER
        return how, type(exc).__name__
    number = getattr(exc, "errno", None)
    if isinstance(number, int) and number in errno.errorcode:
        return _BY_ERRNO.get(number, StreamEnd.OTHER), errno.errorcode[number]
    how = next((how for kind, how in _BY_TYPE if isinstance(exc, kind)), StreamEnd.OTHER)
    return how, "" if how is StreamEnd.EOF else type(exc).__name__
