"""The control link as the agent lives it: dials, welcomes, ends, reports; in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.typing import EventDict

from tests.support.agent.played_server import (
    DISCONNECT_FIELDS,
    PlayedServer,
    ServerLink,
    captured,
    events,
)
from tests.support.clock import LoopClock
from tether.agent.control.link import AgentControl, ServerCommand
from tether.agent.control.reports import MAX_ITEMS, cut
from tether.agent.journal.journal import Journal
from tether.agent.journal.previous_run import RunMarker
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, DialStage, Party, StreamEnd, Vantage
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed
from tether.protocol.link.redial import Dismissed, Outcome, Stopped, TokenRejected
from tether.protocol.messages.base import Message, facts_of
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import (
    EndConnections,
    Goodbye,
    GoodbyeAck,
    Hello,
    Pong,
    Welcome,
    WorkspaceStart,
    WorkspaceStop,
)
from tether.protocol.messages.reports import Ended, Opened, Report, ReportItem
from tether.protocol.messages.tunnel import TunnelGrant, TunnelOffer
from tether.version import VERSION

pytestmark = pytest.mark.virtual_time

HELLO = Hello(protocol=PROTOCOL, role="agent", version="1", instance_id="run-1")
RUN = RunMarker(instance_id="run-1", boot_id="b", pid=1, started_at=0.0)
LEAVING = ev.GoodbyeSaid(
    vantage=Vantage.AGENT, at=1.0, by=Party.AGENT, cause="agent.shutdown", actor="signal:15"
)


class Owner:
    """Notes what the link tells its owner."""

    def __init__(self) -> None:
        self.welcomes: list[Welcome] = []
        self.commands: list[ServerCommand] = []
        self.changed = asyncio.Event()

    async def hello(self) -> Hello:
        return HELLO

    def welcomed(self, welcome: Welcome) -> None:
        self.welcomes.append(welcome)
        self.changed.set()

    def commanded(self, command: ServerCommand) -> None:
        self.commands.append(command)


class Life:
    """One agent's control link, its server, its journal, and what was logged."""

    def __init__(self, server: PlayedServer, journal: Journal, lines: list[EventDict]) -> None:
        self.server, self.journal, self.lines = server, journal, lines
        self.owner = Owner()
        self.others = (0, 0)
        self.control = AgentControl(
            dial=server.dial,
            journal=journal,
            clock=LoopClock(),
            jitter=lambda: 0.0,
            ask_others=self.ask_others,
        )
        self.tasks = Tasks("test")
        self.running: asyncio.Task[Outcome] = self.tasks.spawn(
            self.control.run(self.owner), "control"
        )

    async def link(self, number: int = 1) -> ServerLink:
        """The n-th link, once both ends know of it."""
        link = await self.server.link(number)
        while len(self.owner.welcomes) < number:
            self.owner.changed.clear()
            await self.owner.changed.wait()
        return link

    def ask_others(self) -> Callable[[], tuple[int, int]]:
        return lambda: self.others

    async def redialled(self, times: int) -> list[float]:
        """The delays between the first `times` dials, in virtual seconds."""
        dials = await self.server.dials(times + 1)
        return [round(later - earlier, 1) for earlier, later in itertools.pairwise(dials)]

    async def journalled(self) -> list[ReportItem]:
        return [item for _, item in await self.journal.pending(0, 1000) or []]


@contextlib.asynccontextmanager
async def life(tmp_path: Path, **server: Any) -> AsyncIterator[Life]:
    clock = LoopClock()
    played = PlayedServer(clock)
    for name, value in server.items():
        setattr(played, name, value)
    journal, _ = await Journal.open(
        tmp_path / "journal.db", RUN, clock=clock, owed=lambda previous: ()
    )
    with captured() as lines:
        living = Life(played, journal, lines)
        try:
            yield living
        finally:
            await living.tasks.cancel()
            await played.close()
            await journal.close()


# -- dialling ------------------------------------------------------------------------------


async def test_a_failed_dial_is_not_a_disconnect(tmp_path: Path) -> None:
    refused = DialFailed("nothing listens at there: is the server running?")
    async with life(tmp_path, answers=[refused] * 9) as agent:
        delays = await agent.redialled(9)
        await agent.link()
        assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0]
        failed = events(agent.lines, "failed to dial server")
        assert [line["retry_in_s"] for line in failed] == delays
        assert {(line["log_level"], line["error"]) for line in failed} == {
            ("warning", str(refused))
        }
        assert not any(DISCONNECT_FIELDS & line.keys() for line in agent.lines)
        assert await agent.journalled() == []


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (None, "the server hung up before it welcomed this agent: closed"),
        (Pong(n=1), "the server took the connection and then said nothing"),
        (b"\xc1", "the server does not speak Tether's protocol: not a message"),
        (
            Welcome(protocol=(9, 0), connection_id="x", server_instance="s", version="9"),
            f"the server (version 9) speaks protocol 9 and this agent (version {VERSION}) 2: upgrade"
            " the older of the two",
        ),
        (
            Goodbye(cause="agent.superseded", retry_after_s=0.1),
            "the server turned this agent away: A second agent connected with the same token",
        ),
    ],
    ids=["hangs up", "says nothing", "garbage", "another major", "a goodbye"],
)
async def test_without_a_welcome_there_was_no_link(
    tmp_path: Path, answer: Message | bytes | None, sentence: str
) -> None:
    async with life(tmp_path, answers=[answer]) as agent:
        await agent.link()
        (failed,) = events(agent.lines, "failed to dial server")
        assert failed["error"].startswith(sentence)
        assert not any(DISCONNECT_FIELDS & line.keys() for line in agent.lines)
        assert await agent.journalled() == []


@pytest.mark.parametrize("code", ["token_unknown", "token_revoked", "workspace_deleted"])
async def test_a_refused_token_ends_the_dialling(tmp_path: Path, code: str) -> None:
    refusal = DialFailed("this token was revoked", status=401, cause=code, fatal=True)
    async with life(tmp_path, answers=[refusal]) as agent:
        assert await agent.running == TokenRejected("this token was revoked")
        told = [line["event"] for line in agent.lines]
        assert told == ["connecting to server", "agent main loop exited"]


@pytest.mark.parametrize(("status", "code"), [(401, ""), (403, "token_revoked"), (404, "")])
async def test_a_proxys_refusal_does_not(tmp_path: Path, status: int, code: str) -> None:
    refusal = DialFailed("refused with a status", status=status, cause=code, fatal=True)
    async with life(tmp_path, answers=[refusal]) as agent:
        await agent.link()
        assert len(events(agent.lines, "failed to dial server")) == 1


async def test_links_that_are_dropped_at_once_are_backed_off(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        for number in range(1, 6):
            link = await agent.link(number)
            assert link.driver is not None
            link.driver.leave("server.shutdown")
        delays = await agent.redialled(5)
        assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6], abs=0.15)


async def test_a_useful_link_resets_the_backoff(tmp_path: Path) -> None:
    failures: list[Any] = [DialFailed("no")] * 6
    async with life(tmp_path, answers=failures) as agent:
        link = await agent.link()
        await asyncio.sleep(11)
        assert link.driver is not None
        link.driver.leave("server.shutdown")
        ended = asyncio.get_running_loop().time()
        again = await agent.link(2)
        assert again.began - ended < 0.3


async def test_the_servers_hint_is_honoured(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        link = await agent.link()
        assert link.driver is not None
        link.driver.leave("agent.superseded", retry_after_s=60.0)
        ended = asyncio.get_running_loop().time()
        again = await agent.link(2)
        assert 60.0 <= again.began - ended < 61.0


async def test_a_goodbye_for_ever_ends_the_dialling(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        link = await agent.link()
        assert link.driver is not None
        link.driver.leave("workspace.deleted", actor="user:alice", retry_after_s=-1.0)
        assert await agent.running == Dismissed(
            Goodbye(cause="workspace.deleted", actor="user:alice", retry_after_s=-1.0)
        )


async def test_a_goodbye_for_ever_instead_of_a_welcome_does_too(tmp_path: Path) -> None:
    goodbye = Goodbye(cause="agent.protocol_error", retry_after_s=-1.0)
    async with life(tmp_path, answers=[goodbye]) as agent:
        assert await agent.running == Dismissed(goodbye)


# -- ends of a link ------------------------------------------------------------------------


def server_says_goodbye(link: ServerLink) -> None:
    assert link.driver is not None
    link.driver.leave("server.shutdown", actor="signal:15 from pid 1 uid 0")


def server_is_killed(link: ServerLink) -> None:
    assert link.cable is not None
    link.cable.die(link.cable.right)


def connection_is_reset(link: ServerLink) -> None:
    assert link.cable is not None
    link.cable.reset()


def network_falls_silent(link: ServerLink) -> None:
    assert link.cable is not None
    link.cable.go_silent()


def server_raves(link: ServerLink) -> None:
    assert link.driver is not None
    link.driver.send_data(b"\xc1")


def server_mistakes_us_for_a_client(link: ServerLink) -> None:
    link.say(
        TunnelGrant(
            request_id=1,
            connection_id="c",
            relay_url="",
            ticket="",
            workspace_id="",
            workspace="",
            host_key="",
        )
    )


@pytest.mark.parametrize(
    ("fault", "cause", "level"),
    [
        (server_says_goodbye, "server.shutdown", "info"),
        (server_is_killed, "server.vanished", "warning"),
        (connection_is_reset, "network.middlebox_reset", "warning"),
        (network_falls_silent, "server.unreachable", "warning"),
        (server_raves, "server.protocol_error", "warning"),
        (server_mistakes_us_for_a_client, "server.protocol_error", "warning"),
    ],
)
async def test_every_end_is_logged_once_and_journalled_once(
    tmp_path: Path, fault: Callable[[ServerLink], None], cause: str, level: str
) -> None:
    async with life(tmp_path) as agent:
        fault(await agent.link())
        await agent.link(2)
        (line,) = events(agent.lines, "disconnected from server")
        assert (line["disconnect_cause"], line["log_level"]) == (cause, level)
        assert (line["connection_id"], line["connect_type"]) == ("link-1", "server_to_agent")
        assert line.keys() >= DISCONNECT_FIELDS
        (ended,) = await agent.journalled()
        assert isinstance(ended, Ended)
        assert ended.connection_id == "link-1"
        judged = classify(ConnectType.SERVER_TO_AGENT, facts_of(ended.facts))
        assert judged.disconnect.cause == cause
        assert events(agent.lines, "failed to dial server") == []


async def test_our_own_goodbye_is_the_cause_and_its_acknowledgement_no_symptom(
    tmp_path: Path,
) -> None:
    async with life(tmp_path) as agent:
        link = await agent.link()
        agent.control.quit(LEAVING)
        assert await agent.running == Stopped()
        assert await link.hear(Goodbye) == [Goodbye(cause="agent.shutdown", actor="signal:15")]
        (line,) = events(agent.lines, "disconnected from server")
        assert line["disconnect_cause"] == "agent.shutdown"
        assert line["disconnect_actor"] == "signal:15"
        (ended,) = await agent.journalled()
        assert isinstance(ended, Ended)
        assert (facts_of(ended.facts), ended.symptoms) == ([LEAVING], [])


async def test_leaving_alone_dials_again(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        await agent.link()
        agent.control.leave(LEAVING)
        await agent.link(2)
        assert len(events(agent.lines, "disconnected from server")) == 1


async def test_quitting_while_nothing_answers_is_at_once_and_silent(tmp_path: Path) -> None:
    async with life(tmp_path, answers=[DialFailed("no")] * 50) as agent:
        await agent.redialled(8)
        began = asyncio.get_running_loop().time()
        agent.control.quit(LEAVING)
        assert await agent.running == Stopped()
        assert asyncio.get_running_loop().time() - began < 0.1
        assert not any(DISCONNECT_FIELDS & line.keys() for line in agent.lines)


async def test_the_end_of_a_dropped_task_is_not_lost(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        await agent.link()
        agent.running.cancel()
        await asyncio.wait({agent.running})
        (line,) = events(agent.lines, "disconnected from server")
        assert line["disconnect_cause"] == "agent.internal_error"


# -- what the server says --------------------------------------------------------------------


async def test_commands_reach_the_owner_and_new_words_do_no_harm(tmp_path: Path) -> None:
    commands: list[Message] = [
        TunnelOffer(connection_id="c", relay_url="r", ticket="t", user="alice", public_key="k"),
        EndConnections(connection_ids=["c"], cause="auth.user_revoked", actor="admin:bob"),
        WorkspaceStop(cause="workspace.autostop", actor="policy:autostop"),
        WorkspaceStart(),
    ]
    async with life(tmp_path) as agent:
        link = await agent.link()
        assert link.driver is not None
        link.driver.send_data(b"\x92\xa9new_thing\x80")  # ["new_thing", {}]
        for command in commands:
            link.say(command)
        await asyncio.sleep(1)
        assert agent.owner.commands == commands
        assert [type(m).__name__ for m in link.heard] == ["Unsupported"]
        assert agent.control.connection_id == "link-1"


async def test_what_is_said_without_a_link_is_lost(tmp_path: Path) -> None:
    async with life(tmp_path, answers=[DialFailed("no")]) as agent:
        await agent.redialled(1)
        agent.control.send(GoodbyeAck())
        assert await agent.control.flush() is False
        link = await agent.link()
        await asyncio.sleep(1)
        assert link.heard == []


@pytest.mark.parametrize(
    ("stage", "status", "cause"),
    [
        (DialStage.DNS, 0, "network.dns_failed"),
        (DialStage.PROXY, 407, "network.proxy_refused"),
        (DialStage.TLS, 0, "network.tls_intercepted"),
    ],
)
async def test_what_the_next_dial_meets_is_told_once_of_the_link_that_was_lost(
    tmp_path: Path, stage: DialStage, status: int, cause: str
) -> None:
    async with life(tmp_path) as agent:
        link = await agent.link()
        assert link.cable is not None
        agent.server.answers = [DialFailed("no", stage=stage, status=status)] * 2
        link.cable.go_silent()
        await agent.server.dials(4)
        ends = [item for item in await agent.journalled() if isinstance(item, Ended)]
        told = [fact for end in ends for fact in facts_of(end.facts)]
        assert {end.connection_id for end in ends} == {"link-1"}
        assert [fact.kind for fact in told].count("redial_failed") == 1
        assert classify(ConnectType.SERVER_TO_AGENT, told).disconnect.cause == cause


@pytest.mark.parametrize(
    ("answers", "cause"), [((3, 2), "server.unreachable"), ((3, 0), "network.path_lost")]
)
async def test_whether_others_answered_is_told_of_a_link_that_fell_silent(
    tmp_path: Path, answers: tuple[int, int], cause: str
) -> None:
    async with life(tmp_path) as agent:
        agent.others = answers
        link = await agent.link()
        assert link.cable is not None
        agent.server.answers = [DialFailed("nothing answers")] * 9
        link.cable.go_silent()
        await agent.server.dials(9)
        ends = [item for item in await agent.journalled() if isinstance(item, Ended)]
        told = [fact for end in ends for fact in facts_of(end.facts)]
        server_saw = ev.StreamEnded(
            vantage=Vantage.SERVER, at=1.0, peer=Party.AGENT, how=StreamEnd.SILENT
        )
        assert {end.connection_id for end in ends} == {"link-1"}
        judged = classify(ConnectType.SERVER_TO_AGENT, (server_saw, *told)).disconnect
        assert judged.cause == cause


async def test_a_link_that_is_back_before_others_answered_tells_nothing_of_them(
    tmp_path: Path,
) -> None:
    async with life(tmp_path) as agent:
        agent.others = (3, 2)
        link = await agent.link()
        assert link.cable is not None
        link.cable.go_silent()
        await agent.link(2)
        await asyncio.sleep(60)
        (end,) = [item for item in await agent.journalled() if isinstance(item, Ended)]
        assert "others_answered" not in {fact.kind for fact in end.facts}


async def test_a_server_that_is_only_down_adds_nothing_to_the_link_that_was_lost(
    tmp_path: Path,
) -> None:
    async with life(tmp_path) as agent:
        link = await agent.link()
        assert link.cable is not None
        agent.server.answers = [DialFailed("nothing listens there")] * 2
        link.cable.go_silent()
        await agent.server.dials(4)
        (end,) = [item for item in await agent.journalled() if isinstance(item, Ended)]
        assert "redial_failed" not in {fact.kind for fact in end.facts}


# -- reports -----------------------------------------------------------------------------------


def opened(name: object) -> Opened:
    return Opened(connection_id=str(name), at=1.0)


async def test_reports_go_in_order_one_batch_at_a_time(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        items = [opened(n) for n in range(MAX_ITEMS + 10)]
        await asyncio.gather(*(agent.journal.append(item) for item in items))
        link = await agent.link()
        (first,) = await link.hear(Report)
        await asyncio.sleep(60)
        reports = [m for m in link.heard if isinstance(m, Report)]
        assert (reports, first.first_seq) == ([first], 1), (
            "a second batch before an acknowledgement"
        )
        assert sum(len(r.items) for r in reports) <= MAX_ITEMS
        received: list[ReportItem] = []
        count = 0
        while len(received) < len(items):
            count += 1
            report = (await link.hear(Report, count))[-1]
            assert report.first_seq == len(received) + 1
            received += report.items
            link.acknowledge(report)
        assert received == items
        assert await agent.control.flush() is True
        await asyncio.sleep(1)
        assert await agent.journalled() == []


async def test_what_was_not_acknowledged_is_sent_again_over_the_next_link(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        await agent.journal.append(opened("a"))
        link = await agent.link()
        (lost,) = await link.hear(Report)
        connection_is_reset(link)
        again = await agent.link(2)
        (report,) = await again.hear(Report)
        assert (report.first_seq, report.items[0]) == (lost.first_seq, opened("a"))
        assert [item.connection_id for item in report.items] == ["a", "link-1"]


async def test_an_append_wakes_the_pump(tmp_path: Path) -> None:
    async with life(tmp_path, acknowledging=True) as agent:
        link = await agent.link()
        await asyncio.sleep(10)
        began = asyncio.get_running_loop().time()
        await agent.journal.append(opened("late"))
        (report,) = await link.hear(Report)
        assert report.items == [opened("late")]
        assert asyncio.get_running_loop().time() - began < 0.5
        assert await agent.control.flush() is True


async def test_an_acknowledgement_of_something_else_frees_nothing(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        await agent.journal.append(opened("a"))
        link = await agent.link()
        (report,) = await link.hear(Report)
        link.acknowledge(Report(journal_id="another", first_seq=1, items=report.items))
        await asyncio.sleep(1)
        assert await agent.journalled() == [opened("a")]
        link.acknowledge(report, seq=1_000_000)  # more than we ever sent
        await asyncio.sleep(1)
        await agent.journal.append(opened("b"))
        assert (await link.hear(Report, 2))[1].items == [opened("b")]


async def test_a_flush_that_the_link_does_not_survive_fails(tmp_path: Path) -> None:
    async with life(tmp_path) as agent:
        await agent.journal.append(opened("a"))
        link = await agent.link()
        await link.hear(Report)
        flushing = agent.tasks.spawn(agent.control.flush(), "flush")
        await asyncio.sleep(1)
        assert not flushing.done()
        connection_is_reset(link)
        assert await flushing is False


def test_a_batch_ends_before_a_gap_and_before_it_grows_too_large() -> None:
    big = Ended(connection_id="x" * (300 << 10), at=1.0, facts=[])
    small = opened("a")
    assert cut([]) == []
    assert cut([(3, small), (4, small), (6, small)]) == [(3, small), (4, small)]
    assert cut([(1, big), (2, small), (3, big)]) == [(1, big), (2, small)]
    huge = Ended(connection_id="x" * (600 << 10), at=1.0, facts=[])
    assert cut([(1, huge), (2, small)]) == [(1, huge)], "what is too large alone goes alone"
