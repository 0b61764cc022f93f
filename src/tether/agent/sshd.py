"""SKELETON for A2 to code against; signatures are meant to stay (A1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tether.agent.hostkey import HostKey
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.net.clock import Clock
from tether.net.streams import MessageStream
from tether.protocol.instant import Instant
from tether.protocol.messages import SessionRecord, TunnelOffer


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """What the SSH server needs to know; a new value may be assigned to `SshServer.settings` at any
    time (after a Welcome), and holds for tunnels served from then on."""

    host_key: HostKey
    user_ca_key: str = ""
    """The server's user CA, one OpenSSH line; "" trusts no certificate."""
    workspace: str = ""
    workspace_id: str = ""
    login_timeout_s: float = 30.0
    env: Mapping[str, str] = field(default_factory=dict)
    """More variables for every session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEnd:
    """One served tunnel that is over."""

    connection_id: str
    cell: CloseCell
    connected_at: Instant
    ended_at: Instant
    rx_bytes: int
    tx_bytes: int
    user: str
    client_ip: str


class SshServer:
    def __init__(
        self,
        settings: SshSettings,
        *,
        clock: Clock,
        on_session: Callable[[SessionRecord], None] = lambda record: None,
    ) -> None:
        self.settings = settings

    async def serve(self, stream: MessageStream, offer: TunnelOffer) -> ConnectionEnd:
        """Run one tunnel and its SSH connection to their end. Raises nothing but CancelledError
        (cancelled, it still cleans up; offer a cause with `end` before you cancel)."""
        raise NotImplementedError

    def end(
        self,
        connection_ids: Iterable[str] | None,
        *,
        fact: Evidence,
        cause: str,
        actor: str = "",
        detail: str = "",
        announcement: str = "",
    ) -> None:
        """End these connections (None: all) because of `fact`: it goes into each cell FIRST, then
        terminals are shown `announcement`, then the tunnel says goodbye with `cause`."""
        raise NotImplementedError

    @property
    def live(self) -> Mapping[str, TunnelOffer]:
        """The connections being served now, by connection id."""
        raise NotImplementedError

    async def close(self, timeout: float) -> None:
        """Wait for every `serve` to return (call `end(None, …)` first), at most `timeout` seconds;
        then hang up (SIGHUP, later SIGKILL) on every process that is left."""
        raise NotImplementedError
