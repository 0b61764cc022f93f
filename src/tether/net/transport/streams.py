"""Message streams: what links run over, and the one table from platform errors to words of ours.

Law: nothing above this package sees an `OSError` or a WebSocket exception of a library. A stream that
stops raises `StreamLost`, which says how; a stream that never came up raises `DialFailed`, which is
not a disconnect.
"""

from __future__ import annotations

import asyncio
import errno
import math
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from tether.attribution.evidence import Evidence, TcpCounters
from tether.attribution.vocabulary import DialStage, Party, StreamEnd, Vantage
from tether.net.transport.tcp import counters_fact

MAX_TOLD = 200
"""Characters of an unforeseen exception that go into a sentence or a fact."""


class StreamLost(Exception):
    """A stream stopped. `violation` is set where the peer broke the WebSocket protocol, `fact` where
    the stream knows better than its own end what ended it (a tunnel's)."""

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
    """A connection could not be made; its text is one sentence for people.

    `status` is the HTTP status of a refusal, 0 where none arrived; `cause` the server's code for it;
    `fatal` means that dialling again without a change cannot help; `stage` is how far it came.
    `unforeseen` means that no table has a row for what was raised, which is its `__cause__`.
    """

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


Sink = Callable[[bytes | memoryview | str], Awaitable[None] | None]
"""Takes one message. Nothing more is handed to it until the awaitable that it may return is done."""


class MessageStream(ABC):
    """An ordered stream of binary (and, from relays, text) messages."""

    local_address: str = ""
    """The address that it runs from, as the kernel lists it; "" where that is not known."""

    outlives_connections = False
    """Whether the connections below come and go, so that their silences are no silence of this one."""

    last_heard_at: float = -math.inf
    """When (monotonic seconds) anything came, also what is handed to nobody, if that is kept."""

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
        """Send one message if that needs no waiting; False if it does, and nothing was sent."""
        return False

    async def serve(self, sink: Sink) -> None:
        """Hand every message to `sink` as it arrives. Raises `StreamLost` after the last one."""
        while True:
            if (waiting := sink(await self.recv())) is not None:
                await waiting

    def counters_fact(self, *, vantage: Vantage, peer: Party, at: float) -> TcpCounters | None:
        """`counters` as evidence of `vantage` about its peer, at a wall-clock time."""
        return counters_fact(self.counters(), vantage=vantage, peer=peer, at=at)


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
    """How a stream ended and the errno's name, from what the platform raised (None: a FIN).

    By errno first: a kernel ETIMEDOUT and an asyncio timeout are the same class since Python 3.11,
    and only the kernel's carries an errno.
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
