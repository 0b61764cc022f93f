"""How a server stops: it says goodbye to all, writes what was seen, closes every link, and ends.

Law: the order is the point. Where another relay could take the tunnels of the embedded one, they are
asked to move while the server still grants carriers. Then new work is refused; the relay's carriers are
left before control links, so that agents can still report what it meant for their tunnels. No tunnel
ends by this: its row stays open, and the next run finds it. Each wait is for an event, and has an end.
A second signal shortens the waits, never the telling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import SERVER_SHUTDOWN
from tether.attribution.vocabulary import StreamEnd, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.derp.relay import Relay
from tether.net.tasks import Tasks
from tether.protocol.messages.derp import RelayGoodbye
from tether.server.app import Dispatcher
from tether.server.control.hub import Hub
from tether.server.control.link import CloseReason, all_closed
from tether.server.db.store import StoreUnavailable
from tether.server.derp.map import Regions

MOVE_S = 2.5
"""How long tunnels may take to move to another relay."""

CARRIERS_S = 3.0
"""How long legs may take to leave, and what was seen of them to be written."""

RECONNECT_IN_S = 5.0
"""When legs may count on the embedded relay again: what a restart takes, and a little."""

LINKS_S, CUT_S = 2.0, 1.0
"""How long links may take to end in order; and then, to be closed in the record."""

RETRY_AFTER_S = 1.0

T = TypeVar("T")
_log = get_logger("server")


class Shutdown:
    """One orderly stop of the server. Call `run` once; `hurry` at any time."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        hub: Hub,
        relay: Relay | None,
        regions: Regions,
        clock: Clock,
    ) -> None:
        """`relay`: the embedded one, if there is one."""
        self._dispatcher = dispatcher
        self._hub = hub
        self._relay = relay
        self._regions = regions
        self._clock = clock
        self._hurry = asyncio.Event()
        self._tasks = Tasks("shutdown")

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._hurry.set()

    async def run(self, actor: str) -> None:
        """Say goodbye to everybody and end every link, because of `actor`."""
        _log.info("server stopping", actor=actor)
        reason = CloseReason(SERVER_SHUTDOWN, actor, retry_after_s=RETRY_AFTER_S)
        try:
            await self._move_tunnels(actor)
            self._hub.refuse_new()
            self._dispatcher.stopping = True
            self._hub.declare_all(reason)
            await self._leave_carriers(actor)
            await self._leave_links(reason)
        except StoreUnavailable as wrong:
            _log.error("the record could not be completed", error=str(wrong))
        finally:
            await self._tasks.cancel()

    async def _move_tunnels(self, actor: str) -> None:
        """Have the embedded relay's tunnels move to another relay, if there is one: no tunnel
        ends by that. Without another relay they would ask for one in vain, and wait for the next run."""
        if self._relay is None or not len(self._relay) or not self._regions.drain_embedded():
            return
        self._relay.refuse_new(RelayGoodbye(cause=SERVER_SHUTDOWN, actor=actor))
        self._relay.announce(RECONNECT_IN_S)
        await self._unless_hurried(self._relay.wait_empty(MOVE_S), otherwise=False)
        _log.info("legs told to move", stayed=len(self._relay))

    async def _leave_carriers(self, actor: str) -> None:
        """End the embedded relay's carriers; what they carried goes on over other ones, later."""
        if self._relay is None:
            return
        self._relay.stop(RelayGoodbye(cause=SERVER_SHUTDOWN, actor=actor))
        await self._unless_hurried(self._relay.wait_empty(CARRIERS_S), otherwise=False)

    async def _leave_links(self, reason: CloseReason) -> None:
        links = self._hub.leave_all(reason)
        left = await self._unless_hurried(all_closed(links, LINKS_S), links)
        for link in left:
            link.cut(
                ev.StreamEnded(
                    vantage=Vantage.SERVER,
                    at=self._clock.now().wall,
                    peer=link.opening.party,
                    how=StreamEnd.SILENT,
                )
            )
        await all_closed(left, CUT_S)

    async def _unless_hurried(self, waiting: Coroutine[Any, Any, T], otherwise: T) -> T:
        task = self._tasks.spawn(waiting, "wait")
        hurry = self._tasks.spawn(self._hurry.wait(), "hurry")
        await asyncio.wait({task, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return otherwise
