"""A dial that fails is one sentence for people, made by a table, and no disconnect."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus, InvalidURI
from websockets.http11 import Response

from tests.support.deadline import DEADLINE_S
from tests.support.net.ws import raw_server, serving
from tether.attribution.vocabulary import DialStage
from tether.net.transport.answers import NO_UPGRADE, foreign_answer
from tether.net.transport.streams import DialFailed
from tether.net.transport.ws_client import dial, dial_failed


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def failure(url: str, *, timeout: float = DEADLINE_S) -> DialFailed:
    with pytest.raises(DialFailed) as raised:
        await dial(url, token="t", max_size=1000, timeout=timeout)
    return raised.value


def told(failed: DialFailed) -> tuple[str, int, str, bool]:
    return str(failed), failed.status, failed.cause, failed.fatal


async def test_nothing_listens() -> None:
    host = f"127.0.0.1:{free_port()}"
    assert told(await failure(f"ws://{host}/")) == (
        f"nothing listens at {host}: is the server running?",
        0,
        "",
        False,
    )


async def test_a_name_that_does_not_exist() -> None:
    assert told(await failure("ws://no-such-host.invalid:1/")) == (
        "the name no-such-host.invalid:1 could not be resolved",
        0,
        "",
        False,
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "ws:///x", "nonsense"])
async def test_an_address_that_is_none(url: str) -> None:
    failed = await failure(url)
    assert str(failed).endswith("is not a valid URL")
    assert failed.fatal


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
)
async def test_something_else_answers(answer: bytes) -> None:
    async with raw_server(answer) as raw:
        failed = await failure(raw.url)
        host = f"127.0.0.1:{raw.port}"
        assert str(failed) in {
            f"{host} does not answer as a Tether server",
            foreign_answer(host, 200, b""),
        }
        assert not failed.fatal


async def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        host = f"127.0.0.1:{deaf.getsockname()[1]}"
        failed = await failure(f"ws://{host}/", timeout=0.2)
        assert told(failed) == (f"{host} did not answer in time", 0, "", False)


async def test_a_server_without_tls_is_dialled_with_tls() -> None:
    async with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as raw:
        failed = await failure(raw.url.replace("ws://", "wss://"), timeout=2)
        assert f"127.0.0.1:{raw.port}" in str(failed)


@pytest.mark.parametrize(
    ("status", "body", "told_"),
    [
        (
            401,
            b'{"error": {"code": "token_unknown", "message": "Log in with `tether login`."}}',
            ("Log in with `tether login`.", 401, "token_unknown", True),
        ),
        (
            503,
            b'{"error": {"code": "draining", "message": "Try again soon."}}',
            ("Try again soon.", 503, "draining", False),
        ),
        (
            404,
            b'{"error": {"code": "not_found", "message": "there is nothing"}}',
            (NO_UPGRADE, 404, "", True),
        ),
        (403, b"<html>", (foreign_answer("{host}", 403, b"<html>"), 403, "", True)),
        (403, b"[]", (foreign_answer("{host}", 403, b"[]"), 403, "", True)),
        (502, b"", (foreign_answer("{host}", 502, b""), 502, "", False)),
    ],
    ids=["401", "503", "no upgrade", "html", "list", "empty"],
)
async def test_a_refusal_is_told_in_the_servers_words(
    status: int, body: bytes, told_: tuple[str, int, str, bool]
) -> None:
    async with serving(refuse=(status, body)) as served:
        host = served.url.removeprefix("ws://").rstrip("/")
        sentence, *rest = told_
        assert told(await failure(served.url)) == (sentence.format(host=host), *rest)


def kernel(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def certificate_error() -> ssl.SSLCertVerificationError:
    wrong = ssl.SSLCertVerificationError(1, "certificate verify failed")
    wrong.verify_message = "self-signed certificate"
    return wrong


@pytest.mark.parametrize(
    ("raised", "words", "fatal"),
    [
        (
            certificate_error(),
            "the TLS certificate of h was not accepted: self-signed certificate",
            True,
        ),
        (ssl.SSLError(1, "wrong version"), "TLS with h failed: ", False),
        (InvalidURI("x", "bad"), "h is not a valid URL", True),
        (EOFError(), "h does not answer as a Tether server", False),
        (
            ConnectionClosedError(None, None),
            "h took the connection and hung up before it answered",
            False,
        ),
        (TimeoutError(), "h did not answer in time", False),
        (kernel(errno.ETIMEDOUT), "h could not be reached: ETIMEDOUT", False),
        (kernel(errno.EHOSTUNREACH), "h could not be reached: EHOSTUNREACH", False),
        (kernel(errno.ENETUNREACH), "h could not be reached: ENETUNREACH", False),
        (kernel(errno.ECONNRESET), "h could not be reached: ECONNRESET", False),
        (OSError("all failed"), "h could not be reached: OSError", False),
    ],
    ids=repr,
)
def test_the_table_of_failures(raised: Exception, words: str, fatal: bool) -> None:
    failed = dial_failed(raised, "h")
    assert str(failed).startswith(words)
    assert failed.fatal == fatal


def test_a_refusal_without_a_body_is_told_by_its_status() -> None:
    refused = InvalidStatus(Response(429, "Too Many Requests", Headers(), b""))
    assert told(dial_failed(refused, "h")) == (
        foreign_answer("h", 429, b""),
        429,
        "",
        True,
    )


def test_what_no_row_foresees_is_a_failed_dial_with_the_exception_as_its_evidence() -> None:
    wrong = KeyError("x")
    failed = dial_failed(wrong, "h")
    assert (str(failed), failed.stage, failed.unforeseen, failed.fatal) == (
        "dialling h failed in a way that was not foreseen (KeyError: 'x')",
        DialStage.OTHER,
        True,
        False,
    )
    assert failed.__cause__ is wrong
