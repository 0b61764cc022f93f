"""Which hosts a page of another site can make a browser name."""

from __future__ import annotations

import pytest

from tether.net.transport.own_host import host_of, names_this_machine


@pytest.mark.parametrize(
    ("header", "host", "ours"),
    [
        (b"127.0.0.1:7080", "127.0.0.1", True),
        (b"localhost:7080", "localhost", True),
        (b"LOCALHOST.", "localhost", True),
        (b"[::1]:7080", "::1", True),
        (b"10.0.0.1", "10.0.0.1", True),
        (b"dev.localhost", "dev.localhost", True),
        (b"server:7080", "server", True),
        (b"tether.example.com", "tether.example.com", True),
        (b"evil.example.com:7080", "evil.example.com", False),
        (b"127.0.0.1.evil.example.com", "127.0.0.1.evil.example.com", False),
        (b"localhost.evil.example.com", "localhost.evil.example.com", False),
    ],
)
def test_a_name_that_dns_can_point_here_is_not_ours(header: bytes, host: str, ours: bool) -> None:
    found = host_of({"headers": [(b"host", header)]})
    assert (found, names_this_machine(found, {"tether.example.com"})) == (host, ours)


def test_two_hosts_are_none() -> None:
    assert host_of({"headers": [(b"host", b"localhost"), (b"host", b"evil.example.com")]}) == ""
