"""Tunnels from offer to end: dial, journal, serve, journal.

Law: every offer ends in exactly one of: declined with a sentence, or opened and ended in the journal.
Whoever ends tunnels brings an `EndOrder`; it is handed on before anything is closed, to those that
are still being joined as well. A first cause is never overwritten: cells see to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from tether.agent.journal import Journal
from tether.agent.sshd import ConnectionEnd
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.streams import DialFailed, MessageStream
from tether.net.tasks import Tasks
from tether.protocol.link import records_of
from tether.protocol.messages import Ended, OfferDeclined, Opened, TunnelOffer

MAX_TUNNELS = 256

_log = get_logger("tunnels")

DialRelay = Callable[[str, str], Awaitable[MessageStream]]
Decline = Callable[[OfferDeclined], None]


class SshServing(Protocol):
    """What is needed of `agent.sshd.SshServer`."""

    async def serve(self, stream: MessageStream, offer: TunnelOffer) -> ConnectionEnd: ...

    def end(
        self,
        connection_ids: Iterable[str] | None,
        *,
        fact: ev.Evidence,
        cause: str,
        actor: str = "",
        detail: str = "",
        announcement: str = "",
    ) -> None: ...

    def abandon(self, fact: ev.Evidence) -> None: ...

    async def hang_up(self) -> None: ...

    async def finish(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EndOrder:
    """Why tunnels are being ended: what was said, and the sentence that terminals are shown."""

    said: ev.GoodbyeSaid
    announcement: str


@dataclass(slots=True)
class _Taking:
    """One offer that was taken up. `order` is set when it is to end while it is being joined."""

    offer: TunnelOffer
    decline: Decline
    task: asyncio.Task[None] | None = None
    joining: bool = True
    order: EndOrder | None = None


class Tunnels:
    """All tunnels of this agent."""

    def __init__(
        self,
        *,
        ssh: SshServing,
        journal: Journal,
        clock: Clock,
        dial: DialRelay,
        limit: int = MAX_TUNNELS,
    ) -> None:
        self._ssh, self._journal, self._clock = ssh, journal, clock
        self._dial, self._limit = dial, limit
        self._taken: dict[str, _Taking] = {}
        self._tasks = Tasks("tunnels")
        self._refusal = ""

    @property
    def ids(self) -> set[str]:
        """Tunnels that are being joined or served."""
        return set(self._taken)

    def refuse(self, sentence: str) -> None:
        """Decline every offer from now on with `sentence`; "" takes them again."""
        self._refusal = sentence

    def offered(self, offer: TunnelOffer, decline: Decline) -> None:
        """Take up `offer`, or `decline` it, now or when it cannot be joined."""
        refusal = self._refusal
        if not refusal and len(self._taken) >= self._limit:
            refusal = f"the agent already serves {self._limit} connections: close some of them"
        if refusal:
            decline(OfferDeclined(connection_id=offer.connection_id, message=refusal))
        elif offer.connection_id not in self._taken:
            taking = self._taken[offer.connection_id] = _Taking(offer, decline)
            taking.task = self._tasks.spawn(self._take(taking), offer.connection_id)

    def end(self, connection_ids: Iterable[str] | None, order: EndOrder) -> None:
        """End these tunnels (None: all) with `order`."""
        wanted = self.ids if connection_ids is None else self.ids & set(connection_ids)
        for connection_id in wanted:
            taking = self._taken[connection_id]
            if taking.joining and taking.order is None:  # the client need not wait for the relay
                self._declined(taking, order.announcement)
            taking.order = taking.order or order
        served = [
            connection_id for connection_id in wanted if not self._taken[connection_id].joining
        ]
        self._end_served(served, order)

    async def close(self, timeout: float) -> None:
        """Wait for every tunnel that was told to `end`, at most `timeout` seconds; then drop what
        is left of them. Every one that was opened has its end posted when this returns."""
        ending = {t.task for t in self._taken.values() if t.order is not None and t.task}
        try:
            if ending:
                await asyncio.wait(ending, timeout=timeout)
        finally:
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    # -- one tunnel --------------------------------------------------------------------

    async def _take(self, taking: _Taking) -> None:
        offer = taking.offer
        try:
            try:
                stream = await self._dial(offer.relay_url, offer.ticket)
            except DialFailed as failed:
                _log.info("tunnel not joined", connection_id=offer.connection_id, error=str(failed))
                if taking.order is None:
                    self._declined(taking, f"the agent could not join the tunnel: {failed}")
                return
            # No await from here to the first step of serving, which makes the tunnel known: an
            # order to end came before, and follows that step, or comes later, and finds it.
            taking.joining = False
            self._journal.post(Opened(connection_id=offer.connection_id, at=self._clock.now().wall))
            if taking.order is not None:
                asyncio.get_running_loop().call_soon(
                    self._end_served, [offer.connection_id], taking.order
                )
            await self._serve(taking, stream)
        finally:
            del self._taken[offer.connection_id]

    async def _serve(self, taking: _Taking, stream: MessageStream) -> None:
        try:
            end = await self._ssh.serve(stream, taking.offer)
        except BaseException as wrong:  # dropped, or a bug: the end is posted all the same
            fact: ev.Evidence = self._failure(wrong)
            if isinstance(wrong, asyncio.CancelledError) and taking.order is not None:
                fact = taking.order.said
            self._journal.post(
                Ended(
                    connection_id=taking.offer.connection_id,
                    at=self._clock.now().wall,
                    facts=records_of((fact,)),
                )
            )
            raise
        await self._journal.append(
            Ended(
                connection_id=end.connection_id,
                at=end.ended_at.wall,
                facts=records_of(end.cell.facts),
                symptoms=records_of(end.cell.symptoms),
                rx_bytes=end.rx_bytes,
                tx_bytes=end.tx_bytes,
            )
        )

    def _end_served(self, connection_ids: Iterable[str], order: EndOrder) -> None:
        said = order.said
        self._ssh.end(
            connection_ids,
            fact=said,
            cause=said.cause,
            actor=said.actor,
            detail=said.detail,
            announcement=order.announcement,
        )

    def _declined(self, taking: _Taking, message: str) -> None:
        taking.decline(OfferDeclined(connection_id=taking.offer.connection_id, message=message))

    def _failure(self, wrong: BaseException) -> ev.InternalFailure:
        return ev.InternalFailure(
            vantage=Vantage.AGENT,
            at=self._clock.now().wall,
            party=Party.AGENT,
            what=f"{type(wrong).__name__}: {wrong}"[:200],
        )
