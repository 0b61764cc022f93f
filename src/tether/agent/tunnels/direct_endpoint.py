"""Where the agent can be dialled without a relay, and what it tells the server of that.

Law: it decides about addresses only; `Tunnels` judges who comes. An agent whose server is on this
machine listens on this machine only, any other one on all addresses. What is offered is bounded, has no
repetitions, and is read anew each time it is asked for, because addresses come and go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tether.log import get_logger
from tether.net.host.interfaces import is_loopback, reachable_addresses
from tether.net.transport.direct_listener import DirectListener, OnAttach, bind_direct
from tether.net.transport.tcp import NoAddress, join_address, split_address
from tether.protocol.messages.coordination import TRIED_ENDPOINTS

OFF = "off"

_log = get_logger("direct")


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSettings:
    """`listen` is `HOST:PORT`, `off`, or "" for what suits the server's URL."""

    listen: str = ""
    external: tuple[str, ...] = ()
    """Further endpoints by which others reach this agent (a forwarded port of its router)."""


def listen_at(settings: DirectSettings, server_url: str) -> tuple[str, int] | None:
    """Host ("" for all addresses) and port to listen at; None for nowhere.

    Raises:
        NoAddress: a setting is no address.
    """
    for external in settings.external:
        _parsed(external, "--external-address")
    if settings.listen == OFF:
        return None
    if settings.listen:
        host, port = _parsed(settings.listen, "--direct-listen", any_port=True)
        return ("" if host in ("0.0.0.0", "::", "*") else host), port
    host = urlsplit(server_url).hostname or ""
    return ("127.0.0.1" if is_loopback(host) else ""), 0


class DirectEndpoint:
    """The agent's listener for direct carriers. Make it in a running loop."""

    def __init__(
        self,
        settings: DirectSettings,
        server_url: str,
        on_attach: OnAttach,
        *,
        addresses: Callable[[], list[str]] = reachable_addresses,
    ) -> None:
        """Binds at once.

        Raises:
            OSError: the address cannot be had.
            NoAddress: a setting is no address.
        """
        self._settings = settings
        self._addresses = addresses
        self._listener: DirectListener | None = None
        self._host = ""
        at = listen_at(settings, server_url)
        if at is not None:
            self._host = at[0]
            self._listener = DirectListener(bind_direct(*at), on_attach)

    @property
    def open(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    def start(self) -> None:
        """Accept from now on."""
        if self._listener is not None:
            self._listener.start()
            _log.info("direct carriers accepted", endpoints=self.endpoints())

    def endpoints(self) -> list[str]:
        """Where the agent can be dialled now, best first."""
        if self._listener is None:
            return []
        ((host, port),) = self._listener.addresses
        hosts = [host] if self._host else self._addresses()
        offered = [*(join_address(each, port) for each in hosts), *self._settings.external]
        return list(dict.fromkeys(offered))[:TRIED_ENDPOINTS]

    async def close(self) -> None:
        """Accept nothing more."""
        if self._listener is not None:
            await self._listener.close()


def _parsed(text: str, option: str, *, any_port: bool = False) -> tuple[str, int]:
    with contextlib.suppress(NoAddress):
        host, port = split_address(text)
        if port or any_port:
            return host, port
    raise NoAddress(f"{option} takes HOST:PORT, which {text[:80]!r} is not")
