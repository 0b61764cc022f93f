"""Every answer that is not a success, in one shape: `{"error": {"code", "message"}}`.

Law: the only place that joins exceptions to HTTP statuses. A message is one sentence for people and
repeats nothing secret of the request; what is our own bug goes to the log, not to the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tether.log import get_logger
from tether.server.api.parts import Unauthenticated
from tether.server.db.store import StoreUnavailable
from tether.server.errors import Ambiguous, Conflict, Forbidden, Invalid, NotFound, RequestError

MAX_BODY_BYTES = 64 << 10

STATUS: Mapping[type[RequestError], int] = {
    NotFound: 404,
    Ambiguous: 409,
    Conflict: 409,
    Forbidden: 403,
    Invalid: 422,
}
"""Why it was refused -> HTTP status."""

_log = get_logger("api")


def error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The one shape of errors."""
    body = {"error": {"code": code, "message": message}}
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


def install(app: FastAPI) -> None:
    """Give `app` the handlers of this file."""
    for refused, status in STATUS.items():
        app.add_exception_handler(refused, _refused_as(status))
    app.add_exception_handler(Unauthenticated, _unauthenticated)
    app.add_exception_handler(StoreUnavailable, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Guard)


class Guard:
    """The outermost layer: reads the body, up to a limit, and turns what nobody caught into a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _read_body(receive)
        if body is None:
            too_large = error(
                413,
                "body_too_large",
                f"the request's body is larger than {MAX_BODY_BYTES >> 10} KiB",
                {"Connection": "close"},
            )
            await too_large(scope, receive, send)
            return
        await self._guarded(scope, _Replayed(body, receive), send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            # the route, not the path: what a user typed there may be anything, a token even
            route = getattr(scope.get("route"), "path", "")
            _log.error("request failed", method=scope["method"], route=route, exc_info=True)
            if started:
                raise
            failed = error(500, "internal_error", "the server failed: its log says more")
            await failed(scope, receive, send)


class _Replayed:
    """A request whose body was read already."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body; None if it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)  # the client is gone; its answer goes nowhere
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _refused_as(status: int) -> Any:
    async def answer(_request: Request, wrong: RequestError) -> Response:
        return error(status, wrong.code, wrong.message)

    return answer


async def _unauthenticated(_request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, Unauthenticated)
    if wrong.retry_after_s:
        return error(
            429,
            "too_many_failures",
            f"this address failed to authenticate too often ({wrong.refusal.message}):"
            f" try again in {wrong.retry_after_s} s",
            {"Retry-After": str(wrong.retry_after_s)},
        )
    return error(401, wrong.refusal.code, wrong.refusal.message, {"WWW-Authenticate": "Bearer"})


async def _unavailable(_request: Request, wrong: Exception) -> Response:
    _log.error("database unavailable", error=str(wrong))
    return error(503, "store_unavailable", str(wrong), {"Retry-After": "5"})


async def _invalid(_request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, RequestValidationError)
    first = wrong.errors()[0]
    if first["type"] == "json_invalid":
        return _bad_json()
    place, *rest = (str(part) for part in first["loc"])
    field = ".".join(rest)[:100]
    where = f"{_PLACES.get(place, place)} {field}".strip()
    return error(422, "invalid_request", f"{where}: {_sentence(first)}")


_PLACES = {"query": "query parameter", "path": "path parameter", "body": "body"}


def _sentence(wrong: Mapping[str, Any]) -> str:
    match wrong["type"]:
        case "missing":
            return "is missing"
        case "enum" | "literal_error":
            return f"must be one of {wrong['ctx']['expected']}"
        case "extra_forbidden":
            return "is not known here"
        case _:
            message = str(wrong["msg"]).removeprefix("Value error, ")
            return message[:1].lower() + message[1:]


def _bad_json() -> Response:
    return error(400, "bad_json", "the request's body is not JSON")


async def _http(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, HTTPException)
    status = wrong.status_code
    code = HTTPStatus(status).name.lower()
    match status:
        case 400:
            return _bad_json()  # the only 400 that FastAPI raises: a body that cannot be read
        case 404:
            message = f"there is nothing at {request.url.path[:200]}"
        case 405:
            message = f"{request.method} is not possible at {request.url.path[:200]}"
        case _:
            message = str(wrong.detail)
    return error(status, code, message, wrong.headers)
