"""The control link, seen from a relay: dial, register, report, and dial again.

Law: nothing here touches a carrier, except where the server says so: a relay goes on carrying while its
server is away. A dial that fails is a line of the log; a link that was welcomed ends with one line.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.derp.splice import CarrierEnding
from tether.net.link.driver import LinkDriver
from tether.net.link.handshake import WelcomeRefused, greet
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream
from tether.protocol.backoff import Backoff
from tether.protocol.derp.outbox import RelayLedger
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Message, Unrecognized, records_of
from tether.protocol.messages.codec import PROTOCOL, decode, encode
from tether.protocol.messages.control import Goodbye, Hello, Unsupported, Welcome
from tether.protocol.messages.derp import (
    CarrierReport,
    RelayDrain,
    RelayDraining,
    RelayEnd,
    RelayRegister,
    RelayRegistered,
    RelayReportAck,
)
from tether.version import VERSION

LINGER_S = 1.5
"""How long our goodbye waits for its acknowledgement."""

REFUSALS = frozenset({"token_unknown", "token_revoked", "token_expired"})
"""Words of a 401 after which dialling again cannot help."""

_log = get_logger("control")

Dial = Callable[[], Awaitable[MessageStream]]


class RelayOwner(Protocol):
    """Whoever acts on what the server says. Its methods must not block."""

    def registered(self, keys: list[Ed25519PublicKey], *, draining: bool) -> None: ...

    def drain(self, *, draining: bool) -> None: ...

    def end(self, asked: RelayEnd) -> None: ...

    def joined(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class RelayStopped:
    """We were asked to dial no more."""


@dataclass(frozen=True, slots=True)
class RelayRefused:
    """The server does not take this relay (any more). `message` is one sentence."""

    message: str


Outcome: TypeAlias = RelayStopped | RelayRefused


class RelayControl:
    """Keeps one link to the server for as long as `run` runs. Fulfils `CarrierLog`."""

    def __init__(
        self,
        *,
        dial: Dial,
        region: str,
        url: str,
        instance_id: str,
        hostname: str,
        clock: Clock,
        ledger: RelayLedger,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`dial` opens a stream to the server or raises `DialFailed`."""
        self._dial, self._region, self._url = dial, region, url
        self._instance_id, self._hostname = instance_id, hostname
        self._clock, self._ledger, self._jitter = clock, ledger, jitter
        self._backoff = Backoff()
        self._driver: LinkDriver | None = None
        self._registered = False
        self._goodbye: Goodbye | None = None
        self._draining = self._quitting = False
        self._on_file = asyncio.Event()
        self._over = asyncio.Event()
        self._seeking: asyncio.Task[tuple[MessageStream, Welcome] | RelayRefused] | None = None
        self._tasks = Tasks("control")
        self._owner: RelayOwner

    # -- what there is to tell --------------------------------------------------------------

    async def carrier_joined(self, carrier: CarrierId) -> None:
        """See `CarrierLog`."""
        self._ledger.joined(carrier.connection_id)
        self._tell()

    async def carrier_ended(self, carrier: CarrierId, ending: CarrierEnding) -> None:
        """See `CarrierLog`."""
        self._ledger.ended(
            CarrierReport(
                connection_id=carrier.connection_id,
                carrier=carrier.number,
                at=self._clock.now().wall,
                facts=records_of(ending.facts),
                symptoms=records_of(ending.symptoms),
                rx_bytes=ending.rx_bytes,
                tx_bytes=ending.tx_bytes,
            )
        )
        self._tell()

    async def flushed(self, timeout: float) -> bool:
        """Wait until the server has everything on file, at most `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self._ledger and self._driver is not None:
                    self._on_file.clear()
                    await self._on_file.wait()
        except TimeoutError:
            pass
        return not self._ledger

    def draining(self, reconnect_in_s: float) -> None:
        """Tell the server that this relay will restart: nobody is sent any more."""
        self._draining = True
        if self._driver is not None and self._registered:
            self._driver.send(RelayDraining(reconnect_in_s=reconnect_in_s))

    # -- the link ---------------------------------------------------------------------------

    async def run(self, owner: RelayOwner) -> Outcome:
        """Dial, live, dial again, until one of the outcomes."""
        self._owner = owner
        wait_s = 0.0
        try:
            while not self._quitting:
                self._seeking = self._tasks.spawn(self._seek(wait_s), "dial")
                await asyncio.wait({self._seeking})
                if self._seeking.cancelled():
                    break
                found = self._seeking.result()
                if isinstance(found, RelayRefused):
                    return found
                wait_s = await self._live_on(*found)
                if wait_s < 0:
                    return RelayRefused("the server has said goodbye to this relay for ever")
            return RelayStopped()
        finally:
            self._over.set()
            await self._tasks.cancel()

    def quit(self, said: ev.GoodbyeSaid) -> None:
        """Leave with this cause, and dial no more: `run` returns once the link is over."""
        self._quitting = True
        if self._driver is not None:
            self._driver.leave(said.cause, because=said, actor=said.actor)
        elif self._seeking is not None:
            self._seeking.cancel()

    async def over(self) -> None:
        """Wait until `run` has returned."""
        await self._over.wait()

    async def _seek(self, wait_s: float) -> tuple[MessageStream, Welcome] | RelayRefused:
        await asyncio.sleep(wait_s)
        while True:
            hint_s = 0.0
            try:
                stream = await self._dial()
                return stream, await greet(stream, self._hello, "relay")
            except WelcomeRefused as away:
                if away.goodbye.retry_after_s < 0:
                    return RelayRefused(str(away))
                failed: DialFailed = away
                hint_s = away.goodbye.retry_after_s
            except DialFailed as wrong:
                if wrong.status == 401 and wrong.cause in REFUSALS:
                    return RelayRefused(str(wrong))
                failed = wrong
            self._backoff.lived(0.0)
            wait_s = self._backoff.delay(self._jitter(), hint_s)
            _log.warning(
                "failed to dial server",
                error=str(failed),
                cause=failed.cause,
                retry_in_s=round(wait_s, 2),
            )
            await asyncio.sleep(wait_s)

    async def _hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            role=str(Party.RELAY),
            version=VERSION,
            instance_id=self._instance_id,
            hostname=self._hostname,
        )

    async def _live_on(self, stream: MessageStream, welcome: Welcome) -> float:
        """Run a link to its end; how long to wait before the next dial, negative for ever."""
        opened = self._clock.now()
        driver = self._driver = LinkDriver(
            stream=stream,
            link=Link(
                me=Party.RELAY,
                peer=Party.SERVER,
                now=opened,
                ping_every=welcome.ping_every_s,
                patience=welcome.patience_s,
                linger=LINGER_S,
            ),
            clock=self._clock,
            pack=encode,
            unpack=decode,
            deliver=self._deliver,
        )
        self._goodbye = None
        self._ledger.link_up()
        driver.send(
            RelayRegister(
                region=self._region,
                url=self._url,
                joined=self._owner.joined(),
                draining=self._draining,
            )
        )
        _log.info("connected to server", server_version=welcome.version)
        try:
            await driver.run()
        finally:
            self._driver, self._registered = None, False
            self._on_file.set()
        goodbye = self._goodbye
        hint_s = 0.0 if goodbye is None else goodbye.retry_after_s
        lived_s = self._clock.now().mono - opened.mono
        self._backoff.lived(lived_s)
        wait_s = -1.0 if hint_s < 0 else self._backoff.delay(self._jitter(), hint_s)
        _log.warning("disconnected from server", **_end_of(driver), retry_in_s=round(wait_s, 2))
        return wait_s

    def _deliver(self, message: Message) -> None:
        match message:
            case RelayRegistered(ticket_keys=keys, draining=draining):
                self._registered = True
                self._owner.registered(_keys(keys), draining=draining)
                self._tell()
            case RelayReportAck(seq=seq):
                self._ledger.acknowledged(seq)
                self._tell()
                if not self._ledger:
                    self._on_file.set()
            case RelayDrain(draining=draining):
                self._owner.drain(draining=draining)
            case RelayEnd():
                self._owner.end(message)
            case Goodbye():
                self._goodbye = message
            case Unrecognized() | Unsupported():
                _log.debug("a message of another version", message_type=message.message_type)
            case _:
                if self._driver is not None:
                    self._driver.violated(f"a {type(message).__name__} message")

    def _tell(self) -> None:
        """Report what is not told yet over this link."""
        while self._driver is not None and self._registered:
            report = self._ledger.report()
            if report is None:
                return
            self._driver.send(report)


def _keys(told: list[str]) -> list[Ed25519PublicKey]:
    keys = []
    for one in told:
        try:
            raw = base64.b64decode(one, validate=True)
            keys.append(Ed25519PublicKey.from_public_bytes(raw))
        except (binascii.Error, ValueError):
            _log.error("a ticket key of the server is none")
    return keys


def _end_of(driver: LinkDriver) -> dict[str, object]:
    for fact in driver.cell.facts:
        match fact:
            case ev.GoodbyeSaid(by=by, cause=cause, actor=actor):
                return {"by": str(by), "cause": cause, "actor": actor, "how": "goodbye"}
            case ev.StreamEnded(how=how, errno=errno, silence_s=silence_s):
                return {"how": str(how), "errno": errno, "silence_s": silence_s}
            case ev.ProtocolViolated(by=by, what=what):
                return {"by": str(by), "how": what}
            case _:
                pass
    return {"how": ""}


def farewell(cause: str, actor: str, at: float) -> ev.GoodbyeSaid:
    """A relay's own goodbye as a fact."""
    return ev.GoodbyeSaid(vantage=Vantage.RELAY, at=at, by=Party.RELAY, cause=cause, actor=actor)
