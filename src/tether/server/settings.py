"""What an operator may set about a server. Frozen, and checked where it is made.

Law: values only. Times are seconds; tests shorten them, operators rarely should.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from packaging.version import InvalidVersion, Version

from tether.protocol.messages.tunnel import RESUME_S

MAX_RESUME_S = 30 * 86400.0


class BadSetting(ValueError):
    """A setting makes no sense; the text names it and what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTimes:
    """How often control links are pinged, and how long a silent peer is waited for."""

    ping_every_s: float = 15.0
    patience_s: float = 45.0
    hello_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Graces:
    """How long tunnels are kept open in the record for parties that may still report."""

    report_s: float = 15.0
    """For the agent's report, after its client said goodbye or its run was replaced."""
    agent_s: float = 15.0
    """For an agent whose stream ended, to come back."""
    silent_s: float = RESUME_S
    """For an agent that fell silent: its tunnels wait for it."""
    restart_s: float = 60.0
    """For agents to come back to a server that was started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Every setting of `tether server`."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 7080
    """0: any free port; `server ready` tells which."""
    external_url: str = ""
    """Where others reach this server, where that is not the address that it listens on."""
    database: str = ""
    """An `sqlite:` URL; "" for `server.db` in the data directory."""
    log_format: str = "text"
    log_level: str = "info"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    """With both, the server speaks TLS by itself; None: a proxy before it does that, or nobody."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies that are believed about their clients. Nobody's by default."""
    link_times: LinkTimes = LinkTimes()
    graces: Graces = Graces()
    pairing_wait_s: float = 15.0
    embedded_relay: bool = True
    derp_map: Path | None = None
    """A file that chooses the DERP regions; None: the API does, or whatever registers."""
    resume_s: float = RESUME_S
    """How long a tunnel waits for a peer that fell silent."""
    min_agent_version: str = ""
    """Agents that are older are turned away; "" takes all."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise BadSetting(f"the port is a number from 0 to 65535, not {self.port}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise BadSetting("--tls-cert and --tls-key go together: give both, or none")
        if self.external_url and not self.external_url.startswith(("http://", "https://")):
            raise BadSetting(
                f"the external URL begins with http:// or https://: {self.external_url}"
            )
        if not 0 <= self.resume_s <= MAX_RESUME_S:
            raise BadSetting(
                f"tunnels wait for 0 to {MAX_RESUME_S:.0f} s to be resumed, not {self.resume_s:g}"
            )
        if self.min_agent_version:
            try:
                Version(self.min_agent_version)
            except InvalidVersion as wrong:
                raise BadSetting(
                    f"{self.min_agent_version!r} is no version: write one such as 1.4"
                ) from wrong
        if self.log_format not in ("json", "text"):
            raise BadSetting(f"the log format is json or text, not {self.log_format}")
        TrustedProxies(self.trusted_proxies)


MAX_HEADER = 4096
"""Characters of a header about the way here that are read."""

_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::(\w{1,6}))?")
"""RFC 7239 lets a port be hidden, too."""


class TrustedProxies:
    """Whose X-Forwarded-For, Forwarded and PROXY headers are believed."""

    def __init__(self, proxies: tuple[str, ...]) -> None:
        """Raises `BadSetting`."""
        try:
            self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
                ip_network(proxy) for proxy in proxies
            )
        except ValueError as wrong:
            raise BadSetting(f"trusted proxies are addresses or networks: {wrong}") from wrong

    def client(
        self, peer: tuple[str, int], forwarded_for: str, forwarded: str = ""
    ) -> tuple[str, int]:
        """The client's address and port: the last hop that is not a proxy of ours; port 0 where no hop
        tells it. A hop that hides itself (`unknown`) ends the chain: who is before it, it alone knows.

        Args:
            peer: the address and port at the other end of the socket.
            forwarded_for: the X-Forwarded-For headers, joined; "" where there are none.
            forwarded: the Forwarded headers (RFC 7239), which count where there is no other: a proxy
                that sets one of the two passes on what the client wrote into the other.
        """
        hops = _split(forwarded_for) if forwarded_for.strip() else _forwarded_for(forwarded)
        at = peer
        while hops and self.trusts(at[0]):
            hop = _address_of(hops.pop())
            if hop is None:
                break
            at = hop
        return at

    def trusts(self, address: str) -> bool:
        """Whether a peer at `address` is a proxy of ours, which is believed about its clients."""
        return _is_address(address) and any(
            ip_address(address) in network for network in self._networks
        )


def _split(text: str, separator: str = ",") -> list[str]:
    """The parts of a header's value that are not empty; what is quoted is not split."""
    parts = re.findall(rf'(?:"(?:[^"\\]|\\.)*"|[^"{separator}])+', text[:MAX_HEADER])
    return [part.strip() for part in parts if part.strip()]


def _forwarded_for(header: str) -> list[str]:
    """The `for` of each hop in a Forwarded header, "" where a hop names none."""
    found = []
    for hop in _split(header):
        pairs = (pair.partition("=") for pair in _split(hop, ";"))
        values = {name.strip().lower(): value.strip() for name, _, value in pairs}
        found.append(values.get("for", ""))
    return found


def _address_of(hop: str) -> tuple[str, int] | None:
    """The address and port of `192.0.2.1`, `192.0.2.1:5000`, `2001:db8::1`, `[2001:db8::1]:5000`, quoted
    or not; None for what is none (`unknown`, `_hidden`)."""
    text = hop.strip().strip('"').strip()
    if _is_address(text):
        host, port = text, ""
    elif (read := _WITH_PORT.fullmatch(text)) is not None and _is_address(read[1] or read[2]):
        host, port = read[1] or read[2], read[3] or ""
    else:
        return None
    number = int(port) if port.isdigit() else 0
    return host.removeprefix("::ffff:")[:64], number if number <= 65535 else 0


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
