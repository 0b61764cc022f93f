"""The relays of this installation: the embedded one, and the control links of standalone ones.

Law: a relay is a vantage and a carrier of bytes, no party to any decision: what it reports of a carrier
is evidence, and nothing else that it reports changes a record. A relay whose link is gone is taken off
the map and goes on carrying; its links have no rows, and their ends are log lines.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.log import get_logger
from tether.net.derp.relay import Relay
from tether.net.derp.splice import CarrierEnding
from tether.net.derp.tickets import MAX_CARRIER
from tether.net.link.driver import LinkDriver
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.base import Garbage, Message, facts_of
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
from tether.server.control.link import ControlLink, ControlLinkRunner, ControlLinks
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
        self.region = ""
        self.url = ""
        self.joined: Counter[str] = Counter()  # tunnel -> how many of its carriers it carries
        self.drained = False  # whether it takes no new carriers


class Relays(ControlLinks[RelayLink]):
    """Every relay of this installation: the embedded one, and the links of the others."""

    def __init__(
        self,
        *,
        runner: ControlLinkRunner,
        embedded: Relay | None,
        regions: Regions,
        ticket_keys: list[str],
        carrier_ended: Callable[[CarrierId, CarrierEnding], Awaitable[None]],
    ) -> None:
        """`embedded` is None where the server runs no relay of its own."""
        super().__init__(runner, _log)
        self._embedded = embedded
        self._regions = regions
        self._ticket_keys = ticket_keys
        self._carrier_ended = carrier_ended
        self._cursors: OrderedDict[str, int] = OrderedDict()  # run -> its last report's number

    def carries(self, connection_id: str) -> bool:
        """Whether a relay carries the tunnel, as far as is known here."""
        if self._embedded is not None and self._embedded.lives(connection_id):
            return True
        return any(link.joined[connection_id] > 0 for link in self._all)

    def end(self, connection_id: str, goodbye: RelayGoodbye) -> None:
        """Somebody decided that this tunnel shall end, or not come to be."""
        if self._embedded is not None:
            self._embedded.end(connection_id, goodbye)
        self._send_end(connection_id, goodbye)

    def decline(self, carrier: CarrierId, message: str, cause: str = "", actor: str = "") -> None:
        """The agent cannot take this carrier: tell its client, which waits at a relay."""
        if self._embedded is not None:
            self._embedded.decline(carrier, message, cause, actor)
        goodbye = RelayGoodbye(cause=cause, actor=actor, detail=message)
        self._send_end(carrier.connection_id, goodbye, carrier.number)

    def _send_end(self, connection_id: str, goodbye: RelayGoodbye, carrier: int = 0) -> None:
        """Have the standalone relays end a tunnel's carriers, or one of them."""
        order = RelayEnd(
            connection_id=connection_id,
            carrier=carrier,
            cause=goodbye.cause,
            actor=goodbye.actor,
            detail=goodbye.detail,
        )
        for link in self._all:
            link.driver.send(order)

    def map_changed(self) -> None:
        """Drain the relays whose region was taken off the map, and take back those that are on it."""
        for link in self._all:
            wanted = bool(link.region) and not self._regions.in_use(link.region)
            if link.region and wanted is not link.drained:
                link.drained = wanted
                link.driver.send(RelayDrain(draining=wanted))
                _log.info("relay drained" if wanted else "relay in use again", region=link.region)

    async def _open(
        self, opening: Opening, connection_id: str, driver: LinkDriver
    ) -> RelayLink | None:
        return RelayLink(opening, connection_id, driver)

    async def _welcome(self, link: RelayLink) -> None:
        link.driver.send(self._runner.welcome(link))

    async def _gone(self, link: RelayLink) -> None:
        self._regions.unregister(link)
        self._runner.end_of(link)
        _log_end(link)

    async def _handle(self, link: RelayLink, message: Message) -> bool:
        match message:
            case RelayRegister():
                self._register(link, message)
            case RelayReport():
                await self._take(link, message)
            case RelayDraining() if link.region:
                _log.info("relay will restart", region=link.region, url=link.url)
                self._regions.drain(link)
            case _:
                return False
        return True

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
                    at=self._runner.clock.now().wall,
                    peer=Party.RELAY,
                    how=StreamEnd.SILENT,
                )
            )
            self._regions.unregister(older)
        link.region = region
        link.url = url
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
    """One line for the end of a relay's link, with the last fact about it. It is a warning where nobody
    said goodbye: the tunnels of a relay that dies may all live on, and then no row tells of it."""
    end, carriers = {"cause": "", "how": "", "errno": ""}, sum(link.joined.values())
    for fact in link.driver.cell.facts:
        match fact:
            case ev.GoodbyeSaid(cause=cause, by=by):
                end = {"cause": cause, "how": f"goodbye of the {by}", "errno": ""}
            case ev.StreamEnded(how=how, errno=errno):
                end = {"cause": "", "how": str(how), "errno": errno}
            case ev.ProtocolViolated(what=what):
                end = {"cause": "", "how": what, "errno": ""}
            case _:
                pass
    about = {"region": link.region, "url": link.url, "name": link.opening.identity.user, **end}
    if any(isinstance(fact, ev.GoodbyeSaid) for fact in link.driver.cell.facts):
        _log.info("relay left", carriers=carriers, **about)
    else:
        _log.warning("relay lost", carriers=carriers, **about)
