"""What `tether port-forward` is asked for: `[BIND:]PORT[:[HOST:]PORT]`, with ranges of ports.

Law: pure. An IPv6 address is written in brackets. What is left out: BIND and HOST are 127.0.0.1, the
remote port is the local one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
MAX_PORTS = 256
"""Ports of one range."""

_FIELD = re.compile(r"\[([^\]]*)\]|([^:\[\]]*)")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


class BadSpec(ValueError):
    """It cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class ForwardSpec:
    """One local port, and where it leads in the workspace."""

    protocol: str
    """"tcp" or "udp"."""
    bind: str
    local_port: int
    host: str
    remote_port: int

    @property
    def local(self) -> str:
        return join(self.bind, self.local_port)

    @property
    def remote(self) -> str:
        return join(self.host, self.remote_port)


def join(host: str, port: int) -> str:
    """`host:port`, with brackets where they are needed."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(protocol: str, spec: str) -> list[ForwardSpec]:
    """The forwards that `spec` asks for.

    Raises:
        BadSpec: it is none.
    """
    bind, local, host, remote = _arranged(spec, _fields(spec))
    ours, theirs = _ports(spec, local), _ports(spec, remote or local)
    if len(ours) != len(theirs):
        raise BadSpec(f"{spec!r} has {len(ours)} local and {len(theirs)} remote ports")
    return [
        ForwardSpec(protocol, bind or LOOPBACK, mine, host or LOOPBACK, yours)
        for mine, yours in zip(ours, theirs, strict=True)
    ]


def _fields(spec: str) -> list[str]:
    fields, at = [], 0
    while True:
        match = _FIELD.match(spec, at)
        assert match is not None, "an empty field matches anywhere"
        fields.append(match[1] if match[1] is not None else match[2])
        at = match.end()
        if at == len(spec):
            return fields
        if spec[at] != ":":
            raise BadSpec(f"{spec!r} cannot be read at {spec[at:]!r}")
        at += 1


def _arranged(spec: str, fields: list[str]) -> tuple[str, str, str, str]:
    match fields:
        case [port]:
            return "", port, "", ""
        case [first, second] if _PORTS.fullmatch(first):
            return "", first, "", second
        case [bind, port]:
            return bind, port, "", ""
        case [port, host, remote] if _PORTS.fullmatch(port):
            return "", port, host, remote
        case [bind, port, remote]:
            return bind, port, "", remote
        case [bind, port, host, remote]:
            return bind, port, host, remote
        case _:
            raise BadSpec(f"{spec!r} has too many fields: write [BIND:]PORT[:HOST:PORT]")


def _ports(spec: str, text: str) -> range:
    match = _PORTS.fullmatch(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or match[1]) if match else 0
    if not 0 < first <= last < 65536:
        raise BadSpec(
            f"{text!r} in {spec!r} is no port: write 1 to 65535, or a range such as 80-85"
        )
    if last - first >= MAX_PORTS:
        raise BadSpec(f"{spec!r} asks for more than {MAX_PORTS} ports")
    return range(first, last + 1)
