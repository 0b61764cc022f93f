"""How forwards are written."""

from __future__ import annotations

import pytest

from tether.cli.port_forward.specs import BadSpec, ForwardSpec, parse


@pytest.mark.parametrize(
    ("spec", "local", "remote"),
    [
        ("8080", "127.0.0.1:8080", "127.0.0.1:8080"),
        ("8080:80", "127.0.0.1:8080", "127.0.0.1:80"),
        ("0.0.0.0:8080", "0.0.0.0:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080:80", "0.0.0.0:8080", "127.0.0.1:80"),
        ("8080:db.internal:5432", "127.0.0.1:8080", "db.internal:5432"),
        ("[::1]:8080:[fe80::1]:80", "[::1]:8080", "[fe80::1]:80"),
        ("localhost:8080:10.0.0.7:80", "localhost:8080", "10.0.0.7:80"),
        (":8080", "127.0.0.1:8080", "127.0.0.1:8080"),
    ],
)
def test_a_forward_is_read(spec: str, local: str, remote: str) -> None:
    (forward,) = parse("tcp", spec)
    assert (forward.protocol, forward.local, forward.remote) == ("tcp", local, remote)


def test_a_range_is_as_many_forwards() -> None:
    assert parse("udp", "9000-9002:53-55") == [
        ForwardSpec("udp", "127.0.0.1", 9000 + n, "127.0.0.1", 53 + n) for n in range(3)
    ]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("", "is no port"),
        ("0", "is no port"),
        ("65536", "is no port"),
        ("http", "is no port"),
        ("90-80", "is no port"),
        ("1.2.3.4:", "is no port"),
        ("1-300", "more than 256 ports"),
        ("80-81:90", "2 local and 1 remote"),
        ("a:1:b:2:c", "too many fields"),
        ("[::1]x:80", "cannot be read at 'x:80'"),
    ],
)
def test_what_cannot_be_read_says_why(spec: str, why: str) -> None:
    with pytest.raises(BadSpec, match=why):
        parse("tcp", spec)
