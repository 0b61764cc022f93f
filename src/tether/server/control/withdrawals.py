"""Ends what may not live any more: tunnels whose user, token or signed-in browser was withdrawn.

Law: what is withdrawn is ended at once by whoever withdraws it; this is what makes sure of it. It holds
every ongoing tunnel against what may live, whenever one comes up and every few seconds: so a token that
runs out, a grant that was used only after the withdrawal, and a server that was stopped in between come
to the same end. It decides nothing: `connlog.withdrawn` does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

from tether.log import get_logger
from tether.net.tasks import Tasks
from tether.server.connlog.log import ConnectionLog
from tether.server.connlog.rows import Event, RowOpened, RowReopened
from tether.server.control.link import NEVER, CloseReason
from tether.server.db.store import StoreUnavailable
from tether.server.db.tables.connections import ConnectionRow

EVERY_S = 2.0
"""How often ongoing tunnels are looked through without an occasion."""

PAUSE_S = 0.25
"""Between two looks, however many tunnels come up."""

EndTunnels = Callable[[Iterable[ConnectionRow], CloseReason], Awaitable[None]]

_log = get_logger("withdrawals")


class Withdrawals:
    """Looks for tunnels that may not live. Call `run` once."""

    def __init__(self, log: ConnectionLog, end_tunnels: EndTunnels) -> None:
        self._connections = log
        self._end_tunnels = end_tunnels
        self._ending: set[str] = set()  # tunnels whose agents have been told
        self._changed = asyncio.Event()
        self._tasks = Tasks("withdrawals")

    def log_changed(self, event: Event) -> None:
        """The connection log has changed: was a tunnel opened that may not live?"""
        if isinstance(event, RowOpened | RowReopened):
            self._changed.set()

    async def run(self) -> None:
        """Look, until cancelled."""
        try:
            while True:
                self._changed.clear()
                with contextlib.suppress(StoreUnavailable):  # then nobody can be told, either
                    await self.look()
                await asyncio.sleep(PAUSE_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_S - PAUSE_S):
                        await self._changed.wait()
        finally:
            await self._tasks.cancel()

    async def look(self) -> None:
        """Have everything ended that may not live now and is not being ended yet."""
        orders: dict[tuple[str, str], list[ConnectionRow]] = {}
        for tunnel in await self._connections.withdrawn_tunnels():
            if tunnel.connection_id not in self._ending:
                orders.setdefault(tunnel.why, []).append(tunnel)
        for (cause, actor), tunnels in orders.items():
            reason = CloseReason(cause, actor, retry_after_s=NEVER)
            self._tasks.spawn(self._end(tunnels, reason), "end-withdrawn")

    async def _end(self, tunnels: list[ConnectionRow], reason: CloseReason) -> None:
        ids = {one.connection_id for one in tunnels}
        self._ending |= ids
        _log.info("withdrawn tunnels end", cause=reason.cause, count=len(ids))
        try:
            await self._end_tunnels(tunnels, reason)
        except StoreUnavailable as wrong:  # looked for again
            _log.error("withdrawn tunnels cannot be ended now", error=str(wrong))
        finally:
            self._ending -= ids
