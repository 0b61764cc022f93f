"""The client's control links, against scripted servers at the other ends of cables."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.clock import EPOCH
from tests.support.net.cable import Cable
from tests.support.server.control_plane import GRANT, WELCOME, Answers, FakeControlPlane, grants
from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import DialStage, Party, StreamEnd, Vantage
from tether.client.control.events import Back, TurnedAway, Unasked
from tether.client.control.link import DOUBT_S, GRANT_TIMEOUT_S, LINGER_S, LINK_WAIT_S
from tether.client.errors import Failure
from tether.net.link.driver import LinkDriver
from tether.net.transport.streams import DialFailed
from tether.protocol.messages.base import Message, facts_of
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import Goodbye, Hello, Welcome
from tether.protocol.messages.reports import Ended, Report
from tether.protocol.messages.tunnel import (
    CarrierDenied,
    CarrierGrant,
    CarrierRequest,
    TunnelDenied,
    TunnelRequest,
)
from tether.version import VERSION

pytestmark = pytest.mark.virtual_time


@contextlib.asynccontextmanager
async def connected(answer: Answers = grants) -> AsyncIterator[FakeControlPlane]:
    """A client's control link to a server that answers so."""
    plane = FakeControlPlane(answer)
    try:
        await plane.control.connect()
        yield plane
    finally:
        await plane.control.leave()
        await plane.tasks.cancel()


def silent(*_: Any) -> None:
    pass


def welcomes(message: Message, driver: LinkDriver) -> None:
    """... and says nothing more."""
    if isinstance(message, Hello):
        grants(message, driver)


async def test_hello_and_request_are_one_journey() -> None:
    async with connected() as plane:
        assert await plane.control.request_tunnel("dev", "ssh-ed25519 K") == GRANT
        hello, request = plane.heard
        assert isinstance(hello, Hello)
        assert (hello.role, hello.protocol) == ("client", PROTOCOL)
        assert request == TunnelRequest(request_id=1, workspace="dev", public_key="ssh-ed25519 K")


async def refusal(answer: Answers, break_it: Callable[[Cable], None] | None = None) -> str:
    async with connected(answer) as plane:
        if break_it is not None:
            asyncio.get_running_loop().call_later(1, break_it, plane.cables[0])
        with pytest.raises(Failure) as refused:
            await plane.control.request_tunnel("dev", "k")
        told = str(refused.value)
        assert len(plane.dialled) == 1, "a first link that fails is not dialled again"
    return told


async def test_a_denial_is_told_in_the_servers_words() -> None:
    def denies(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, TunnelRequest):
            text = "workspace dev is stopped: start it with `tether workspace start dev`"
            driver.send(TunnelDenied(request_id=1, code="stopped", message=text))
        else:
            grants(message, driver)

    assert await refusal(denies) == (
        "workspace dev is stopped: start it with `tether workspace start dev`"
    )


async def test_a_goodbye_instead_of_a_welcome_is_told() -> None:
    def leaves(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, Hello):
            driver.leave("client.protocol_error", detail="this server speaks protocol 2")

    assert await refusal(leaves) == "this server speaks protocol 2"


async def test_a_shutdown_before_the_grant_is_told_by_its_cause() -> None:
    def leaves(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, TunnelRequest):
            driver.leave("server.shutdown", actor="signal:15")
        else:
            grants(message, driver)

    assert (
        await refusal(leaves) == "The control plane was asked to stop (signal 15) and said goodbye."
    )


async def test_a_lost_link_before_the_grant_is_told() -> None:
    assert await refusal(welcomes, Cable.reset) == (
        "A firewall, proxy or load balancer in between cut the connection; neither end did."
    )


async def test_a_server_that_hangs_up_before_its_welcome_is_told() -> None:
    assert await refusal(silent, Cable.reset) == (
        "the server hung up before it welcomed this client: reset (ECONNRESET)"
    )


@pytest.mark.parametrize("answer", [silent, welcomes])
async def test_a_server_that_never_answers_is_given_up(answer: Answers) -> None:
    async with connected(answer) as plane:
        began = asyncio.get_running_loop().time()
        with pytest.raises(Failure, match="did not answer the request for a tunnel in time"):
            await plane.control.request_tunnel("dev", "k")
        assert asyncio.get_running_loop().time() - began == GRANT_TIMEOUT_S


async def test_another_major_version_is_refused_by_us() -> None:
    def newer(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, Hello):
            driver.send(
                Welcome(protocol=(9, 0), connection_id="c", server_instance="s", version="9")
            )

    assert await refusal(newer) == (
        f"the server (version 9) speaks protocol 9 and this client (version {VERSION}) 2: upgrade"
        " the older of the two"
    )


@dataclass
class Tunnel:
    cell: CloseCell
    rx_bytes: int = 10
    tx_bytes: int = 20


def seen() -> Tunnel:
    cell = CloseCell()
    cell.note(ev.Authenticated(vantage=Vantage.AGENT, at=1.0, user="a", method="publickey"))
    cell.offer(ev.StreamEnded(vantage=Vantage.RELAY, at=2.0, peer=Party.AGENT, how=StreamEnd.EOF))
    cell.offer(ev.LocalSideClosed(vantage=Vantage.CLIENT, at=3.0))
    return Tunnel(cell)


async def test_a_report_holds_our_own_vantage_and_is_committed_before_we_leave() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        tunnel = seen()
        assert await plane.report("t", tunnel)
        await plane.control.leave()
        hello, _, report = plane.heard[:3]
        assert isinstance(report, Report)
        assert isinstance(hello, Hello)
        (ended,) = report.items
        assert isinstance(ended, Ended)
        assert (report.journal_id, report.first_seq) == (hello.instance_id, 1)
        assert (ended.connection_id, ended.rx_bytes, ended.tx_bytes) == ("t", 10, 20)
        assert facts_of(ended.facts) == list(tunnel.cell.facts[1:])
        assert facts_of(ended.symptoms) == list(tunnel.cell.symptoms)
        (said,) = (await plane.running[0]).facts
        assert isinstance(said, ev.GoodbyeSaid)
        assert (said.by, said.cause) == (Party.CLIENT, "client.closed")


async def test_a_report_that_nobody_acknowledges_holds_us_up_for_a_second_only() -> None:
    def forgets(message: Message, driver: LinkDriver) -> None:
        if not isinstance(message, Report):
            grants(message, driver)

    async with connected(forgets) as plane:
        await plane.control.request_tunnel("dev", "k")
        began = asyncio.get_running_loop().time()
        assert not await plane.report("t", seen())
        assert asyncio.get_running_loop().time() - began == 1.0


async def test_the_last_report_waits_for_the_next_link() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.cables[0].reset()
        await asyncio.sleep(0)
        assert await plane.report("t", seen())
        hello, of_the_link, of_the_tunnel = plane.servers[1].heard
        assert isinstance(hello, Hello)
        assert isinstance(of_the_link, Report) and isinstance(of_the_tunnel, Report)
        assert [r.items[0].connection_id for r in (of_the_link, of_the_tunnel)] == ["c", "t"]


async def test_a_report_whose_link_ends_is_sent_again_on_the_next_one() -> None:
    def resets_once(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, Report) and len(town_of[0].cables) == 1:
            town_of[0].cables[0].reset()
        else:
            grants(message, driver)

    town_of: list[FakeControlPlane] = []
    async with connected(resets_once) as plane:
        town_of.append(plane)
        await plane.control.request_tunnel("dev", "k")
        assert await plane.report("t", seen())
        assert len(plane.cables) == 2


async def test_a_server_that_stays_away_holds_the_last_report_up_for_a_bounded_time() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.refuses = DialFailed("nothing listens")
        plane.cables[0].reset()
        await asyncio.sleep(60)  # a tunnel lives on without its control link
        began = asyncio.get_running_loop().time()
        assert not await plane.report("t", seen())
        assert asyncio.get_running_loop().time() - began == pytest.approx(LINK_WAIT_S)


async def test_a_report_that_nobody_waits_for_is_told_once_the_server_is_back() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.refuses = DialFailed("nothing listens")
        plane.cables[0].reset()
        asyncio.get_running_loop().call_later(60, setattr, plane, "refuses", None)
        item = Ended(connection_id="t", at=EPOCH, facts=[])
        assert await plane.control.hand_in("mine", [item], wait_s=LINGER_S)
        told = [m for m in plane.servers[1].heard if isinstance(m, Report)]
        assert [(r.journal_id, r.items[0].connection_id) for r in told] == [
            ("c", "c"),
            ("mine", "t"),
        ]


@pytest.mark.parametrize("answers", [True, False], ids=["away", "deaf"])
async def test_a_report_lingers_for_its_time_and_no_longer(answers: bool) -> None:
    def deaf(message: Message, driver: LinkDriver) -> None:
        if not isinstance(message, Report):
            grants(message, driver)

    async with connected(grants if answers else deaf) as plane:
        await plane.control.request_tunnel("dev", "k")
        if answers:
            plane.refuses = DialFailed("nothing listens")
            plane.cables[0].reset()
        began = asyncio.get_running_loop().time()
        item = Ended(connection_id="t", at=EPOCH, facts=[])
        assert not await plane.control.hand_in("mine", [item], wait_s=LINGER_S)
        lasted = asyncio.get_running_loop().time() - began
        assert LINGER_S <= lasted <= LINGER_S + 1.0


async def test_a_lost_link_is_dialled_again_by_a_backoff_and_the_owner_is_told_when_it_is_back() -> (
    None
):
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        await asyncio.sleep(20)  # a useful link
        plane.refuses = DialFailed("nothing listens")
        lost_at = asyncio.get_running_loop().time()
        plane.cables[0].reset()
        await asyncio.sleep(3)
        plane.refuses = None
        await asyncio.sleep(10)
        waits = [round(at - lost_at, 3) for at in plane.dialled[1:]]
        assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
        assert plane.words == [Back()]
        hello, _ = plane.servers[1].heard
        first = plane.servers[0].heard[0]
        assert isinstance(hello, Hello) and isinstance(first, Hello)
        assert hello.instance_id == first.instance_id


async def test_a_server_that_takes_the_link_and_drops_it_at_once_is_not_stormed() -> None:
    def drops(message: Message, driver: LinkDriver) -> None:
        grants(message, driver)
        if isinstance(message, Hello) and len(town_of[0].servers) > 1:
            driver.leave("server.shutdown")

    town_of: list[FakeControlPlane] = []
    async with connected(drops) as plane:
        town_of.append(plane)
        await plane.control.request_tunnel("dev", "k")
        plane.cables[0].reset()
        await asyncio.sleep(600)
        assert len(plane.dialled) < 100


async def test_the_servers_hint_when_to_come_back_is_followed() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.servers[0].driver.leave("server.shutdown", retry_after_s=7.0)
        await asyncio.sleep(6)
        assert len(plane.dialled) == 1
        await asyncio.sleep(3)
        assert len(plane.dialled) == 2


async def test_a_revoked_token_is_told_and_nothing_is_dialled_any_more() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.refuses = DialFailed("this token was revoked", status=401, cause="token_revoked")
        plane.cables[0].reset()
        await asyncio.sleep(600)
        assert len(plane.dialled) == 2
        assert plane.words == [TurnedAway("this token was revoked")]
        began = asyncio.get_running_loop().time()
        assert not await plane.report("t", seen())
        assert asyncio.get_running_loop().time() == began


async def test_a_goodbye_for_ever_is_told() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.servers[0].driver.leave(
            "access.user_revoked", detail="alice may not use this server", retry_after_s=-1
        )
        await asyncio.sleep(600)
        assert len(plane.dialled) == 1
        assert plane.words == [TurnedAway("alice may not use this server")]


async def test_a_proxys_401_is_only_a_failed_dial() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.refuses = DialFailed("HTTP status 401", status=401)
        plane.cables[0].reset()
        await asyncio.sleep(60)
        assert len(plane.dialled) > 5
        assert plane.words == []


async def test_a_carrier_is_asked_for_and_the_answer_handed_on() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.control.ask("t", 7, region="fra", avoid=("ws://a",), small_segments=True)
        await asyncio.sleep(1)
        assert plane.heard[-1] == CarrierRequest(
            request_id=2,
            connection_id="t",
            carrier=7,
            region="fra",
            avoid=["ws://a"],
            small_segments=True,
        )
        assert plane.words == [CarrierGrant(request_id=2, connection_id="t", carrier=7)]


async def test_a_question_without_a_link_is_answered_at_once() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.refuses = DialFailed("nothing listens")
        plane.cables[0].reset()
        await asyncio.sleep(1)
        plane.control.ask("t", 7)
        assert plane.words == []  # not before the asker has gone on
        await asyncio.sleep(0)
        assert plane.words == [Unasked(7)]


async def test_a_question_whose_link_ends_is_answered() -> None:
    def mute(message: Message, driver: LinkDriver) -> None:
        if not isinstance(message, CarrierRequest):
            grants(message, driver)

    async with connected(mute) as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.control.ask("t", 7)
        await asyncio.sleep(1)
        plane.cables[0].reset()
        await asyncio.sleep(1)
        assert plane.words == [Unasked(7), Back()]


async def test_an_answer_that_nobody_asked_for_is_nothing() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.servers[0].driver.send(CarrierDenied(request_id=9, code="tunnel_over", message="no"))
        await asyncio.sleep(1)
        assert plane.words == []


async def test_a_link_that_is_doubted_and_does_not_answer_is_replaced() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.cables[0].go_silent()
        plane.control.doubt()
        plane.control.doubt()
        await asyncio.sleep(DOUBT_S + 1)
        assert len(plane.dialled) == 2
        assert plane.words == [Back()]


async def test_a_link_that_is_doubted_and_answers_is_kept() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.control.doubt()
        await asyncio.sleep(10)
        assert len(plane.dialled) == 1


async def test_a_round_trip_is_measured_now() -> None:
    async with connected() as plane:
        assert await plane.control.greeted() == WELCOME
        await asyncio.sleep(5)
        assert await plane.control.round_trip() == pytest.approx(0.02)


async def test_a_link_that_ends_meanwhile_has_no_round_trip() -> None:
    async with connected() as plane:
        await plane.control.greeted()
        asyncio.get_running_loop().call_later(0.001, plane.cables[0].reset)
        with pytest.raises(Failure, match="cut the connection"):
            await plane.control.round_trip()
        with pytest.raises(Failure, match="no connection to the server"):
            await plane.control.round_trip()


async def test_a_server_that_hangs_up_instead_of_a_welcome_is_told() -> None:
    async with connected(silent) as plane:
        asyncio.get_running_loop().call_later(0.1, plane.cables[0].reset)
        with pytest.raises(Failure, match="hung up before it welcomed this client: reset"):
            await plane.control.greeted()


async def test_a_server_that_says_nothing_instead_of_a_welcome_is_given_up() -> None:
    async with connected(silent) as plane:
        with pytest.raises(Failure, match="took the connection and then said nothing"):
            await plane.control.greeted()


async def test_questions_that_stay_unanswered_raise_the_doubt() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.cables[0].go_silent()
        plane.control.ask("t", 2)
        await asyncio.sleep(10)
        plane.control.ask("t", 3)
        await asyncio.sleep(DOUBT_S + 1)
        assert plane.words == [Unasked(2), Unasked(3), Back()]


async def test_the_servers_goodbye_is_acknowledged_and_ends_the_link_only() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.servers[0].driver.leave("server.shutdown", actor="signal:15")
        cell = await plane.running[0]
        assert cell.facts == (
            ev.GoodbyeSaid(
                vantage=Vantage.SERVER,
                at=cell.facts[0].at,
                by=Party.SERVER,
                cause="server.shutdown",
                actor="signal:15",
            ),
        )
        assert cell.facts[0].at >= EPOCH
        assert not [m for m in plane.heard if isinstance(m, Goodbye)]


async def test_a_lost_link_is_told_on_the_next_one_with_what_the_dials_in_between_met() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.refuses = DialFailed("the name s could not be resolved", stage=DialStage.DNS)
        plane.cables[0].reset()
        await asyncio.sleep(2)
        plane.refuses = None
        await asyncio.sleep(5)
        (report,) = [m for m in plane.servers[1].heard if isinstance(m, Report)]
        (item,) = report.items
        assert isinstance(item, Ended)
        assert (report.journal_id, item.connection_id) == ("c", "c")
        end, redial = facts_of(item.facts)
        assert isinstance(end, ev.StreamEnded)
        assert (end.vantage, end.peer, end.how) == (
            Vantage.CLIENT,
            Party.SERVER,
            StreamEnd.RESET,
        )
        assert isinstance(redial, ev.RedialFailed)
        assert (redial.party, redial.peer, redial.stage) == (
            Party.CLIENT,
            Party.SERVER,
            DialStage.DNS,
        )


async def test_an_answer_from_before_the_last_doubt_says_nothing_of_it() -> None:
    async with connected() as plane:
        await plane.control.request_tunnel("dev", "k")
        plane.control.doubt()
        await asyncio.sleep(0.5)  # answered
        plane.cables[0].go_silent()
        plane.control.doubt()
        await asyncio.sleep(DOUBT_S + 1)
        assert len(plane.dialled) == 2
