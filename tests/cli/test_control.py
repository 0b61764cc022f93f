"""The client's control link, against a scripted server at the other end of a cable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.clock import EPOCH, LoopClock
from tests.support.loop import run
from tests.support.streams import Cable
from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.cli.control import GRANT_TIMEOUT_S, ControlLink
from tether.cli.failure import Failure
from tether.net.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.protocol.link import Link, facts_of
from tether.protocol.messages import (
    Goodbye,
    Hello,
    Message,
    Report,
    ReportAck,
    TunnelDenied,
    TunnelGrant,
    TunnelRequest,
    Welcome,
    decode,
    encode,
)

WELCOME = Welcome(protocol=(1, 0), connection_id="c", server_instance="s", version="0")
GRANT = TunnelGrant(
    request_id=1,
    connection_id="t",
    relay_url="ws://r",
    ticket="x",
    workspace_id="w",
    workspace="dev",
    host_key="ssh-ed25519 A",
)
Answers = Callable[[Message, LinkDriver], None]


class Server:
    """Answers every message by a script."""

    def __init__(self, cable: Cable, answer: Answers) -> None:
        clock = LoopClock()
        self.heard: list[Message] = []
        self._answer = answer
        self.driver = LinkDriver(
            stream=cable.right,
            link=Link(me=Party.SERVER, peer=Party.CLIENT, now=clock.now()),
            clock=clock,
            pack=encode,
            unpack=decode,
            deliver=self._deliver,
        )

    def _deliver(self, message: Message) -> None:
        self.heard.append(message)
        self._answer(message, self.driver)


def play(answer: Answers, scene: Callable[..., Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        cable, tasks = Cable(), Tasks("test")
        server = Server(cable, answer)
        running = tasks.spawn(server.driver.run(), "server")
        try:
            await scene(ControlLink(cable.left, LoopClock()), server, cable, running)
        finally:
            await tasks.cancel()

    run(main)


def grants(message: Message, driver: LinkDriver) -> None:
    match message:
        case Hello():
            driver.send(WELCOME)
        case TunnelRequest():
            driver.send(GRANT)
        case Report(journal_id=journal, first_seq=seq):
            driver.send(ReportAck(journal_id=journal, seq=seq))


def silent(*_: Any) -> None:
    pass


def test_hello_and_request_are_one_journey() -> None:
    async def scene(link: ControlLink, server: Server, *_: Any) -> None:
        assert await link.request_tunnel("dev", "ssh-ed25519 K") == GRANT
        hello, request = server.heard
        assert isinstance(hello, Hello)
        assert (hello.role, hello.protocol) == ("client", (1, 0))
        assert request == TunnelRequest(request_id=1, workspace="dev", public_key="ssh-ed25519 K")
        await link.leave()

    play(grants, scene)


def refusal(answer: Answers, break_it: Callable[[Cable], None] | None = None) -> str:
    told = ""

    async def scene(link: ControlLink, server: Server, cable: Cable, *_: Any) -> None:
        nonlocal told
        if break_it is not None:
            asyncio.get_running_loop().call_later(1, break_it, cable)
        with pytest.raises(Failure) as refused:
            await link.request_tunnel("dev", "k")
        told = str(refused.value)
        await link.leave()

    play(answer, scene)
    return told


def test_a_denial_is_told_in_the_servers_words() -> None:
    def denies(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, TunnelRequest):
            text = "workspace dev is stopped: start it with `tether workspace start dev`"
            driver.send(TunnelDenied(request_id=1, code="stopped", message=text))

    assert refusal(denies) == (
        "workspace dev is stopped: start it with `tether workspace start dev`"
    )


def test_a_goodbye_instead_of_a_welcome_is_told() -> None:
    def leaves(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, Hello):
            driver.leave("client.protocol_error", detail="this server speaks protocol 2")

    assert refusal(leaves) == "this server speaks protocol 2"


def test_a_shutdown_before_the_grant_is_told_by_its_cause() -> None:
    def leaves(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, TunnelRequest):
            driver.leave("server.shutdown", actor="signal:15")

    assert refusal(leaves) == "The control plane was asked to stop (signal 15) and said goodbye."


def test_a_lost_link_before_the_grant_is_told() -> None:
    assert refusal(silent, Cable.reset) == "The control plane went away without a goodbye."


def test_a_server_that_never_answers_is_given_up() -> None:
    async def scene(link: ControlLink, *_: Any) -> None:
        began = asyncio.get_running_loop().time()
        with pytest.raises(Failure, match="did not answer the request for a tunnel in time"):
            await link.request_tunnel("dev", "k")
        assert asyncio.get_running_loop().time() - began == GRANT_TIMEOUT_S
        await link.leave()

    play(silent, scene)


def test_another_major_version_is_refused_by_us() -> None:
    def newer(message: Message, driver: LinkDriver) -> None:
        if isinstance(message, Hello):
            driver.send(
                Welcome(protocol=(2, 0), connection_id="c", server_instance="s", version="9")
            )

    assert "not part of the protocol" in refusal(newer)


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


def test_a_report_holds_our_own_vantage_and_is_committed_before_we_leave() -> None:
    async def scene(link: ControlLink, server: Server, _: Cable, running: Any) -> None:
        await link.request_tunnel("dev", "k")
        tunnel = seen()
        assert await link.report("t", tunnel)
        await link.leave()
        report = server.heard[2]
        assert isinstance(report, Report)
        (ended,) = report.items
        hello = server.heard[0]
        assert isinstance(hello, Hello)
        assert (report.journal_id, report.first_seq) == (hello.instance_id, 1)
        assert (ended.connection_id, ended.rx_bytes, ended.tx_bytes) == ("t", 10, 20)  # type: ignore[union-attr]
        assert facts_of(ended.facts) == list(tunnel.cell.facts[1:])  # type: ignore[union-attr]
        assert facts_of(ended.symptoms) == list(tunnel.cell.symptoms)  # type: ignore[union-attr]
        cell = await running
        (said,) = cell.facts
        assert (said.by, said.cause) == (Party.CLIENT, "client.closed")

    play(grants, scene)


def test_a_report_that_nobody_acknowledges_holds_us_up_for_a_second_only() -> None:
    def forgets(message: Message, driver: LinkDriver) -> None:
        if not isinstance(message, Report):
            grants(message, driver)

    async def scene(link: ControlLink, *_: Any) -> None:
        await link.request_tunnel("dev", "k")
        began = asyncio.get_running_loop().time()
        assert not await link.report("t", seen())
        assert asyncio.get_running_loop().time() - began == 1.0
        await link.leave()

    play(forgets, scene)


def test_a_link_that_is_gone_holds_nobody_up() -> None:
    async def scene(link: ControlLink, server: Server, cable: Cable, *_: Any) -> None:
        await link.request_tunnel("dev", "k")
        cable.reset()
        await asyncio.sleep(60)  # a tunnel lives on without its control link
        began = asyncio.get_running_loop().time()
        assert not await link.report("t", seen())
        await link.leave()
        assert asyncio.get_running_loop().time() == began

    play(grants, scene)


def test_the_servers_goodbye_is_acknowledged_and_ends_the_link_only() -> None:
    async def scene(link: ControlLink, server: Server, _: Cable, running: Any) -> None:
        await link.request_tunnel("dev", "k")
        server.driver.leave("server.shutdown", actor="signal:15")
        cell = await running
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
        assert not [m for m in server.heard if isinstance(m, Goodbye)]
        await link.leave()

    play(grants, scene)
