"""The control link, seen from a relay: what a relay does with the links that `net.link.dialer` keeps.

Law: nothing here touches a carrier, except where the server says so: a relay goes on carrying while its
server is away. A dial that fails is a line of the log; a link that was welcomed ends with one line.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
from collections.abc import Callable
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.derp.splice import CarrierEnding
from tether.net.link import control_log
from tether.net.link.dialer import Dial, Dialer, DialledLink
from tether.net.link.driver import LinkDriver
from tether.net.transport.streams import DialFailed
from tether.protocol.derp.outbox import RelayLedger
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.link.redial import DialAgain, NextStep, Outcome, Redial
from tether.protocol.messages.base import Message, Unrecognized, records_of
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import Hello, Unsupported, Welcome
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

_log = get_logger("control")


class RelayOwner(Protocol):
    """Whoever acts on what the server says. Its methods must not block."""

    def registered(self, keys: list[Ed25519PublicKey], *, draining: bool) -> None: ...

    def drain(self, *, draining: bool) -> None: ...

    def end(self, asked: RelayEnd) -> None: ...

    def joined(self) -> list[str]: ...


class RelayControl:
    """Keeps one link to the server for as long as `run` runs. Fulfils `CarrierLog` and `LinkOwner`."""

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
        """
        Args:
            dial: opens a stream to the server, or raises `DialFailed`.
            region: the region that this relay serves.
            url: where legs are dialled.
            instance_id: made anew by every run of this program.
            hostname: of this machine.
            clock: the present.
            ledger: what there is to report.
            jitter: draws from [0, 1).
        """
        self._region = region
        self._url = url
        self._instance_id = instance_id
        self._hostname = hostname
        self._clock = clock
        self._ledger = ledger
        self._dialer = Dialer(
            Party.RELAY,
            self,
            dial=dial,
            clock=clock,
            redial=Redial(),
            linger_s=LINGER_S,
            jitter=jitter,
        )

        self._driver: LinkDriver | None = None
        """Of the link that is up."""

        self._registered = False
        """Whether the server has taken our registration on that link."""

        self._draining = False
        """Whether this relay will restart, and wants no new legs."""

        self._on_file = asyncio.Event()
        """Set when the server has everything, or its link is over."""

        self._over = asyncio.Event()
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
        try:
            return await self._dialer.run()
        finally:
            self._over.set()

    def quit(self, said: ev.GoodbyeSaid) -> None:
        """Leave with this cause, and dial no more: `run` returns once the link is over."""
        self._dialer.quit(said)

    async def over(self) -> None:
        """Wait until `run` has returned."""
        await self._over.wait()

    # -- what becomes of the links (LinkOwner) ------------------------------------------------

    async def hello(self) -> Hello:
        """See `LinkOwner`."""
        return Hello(
            protocol=PROTOCOL,
            role=str(Party.RELAY),
            version=VERSION,
            instance_id=self._instance_id,
            hostname=self._hostname,
        )

    def dialling(self) -> None:
        """See `LinkOwner`."""
        control_log.dialling()

    def dial_failed(self, failed: DialFailed, step: NextStep) -> None:
        """See `LinkOwner`. A refusal for good is the outcome of `run`, and told by its caller."""
        if isinstance(step, DialAgain):
            control_log.dial_failed(failed, step.wait_s)

    def welcomed(self, link: DialledLink, welcome: Welcome) -> None:
        """See `LinkOwner`."""
        self._driver = link.driver
        self._ledger.link_up()
        link.driver.send(
            RelayRegister(
                region=self._region,
                url=self._url,
                joined=self._owner.joined(),
                draining=self._draining,
            )
        )
        _log.info("connected to server", server_version=welcome.version)

    def deliver(self, link: DialledLink, message: Message) -> None:
        """See `LinkOwner`."""
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
            case Unrecognized() | Unsupported():
                _log.debug("a message of another version", message_type=message.message_type)
            case _:
                link.driver.violated(f"a {type(message).__name__} message")

    def link_over(self, link: DialledLink, step: NextStep) -> None:
        """See `LinkOwner`."""
        self._driver = None
        self._registered = False
        self._on_file.set()
        retry_in_s = round(step.wait_s, 2) if isinstance(step, DialAgain) else None
        _log.warning("disconnected from server", **_end_of(link.driver.cell), retry_in_s=retry_in_s)

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


def _end_of(cell: CloseCell) -> dict[str, object]:
    for fact in cell.facts:
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
