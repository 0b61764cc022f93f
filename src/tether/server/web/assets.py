"""The web interface's files: one page, its scripts and styles, out of the package.

Law: read only, and no request reaches the disk: what is in `static/` is read once, and compressed once.
A file with a hash in its name may be kept for ever; the page itself is asked for each time. The policy
allows nothing from elsewhere, and no script or style that is not a file.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

PAGE = "index.html"
HASHED = "assets/"
"""Files below this have a hash of their content in their names."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types svelte-trusted-html",
    )
)

COMMON: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

PAGES = frozenset(
    (
        *("", "sign-in", "connections", "incidents", "people", "workspaces", "relays"),
        *("deploys", "fleet", "terminal", "admin", "account"),
    )
)
"""First parts of the addresses that the page itself knows."""


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    zipped: bytes
    kind: str
    tag: str
    lasting: bool


class WebInterface:
    """An ASGI application for `GET` and `HEAD` of the interface's files."""

    def __init__(self) -> None:
        root = resources.files("tether.server.web") / "static"
        self._files = {path: _loaded(path, file) for path, file in _walk(root, "")}

    def has(self, scope: Any) -> bool:
        """Whether this is for us to answer, and not for the API."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return False
        return self._file(scope["path"]) is not None

    def _file(self, path: str) -> _File | None:
        name = path.removeprefix("/")
        if found := self._files.get(name):
            return found
        return self._files.get(PAGE) if name.partition("/")[0] in PAGES else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer; only after `has` said so."""
        file = self._file(scope["path"])
        assert file is not None, "asked for before"
        asked = dict(scope["headers"])
        zipped = b"gzip" in asked.get(b"accept-encoding", b"") and file.zipped
        body = file.zipped if zipped else file.body
        headers = {
            **COMMON,
            "content-type": file.kind,
            "cache-control": "public, max-age=31536000, immutable" if file.lasting else "no-cache",
            "etag": f'"{file.tag}"',
            "vary": "accept-encoding",
        }
        status = 200
        if file.tag.encode() in asked.get(b"if-none-match", b""):
            status, body = 304, b""
        else:
            headers["content-length"] = str(len(body))
            if zipped:
                headers["content-encoding"] = "gzip"
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
            }
        )
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )


def _walk(directory: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    if not directory.is_dir():
        return
    for entry in directory.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry


def _loaded(path: str, file: Traversable) -> _File:
    body = file.read_bytes()
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    if kind.startswith("text/") or kind in ("application/javascript", "image/svg+xml"):
        kind += "; charset=utf-8"
    zipped = gzip.compress(body, 6, mtime=0)
    return _File(
        body=body,
        zipped=zipped if len(zipped) < len(body) else b"",
        kind=kind,
        tag=hashlib.sha256(body).hexdigest()[:24],
        lasting=path.startswith(HASHED),
    )
