"""What one SSH connection knows of the connections it forwards: allowed or not, counted, recorded.

Law: bytes do not pass here (`tracked.py` sees them). It owns the ledger and its one timer, notes in the
connection's cell what its end may be judged by, and tells the IDE watcher.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from asyncssh.listener import SSHForwardListener

from tether.agent.commands.policy import PolicyRefusal, TransferPolicy, check_forward
from tether.agent.forwarding.ledger import ForwardLedger
from tether.agent.forwarding.listeners import Listeners
from tether.agent.ide.watcher import IdeWatcher
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import ForwardServed, StdioForwardEnded
from tether.attribution.vocabulary import Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.protocol.messages.reports import STDIO_ORIGIN, ForwardEnd, ForwardItem, ForwardKind

_KEPT_REFUSALS = 3
"""How many refusals are noted in the connection's cell; further ones would add nothing."""


class Forwards:
    """All forwarded connections of one SSH connection. Call `finish` when that is over."""

    def __init__(
        self,
        connection_id: str,
        *,
        client: str,
        cell: CloseCell,
        clock: Clock,
        cause: Callable[[], str],
        policy: TransferPolicy,
        ide: IdeWatcher | None,
        on_item: Callable[[ForwardItem], None],
        listeners: Listeners,
        answers: Callable[[], Awaitable[bool]],
    ) -> None:
        """`client` names the person's machine: an IDE's channels are grouped by it. `cause` says why
        the connection ended, once it has. `on_item` gets records and roll-ups. `listeners` are those of
        all connections; `answers` finds out whether this one's client is still there."""
        self.connection_id = connection_id
        self._listeners = listeners
        self._answers = answers
        self._client = client
        self._cell = cell
        self._clock = clock
        self._connections_cause = cause
        self.policy = policy
        self._ide = ide
        self._on_item = on_item
        self._log = get_logger("forwards", connection_id=connection_id)
        self._ledger = ForwardLedger(connection_id)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._refused = 0  # by policy
        self._stdio: set[int] = set()  # forwards of `ssh -W`

    async def answers(self) -> bool:
        """Whether the client is still there."""
        return await self._answers()

    async def listen(
        self, port: int, bind: Callable[[], Awaitable[SSHForwardListener]]
    ) -> SSHForwardListener:
        """What `bind` makes, which listens on `port`.

        Raises:
            OSError: it cannot be bound.
        """
        return await self._listeners.listen(self, port, bind)

    def check_policy(
        self, kind: ForwardKind, destination: str, origin: str = ""
    ) -> PolicyRefusal | None:
        """Whether policy allows it; a refusal is recorded, logged and noted as evidence."""
        refusal = check_forward(self.policy, kind)
        if refusal is None:
            return None
        now = self._clock.now()
        self._log.warning("forwarding blocked", kind=str(kind), destination=destination)
        self._refused += 1
        if self._refused <= _KEPT_REFUSALS:
            self._cell.note(refusal.fact(now.wall))
        self._emit(
            self._ledger.refused(
                kind, destination, ForwardEnd.BLOCKED, now, origin=origin, cause=refusal.cause
            )
        )
        return refusal

    def failed(self, kind: ForwardKind, destination: str, detail: str, origin: str = "") -> None:
        """The destination could not be connected to."""
        now = self._clock.now()
        self._emit(
            self._ledger.refused(
                kind, destination, ForwardEnd.REFUSED, now, origin=origin, detail=detail
            )
        )

    def started(
        self,
        kind: ForwardKind,
        destination: str,
        *,
        origin: str = "",
        peer: tuple[str, int] | None = None,
    ) -> int:
        """A connection is carried, to the address `peer`. Returns its number."""
        now = self._clock.now()
        if not self._ledger.served:
            self._cell.note(ForwardServed(vantage=Vantage.AGENT, at=now.wall, what=kind))
        number, items = self._ledger.started(kind, destination, now, origin=origin)
        self._emit(items)
        if origin == STDIO_ORIGIN:
            self._stdio.add(number)
        if self._ide is not None and kind is ForwardKind.DIRECT_TCPIP and peer is not None:
            self._ide.channel_opened(
                self._channel(number),
                client=self._client,
                connection_id=self.connection_id,
                host=peer[0],
                port=peer[1],
            )
        return number

    def destination_closed(self, number: int) -> None:
        """The destination sends no more: what `ssh -W` was started for is over."""
        if number in self._stdio and self._ledger.open == 1:
            self._stdio.discard(number)
            at = self._clock.now().wall
            self._cell.note(StdioForwardEnded(vantage=Vantage.AGENT, at=at))

    def ended(
        self, number: int, end: ForwardEnd, *, rx_bytes: int, tx_bytes: int, detail: str = ""
    ) -> None:
        """It is over."""
        if self._cell.ended and end is ForwardEnd.CLIENT_CLOSED:
            end = ForwardEnd.CONNECTION_ENDED  # asyncssh closes the channels of a connection
        now = self._clock.now()
        self._emit(
            self._ledger.ended(
                number,
                end,
                now,
                rx_bytes=rx_bytes,
                tx_bytes=tx_bytes,
                cause=self._connections_cause() if end is ForwardEnd.CONNECTION_ENDED else "",
                detail=detail,
            )
        )
        if self._ide is not None:
            self._ide.channel_closed(
                self._channel(number), end, rx_bytes=rx_bytes, tx_bytes=tx_bytes
            )

    def finish(self) -> None:
        """The SSH connection is over, and asyncssh has closed its channels."""
        self._listeners.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        for item in self._ledger.finish(self._clock.now(), cause=self._connections_cause()):
            self._on_item(item)
        if self._ide is not None:
            self._ide.connection_ended(self.connection_id, self._cell.facts)

    def _channel(self, number: int) -> str:
        return f"{self.connection_id}/{number}"

    def _emit(self, items: list[ForwardItem]) -> None:
        for item in items:
            self._on_item(item)
        if self._timer is None and (deadline := self._ledger.deadline()) is not None:
            self._timer = self._loop.call_later(
                max(0.0, deadline - self._clock.now().mono), self._tick
            )

    def _tick(self) -> None:
        self._timer = None
        self._emit(self._ledger.tick(self._clock.now()))
