"""The control links of standalone relays: who is on the map, what they saw, what they are told.

Law: a relay is a vantage and a carrier of bytes, no party to any decision: what it says of a carrier is
evidence, and nothing else that it says changes a record. A relay whose link is gone is taken off the
map and goes on carrying; its links are no rows, and their ends are log lines.
"""

from __future__ import annotations

import uuid
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.log import get_logger
from tether.net.derp.splice import CarrierEnding
from tether.net.derp.tickets import MAX_CARRIER
from tether.net.link.driver import LinkDriver
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.base import Garbage, Message, Unrecognized, facts_of
from tether.protocol.messages.control import Goodbye, Unsupported
from tether.protocol.messages.derp import (
    CarrierReport,
    RelayDrain,
    RelayDraining,
    RelayEnd,
    RelayGoodbye,
    RelayRegister,
    RelayRegistered,
    RelayReport,
    RelayReportAck,
)
from tether.server.connlog.activity import bounded
from tether.server.control.handshake import Opening
from tether.server.control.link import ControlLink, ControlLinkRunner, UnknownMessages, misplaced
from tether.server.derp.map import BadDerpMap, Regions, check_region, check_url

MAX_REPORTED = 10_000
"""Carriers that one message may name."""

MAX_CURSORS = 1024
"""Runs of relays whose last report is remembered."""

_log = get_logger("relays")


class RelayLink(ControlLink):
    """One standalone relay. `region` is "" until it has registered."""

    def __init__(self, opening: Opening, connection_id: str, driver: LinkDriver) -> None:
        super().__init__(opening, connection_id, driver)
        self.region, self.url = "", ""
        self.joined: Counter[str] = Counter()
        self.drained = False


class RelayLinks:
    """See the module's law."""

    def __init__(
        self,
        *,
        lines: ControlLinkRunner,
        regions: Regions,
        ticket_keys: list[str],
        carrier_ended: Callable[[CarrierId, CarrierEnding], Awaitable[None]],
    ) -> None:
        self._lines, self._regions, self._ticket_keys = lines, regions, ticket_keys
        self._carrier_ended = carrier_ended
        self._all: set[RelayLink] = set()
        self._cursors: OrderedDict[str, int] = OrderedDict()

    def all(self) -> list[RelayLink]:
        """Every link, those that are ending included."""
        return list(self._all)

    def lives(self, connection_id: str) -> bool:
        """Whether a relay carries the tunnel, as far as it has said."""
        return any(link.joined[connection_id] > 0 for link in self._all)

    def end(self, connection_id: str, goodbye: RelayGoodbye, carrier: int = 0) -> None:
        """Tell the relays to end a tunnel's carriers, or one of them."""
        word = RelayEnd(
            connection_id=connection_id,
            carrier=carrier,
            cause=goodbye.cause,
            actor=goodbye.actor,
            detail=goodbye.detail,
        )
        for link in self._all:
            link.driver.send(word)

    def map_changed(self) -> None:
        """Drain the relays whose region was taken off the map, and take back those that are on it."""
        for link in self._all:
            wanted = bool(link.region) and not self._regions.in_use(link.region)
            if link.region and wanted is not link.drained:
                link.drained = wanted
                link.driver.send(RelayDrain(draining=wanted))
                _log.info("relay drained" if wanted else "relay in use again", region=link.region)

    async def serve(self, opening: Opening) -> None:
        """Serve a relay from its hello to the end of its link."""
        connection_id = uuid.uuid4().hex
        words = UnknownMessages(_log, connection_id)

        async def deliver(message: Message) -> None:
            await self._deliver(link, words, message)

        link = RelayLink(opening, connection_id, self._lines.driver(opening, deliver))
        self._all.add(link)
        try:
            await self._lines.run(link, lambda: self._welcome(link))
        finally:
            self._all.discard(link)
            self._regions.unregister(link)
            _log_end(link)

    async def _welcome(self, link: RelayLink) -> None:
        link.driver.send(self._lines.welcome(link))

    async def _deliver(self, link: RelayLink, words: UnknownMessages, message: Message) -> None:
        match message:
            case RelayRegister():
                self._register(link, message)
            case RelayReport():
                await self._take(link, message)
            case RelayDraining() if link.region:
                _log.info("relay will restart", region=link.region, url=link.url)
                self._regions.drain(link)
            case Unrecognized() | Unsupported():
                words.heard(message)
            case Goodbye():
                pass  # the link has offered it
            case _:
                raise misplaced(message, Party.RELAY)

    def _register(self, link: RelayLink, message: RelayRegister) -> None:
        if link.region or len(message.joined) > MAX_REPORTED:
            raise Garbage("a relay that registers twice, or with too many carriers")
        try:
            region, url = check_region(message.region), check_url(message.url)
        except BadDerpMap as wrong:
            raise Garbage(str(wrong)) from wrong
        for older in [one for one in self._all if one.url == url and one is not link]:
            older.cut(
                ev.StreamEnded(
                    vantage=Vantage.SERVER,
                    at=self._lines.clock.now().wall,
                    peer=Party.RELAY,
                    how=StreamEnd.SILENT,
                )
            )
            self._regions.unregister(older)
        link.region, link.url = region, url
        link.joined = Counter(message.joined)
        link.drained = not self._regions.in_use(region)
        link.driver.send(RelayRegistered(ticket_keys=self._ticket_keys, draining=link.drained))
        _log.info(
            "relay registered",
            region=region,
            url=url,
            name=link.opening.identity.user,
            client_ip=link.opening.client_ip,
            version=link.opening.hello.version,
            instance_id=link.instance_id,
            carriers=len(message.joined),
        )
        self._regions.register(link, region, url, draining=message.draining)

    async def _take(self, link: RelayLink, report: RelayReport) -> None:
        if len(report.joined) + len(report.ended) > MAX_REPORTED:
            raise Garbage("a relay's report of too many carriers")
        link.joined.update(report.joined)
        if not report.ended:
            return
        known = self._cursors.get(link.instance_id, 0)
        for seq, ended in enumerate(report.ended, start=report.first_seq):
            if link.joined[ended.connection_id] <= 1:
                del link.joined[ended.connection_id]
            else:
                link.joined[ended.connection_id] -= 1
            if seq > known and 0 < ended.carrier < MAX_CARRIER:
                carrier = CarrierId(ended.connection_id, ended.carrier)
                await self._carrier_ended(carrier, _ending(ended))
        last = max(known, report.first_seq + len(report.ended) - 1)
        self._cursors[link.instance_id] = last
        self._cursors.move_to_end(link.instance_id)
        while len(self._cursors) > MAX_CURSORS:
            self._cursors.popitem(last=False)
        link.driver.send(RelayReportAck(seq=last))


def _ending(ended: CarrierReport) -> CarrierEnding:
    return CarrierEnding(
        facts=tuple(facts_of(ended.facts)),
        symptoms=tuple(facts_of(ended.symptoms)),
        rx_bytes=bounded(ended.rx_bytes),
        tx_bytes=bounded(ended.tx_bytes),
    )


def _log_end(link: RelayLink) -> None:
    """One line for the end of a relay's link: what was seen of it first."""
    said = {"cause": "", "how": "", "errno": ""}
    for fact in link.driver.cell.facts:
        match fact:
            case ev.GoodbyeSaid(cause=cause, by=by):
                said = {"cause": cause, "how": f"goodbye of the {by}", "errno": ""}
            case ev.StreamEnded(how=how, errno=errno):
                said = {"cause": "", "how": str(how), "errno": errno}
            case ev.ProtocolViolated(what=what):
                said = {"cause": "", "how": what, "errno": ""}
            case _:
                pass
    _log.info("relay left", region=link.region, url=link.url, **said)
