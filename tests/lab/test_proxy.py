"""The laboratory's CONNECT proxy, well-behaved and not."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.host.talk import heard
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.proxy import start_proxy

pytestmark = pytest.mark.lab


@contextmanager
def answer(lab: Lab, *options: str, credentials: str = "") -> Iterator[tuple[str, str]]:
    """The status line to a CONNECT, and what the far end hears afterwards."""
    proxy, _ = start_proxy(lab["relay-a"], options=options)
    try:
        with lab["server"].listen() as listener:
            port = listener.getsockname()[1]
            with lab["client"].connect(lab["relay-a"].address, 3128) as sock:
                secret = base64.b64encode(credentials.encode()).decode()
                header = f"Proxy-Authorization: Basic {secret}\r\n" if credentials else ""
                sock.sendall(f"CONNECT server.lab:{port} HTTP/1.1\r\n{header}\r\n".encode())
                status = sock.recv(4096).decode().partition("\r\n")[0]
                if not status.endswith("established"):
                    yield status, ""
                    return
                listener.settimeout(5)
                far, _ = listener.accept()
                with far:
                    sock.sendall(b"x")
                    yield status, heard(far)
    finally:
        proxy.kill()


def test_it_joins_the_two_ends(lab: Lab) -> None:
    with answer(lab) as got:
        assert got == ("HTTP/1.1 200 Connection established", "arrived")


def test_it_asks_for_credentials_and_takes_the_right_ones(lab: Lab) -> None:
    with answer(lab, "--credentials", "ann:secret") as got:
        assert got == ("HTTP/1.1 407 Proxy Authentication Required", "")
    with answer(lab, "--credentials", "ann:secret", credentials="ann:wrong") as got:
        assert got == ("HTTP/1.1 407 Proxy Authentication Required", "")
    with answer(lab, "--credentials", "ann:secret", credentials="ann:secret") as got:
        assert got == ("HTTP/1.1 200 Connection established", "arrived")


def test_a_captive_portal_answers_with_its_page(lab: Lab) -> None:
    with answer(lab, "--captive") as got:
        assert got == ("HTTP/1.1 200 OK", "")
