"""What an operator may set about a server. Frozen, and checked where it is made.

Law: values only. Times are seconds; tests shorten them, operators rarely should.
"""

from __future__ import annotations

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
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For is believed. Nobody's by default."""
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


class TrustedProxies:
    """Whose X-Forwarded-For is believed."""

    def __init__(self, proxies: tuple[str, ...]) -> None:
        """Raises `BadSetting`."""
        try:
            self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
                ip_network(proxy) for proxy in proxies
            )
        except ValueError as wrong:
            raise BadSetting(f"trusted proxies are addresses or networks: {wrong}") from wrong

    def client_ip(self, peer: str, forwarded_for: str) -> str:
        """The client's address: the last hop that is not a proxy of ours.

        Args:
            peer: the address at the other end of the socket.
            forwarded_for: the X-Forwarded-For header, "" where there is none.
        """
        hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
        at = peer
        while hops and self.trusts(at):
            at = hops.pop()
        return at[:64] if _is_address(at) else peer

    def trusts(self, address: str) -> bool:
        """Whether a peer at `address` is a proxy of ours."""
        return _is_address(address) and any(
            ip_address(address) in network for network in self._networks
        )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
