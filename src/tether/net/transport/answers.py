"""What an HTTP answer means that no Tether server gives: something in front of it has answered.

Law: pure, and imports nothing that takes time, so that each way to a server says the same. There is one
sentence for each kind, which says who has to do what.
"""

from __future__ import annotations

from re import DOTALL, IGNORECASE, compile as pattern

NO_UPGRADE = (
    "a proxy in front of {host} does not pass WebSockets on: it has to hand on the headers Upgrade and"
    " Connection (nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade,"
    ' proxy_set_header Connection "upgrade")'
)
"""For a server of ours that was asked for a WebSocket's address and saw no upgrade."""

_TITLE = pattern(r"<title[^>]*>(.*?)</title", IGNORECASE | DOTALL)
_AWAY = {502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


def foreign_answer(host: str, status: int, body: bytes, location: str = "") -> str:
    """The sentence for an answer that is not ours.

    Args:
        host: who was asked, with the port.
        status: the HTTP status.
        body: what came with it, or its beginning.
        location: where a redirect leads, "" for none.
    """
    text = body[:4096].decode("utf-8", "replace")
    title = _TITLE.search(text)
    called = " ".join(title[1].split())[:80] if title else ""
    page = f"a web page ({called})" if called else "a web page"
    is_page = text.lstrip()[:1] == "<"
    if 300 <= status < 400:
        where = f" to {location[:200]}" if location else ""
        return (
            f"{host} redirects{where}: if that is the server, give `tether login` that URL; if it is a"
            " sign-in page, this network or a proxy wants you to sign in with a browser first"
        )
    if status < 300:
        what = page if is_page else "something else"
        return (
            f"{host} answered with {what} instead of a connection: this network or a proxy in front of"
            " it may want you to sign in with a browser first"
        )
    if status in _AWAY:
        return (
            f"a proxy in front of {host} cannot reach the server now (HTTP status {status},"
            f" {_AWAY[status]})"
        )
    if status in (401, 403, 407):
        return (
            f"a proxy in front of {host} did not let the request through (HTTP status {status}): it has"
            " to leave Tether's own tokens to the server"
        )
    what = f"HTTP status {status}{f' and {page}' if is_page else ''}"
    return f"{host} answered with {what}, as no Tether server does: is the URL right?"
