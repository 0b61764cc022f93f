"""From the platform's errors to words of ours."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl

import pytest

from tether.attribution.vocabulary import StreamEnd
from tether.net.transport.streams import DialFailed, StreamLost, close_reason, translate


def kernel(number: int) -> OSError:
    """What a socket call raises: OSError picks the subclass by the number."""
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("raised", "how", "name"),
    [
        (None, StreamEnd.EOF, ""),
        (asyncio.IncompleteReadError(b"", 4), StreamEnd.EOF, ""),
        (EOFError(), StreamEnd.EOF, ""),
        (ssl.SSLEOFError(8, "EOF occurred"), StreamEnd.EOF, "SSLEOFError"),
        (kernel(errno.ECONNRESET), StreamEnd.RESET, "ECONNRESET"),
        (kernel(errno.EPIPE), StreamEnd.RESET, "EPIPE"),
        (
            ConnectionResetError("Cannot write to closing transport"),
            StreamEnd.RESET,
            "ConnectionResetError",
        ),
        (BrokenPipeError(), StreamEnd.RESET, "BrokenPipeError"),
        (kernel(errno.ECONNABORTED), StreamEnd.ABORTED, "ECONNABORTED"),
        (ConnectionAbortedError(), StreamEnd.ABORTED, "ConnectionAbortedError"),
        (kernel(errno.ETIMEDOUT), StreamEnd.TIMED_OUT, "ETIMEDOUT"),
        (kernel(errno.EHOSTUNREACH), StreamEnd.UNREACHABLE, "EHOSTUNREACH"),
        (kernel(errno.ENETUNREACH), StreamEnd.UNREACHABLE, "ENETUNREACH"),
        (kernel(errno.ENETDOWN), StreamEnd.UNREACHABLE, "ENETDOWN"),
        (kernel(errno.EMFILE), StreamEnd.OTHER, "EMFILE"),
        (ssl.SSLError(1, "[SSL] bad record mac"), StreamEnd.OTHER, "SSLError"),
        (OSError("no number"), StreamEnd.OTHER, "OSError"),
        (OSError(9999, "no such number"), StreamEnd.OTHER, "OSError"),
        (ValueError("a bug"), StreamEnd.OTHER, "ValueError"),
    ],
    ids=repr,
)
def test_an_error_has_one_word_and_a_name(
    raised: BaseException | None, how: StreamEnd, name: str
) -> None:
    assert translate(raised) == (how, name)


def test_the_kernels_timeout_is_not_asyncios() -> None:
    """They are one class since Python 3.11; only the kernel's has an errno."""
    assert type(kernel(errno.ETIMEDOUT)) is TimeoutError
    assert translate(kernel(errno.ETIMEDOUT)) == (StreamEnd.TIMED_OUT, "ETIMEDOUT")
    assert translate(TimeoutError()) == (StreamEnd.OTHER, "TimeoutError")


def test_openssls_numbers_are_not_the_kernels() -> None:
    """SSL_ERROR_ZERO_RETURN is 6, which as an errno would be ENXIO."""
    assert translate(ssl.SSLZeroReturnError(6, "closed")) == (StreamEnd.OTHER, "SSLZeroReturnError")


def test_a_lost_stream_reads_as_one_line() -> None:
    assert str(StreamLost(StreamEnd.RESET, errno_name="ECONNRESET")) == "reset (ECONNRESET)"
    assert str(StreamLost(StreamEnd.EOF)) == "eof"


def test_a_failed_dial_is_its_sentence() -> None:
    failed = DialFailed("nothing listens at x", status=0)
    assert (str(failed), failed.status, failed.cause, failed.fatal) == (
        "nothing listens at x",
        0,
        "",
        False,
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("goodbye", "goodbye"),
        ("x" * 200, "x" * 120),
        ("€" * 200, "€" * 40),
        ("a" + "€" * 40, "a" + "€" * 39),
    ],
)
def test_a_close_reason_is_cut_between_characters(text: str, kept: str) -> None:
    assert close_reason(text) == kept
