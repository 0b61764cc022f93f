"""What is said of an answer that no server of ours gave."""

from __future__ import annotations

import pytest

from tether.net.transport.answers import foreign_answer

PAGE = b"<!doctype html><html><head><title>Sign in \n please</title></head>"


@pytest.mark.parametrize(
    ("status", "body", "location", "begins", "ends"),
    [
        (200, PAGE, "", "h answered with a web page (Sign in please) instead", "a browser first"),
        (200, b"ok", "", "h answered with something else instead of", "a browser first"),
        (301, b"", "https://t.example", "h redirects to https://t.example: if", "a browser first"),
        (302, b"", "", "h redirects: if that is the server", "a browser first"),
        (502, PAGE, "", "a proxy in front of h cannot reach the server now", "502, Bad Gateway)"),
        (504, b"", "", "a proxy in front of h cannot reach", "504, Gateway Timeout)"),
        (403, PAGE, "", "a proxy in front of h did not let the request through", "to the server"),
        (404, PAGE, "", "h answered with HTTP status 404 and a web page (Sign in", "URL right?"),
        (500, b"", "", "h answered with HTTP status 500, as no", "is the URL right?"),
    ],
)
def test_each_kind_has_a_sentence_of_its_own(
    status: int, body: bytes, location: str, begins: str, ends: str
) -> None:
    said = foreign_answer("h", status, body, location)
    assert said.startswith(begins)
    assert said.endswith(ends)
    assert "\n" not in said
