"""How a relay acts on its server's words, and how it leaves: tunnels first, then itself.

Law: the order is the point. A planned end is announced to the server and to every leg before anything
ends; what is then still there is told goodbye, what was seen of it is handed in, and only then the
link is left. Each wait has an end, and a second signal ends it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tether.attribution.causes.codes import RELAY_SHUTDOWN
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.derp.relay import Relay
from tether.net.derp.tickets import TicketGate
from tether.net.tasks import Tasks
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.derp import RelayEnd, RelayGoodbye
from tether.relay.control import RelayControl, farewell

RECONNECT_IN_S = 5.0
"""When legs may count on us again: what a restart takes, and a little."""

MOVE_S, PART_S, REPORT_S = 5.0, 2.0, 2.0
"""How long legs may take to move away; then to part; then the server, to take our reports."""

_log = get_logger("relay")


class RelayLife:
    """One run of a relay. Fulfils `control.Owner`."""

    def __init__(
        self,
        *,
        relay: Relay,
        gate: TicketGate,
        control: RelayControl,
        clock: Clock,
        on_keys: Callable[[list[Ed25519PublicKey]], None] = lambda keys: None,
        move_s: float = MOVE_S,
    ) -> None:
        """`on_keys` is told who signs tickets."""
        self._relay = relay
        self._gate = gate
        self._control = control
        self._clock = clock
        self._on_keys = on_keys
        self._move_s = move_s
        self._hurry = asyncio.Event()
        self._tasks = Tasks("relay-life")
        self.ready = asyncio.Event()
        """Set when the server has registered this relay for the first time."""

    # -- what the server says -----------------------------------------------------------------

    def registered(self, keys: list[Ed25519PublicKey], *, draining: bool) -> None:
        """See `Owner`."""
        if keys:
            self._gate.keys = tuple(keys)
            self._on_keys(keys)
        _log.info("registered", draining=draining)
        if draining:
            self._relay.announce(0.0)
        self.ready.set()

    def drain(self, *, draining: bool) -> None:
        """See `Owner`: whoever is here shall move; nothing ends."""
        _log.info("region taken off the map" if draining else "region back on the map")
        if draining:
            self._relay.announce(0.0)

    def end(self, asked: RelayEnd) -> None:
        """See `Owner`."""
        if asked.carrier:
            carrier = CarrierId(asked.connection_id, asked.carrier)
            self._relay.decline(carrier, asked.detail, asked.cause, asked.actor)
        else:
            goodbye = RelayGoodbye(cause=asked.cause, actor=asked.actor, detail=asked.detail)
            self._relay.end(asked.connection_id, goodbye)

    def joined(self) -> list[str]:
        """See `Owner`."""
        return [carrier.connection_id for carrier in self._relay.living()]

    # -- leaving ------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._hurry.set()

    async def leave(self, actor: str) -> None:
        """Leave everybody, because of `actor`."""
        goodbye = RelayGoodbye(cause=RELAY_SHUTDOWN, actor=actor)
        _log.info("relay stopping", actor=actor, carriers=len(self._relay))
        self._control.draining(RECONNECT_IN_S)
        self._relay.refuse_new(goodbye)
        self._relay.announce(RECONNECT_IN_S)
        await self._unless_hurried(self._relay.wait_empty(self._move_s))
        left = self._relay.stop(goodbye)
        _log.info("legs told to move", stayed=len(left))
        await self._unless_hurried(self._relay.wait_empty(PART_S))
        await self._unless_hurried(self._control.flushed(REPORT_S))
        self._control.quit(farewell(RELAY_SHUTDOWN, actor, self._clock.now().wall))
        await self._unless_hurried(self._control.over())
        await self._tasks.cancel()

    async def _unless_hurried(self, waiting: Coroutine[Any, Any, Any]) -> None:
        task = self._tasks.spawn(waiting, "wait")
        hurry = self._tasks.spawn(self._hurry.wait(), "hurry")
        await asyncio.wait({task, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        task.cancel()
