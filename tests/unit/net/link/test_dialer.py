"""One dialer, every outcome of a dial and of a link; in virtual time, over cables."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.support.clock import LoopClock
from tests.support.net.played_server import PlayedServer, welcome
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import DialStage, Party, StreamEnd, Vantage
from tether.net import unexpected
from tether.net.link.dialer import WELCOME_S, Dialer, DialledLink
from tether.net.link.handshake import WelcomeRefused
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream
from tether.protocol.link.redial import (
    DialAgain,
    Dismissed,
    NextStep,
    Outcome,
    Redial,
    Stopped,
    TokenRejected,
)
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import Goodbye, Hello, Ping, Pong, Welcome, WorkspaceStart
from tether.version import VERSION

pytestmark = pytest.mark.virtual_time

HELLO = Hello(protocol=PROTOCOL, role="agent", version="1", instance_id="run-1")
LEAVING = ev.GoodbyeSaid(
    vantage=Vantage.AGENT, at=1.0, by=Party.AGENT, cause="agent.shutdown", actor="signal:15"
)
LINGER_S = 1.5


class Owner:
    """Notes what it is told, and raises where the test wishes."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, NextStep]] = []
        self.welcomes: list[str] = []
        self.messages: list[Message] = []
        self.ends: list[tuple[str, tuple[str, ...], NextStep]] = []
        self.breaks: dict[str, Exception] = {}

    async def hello(self) -> Hello:
        self._break("hello")
        return HELLO

    def dialling(self) -> None:
        self._break("dialling")

    def dial_failed(self, failed: DialFailed, step: NextStep) -> None:
        self.failed.append((str(failed), step))
        self._break("dial_failed")

    def welcomed(self, link: DialledLink, welcome: Welcome) -> None:
        self.welcomes.append(welcome.connection_id)
        self._break("welcomed")

    def deliver(self, link: DialledLink, message: Message) -> None:
        self.messages.append(message)
        self._break("deliver")

    def link_over(self, link: DialledLink, step: NextStep) -> None:
        kinds = tuple(fact.kind for fact in link.driver.cell.facts)
        self.ends.append((link.connection_id, kinds, step))
        self._break("link_over")

    def _break(self, where: str) -> None:
        if where in self.breaks:
            raise self.breaks.pop(where)


class Scene:
    """One dialer, its owner and its server."""

    def __init__(self, *answers: Any, **options: Any) -> None:
        self.server, self.owner = PlayedServer(Party.AGENT), Owner()
        self.server.answers = list(answers)
        self._before = unexpected.COUNTS.total()
        self.wanted = True
        self.dialer = Dialer(
            Party.AGENT,
            self.owner,
            dial=self.server.dial,
            clock=LoopClock(),
            redial=Redial(),
            linger_s=LINGER_S,
            wanted=lambda: self.wanted,
            jitter=lambda: 0.0,
            **options,
        )
        self.tasks = Tasks("scene")
        self.running: asyncio.Task[Outcome] = self.tasks.spawn(self.dialer.run(), "dialer")

    @property
    def unforeseen(self) -> int:
        """How many exceptions nobody foresaw."""
        return unexpected.COUNTS.total() - self._before

    async def up(self, number: int = 1) -> None:
        """Wait until the server has welcomed us for the n-th time."""
        while len(self.owner.welcomes) < number:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def scene(*answers: Any, **options: Any) -> AsyncIterator[Scene]:
    played = Scene(*answers, **options)
    try:
        yield played
    finally:
        await played.tasks.cancel()
        await played.server.tasks.cancel()


# -- a dial that fails ---------------------------------------------------------------------


async def test_a_failed_dial_is_told_and_dialled_again_with_a_growing_wait() -> None:
    async with scene(*[DialFailed("nothing listens")] * 4) as played:
        await played.up()
        steps = [DialAgain(s) for s in (0.1, 0.2, 0.4, 0.8)]
        assert played.owner.failed == [("nothing listens", step) for step in steps]
        assert played.server.waits() == [0.1, 0.2, 0.4, 0.8]
        assert (played.owner.ends, played.unforeseen) == ([], 0)


async def test_a_token_that_is_rejected_ends_the_dialling() -> None:
    refusal = DialFailed("this token was revoked", status=401, cause="token_revoked")
    async with scene(refusal) as played:
        outcome = TokenRejected("this token was revoked")
        assert await played.running == outcome
        assert played.owner.failed == [("this token was revoked", outcome)]


async def test_connect_raises_what_keeps_the_first_link_from_coming_up() -> None:
    async with scene() as played:
        played.running.cancel()
        played.server.answers = [DialFailed("nothing listens")]
        with pytest.raises(DialFailed, match=r"^nothing listens$"):
            await played.dialer.connect()
        assert (played.owner.failed, played.dialer.link) == ([], None)


async def test_what_is_sent_after_connect_follows_the_hello_at_once() -> None:
    async with scene() as played:
        played.running.cancel()
        await played.dialer.connect()
        assert played.dialer.link is not None
        played.dialer.link.driver.send(WorkspaceStart())
        played.tasks.spawn(played.dialer.run(), "dialer")
        await played.up()
        assert played.server.heard == [HELLO, WorkspaceStart()]
        assert len(played.server.dialled_at) == 1


# -- what nobody foresaw -------------------------------------------------------------------

FOREIGN = [
    ConnectionClosedError(None, None),
    ssl.SSLError(1, "the certificate has expired"),
    ValueError("Port could not be cast to integer value"),
    OSError("no errno"),
    EOFError(),
    TimeoutError(),
    KeyError("x"),
    AssertionError("a bug of ours"),
    RecursionError(),
    MemoryError(),
    asyncio.InvalidStateError(),
    ExceptionGroup("several", [OSError(), ValueError()]),
]


@pytest.mark.parametrize("wrong", FOREIGN, ids=lambda wrong: type(wrong).__name__)
async def test_no_exception_of_a_dial_ends_the_dialling(
    wrong: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene(wrong, wrong, wrong) as played:
        await played.up()
        (sentence, step), *_ = played.owner.failed
        assert type(wrong).__name__ in sentence
        assert step == DialAgain(0.1)
        assert (played.server.waits(), played.unforeseen) == ([0.1, 0.2, 0.4], 3)
        told = [record for record in caplog.records if record.name == "tether.unexpected"]
        assert [record.levelno for record in told] == [logging.ERROR], "once for each kind"
        assert told[0].exc_info is not None and told[0].exc_info[1] is wrong


async def test_what_the_table_of_dial_errors_does_not_foresee_is_logged_with_its_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = DialFailed("odd", unforeseen=True, stage=DialStage.OTHER)
    wrong.__cause__ = KeyError("x")
    async with scene(wrong) as played:
        await played.up()
        assert (played.owner.failed, played.unforeseen) == ([("odd", DialAgain(0.1))], 1)
        (told,) = [record for record in caplog.records if record.name == "tether.unexpected"]
        assert told.exc_info is not None and told.exc_info[1] is wrong.__cause__


async def test_a_hello_that_fails_closes_the_stream_and_is_a_failed_dial() -> None:
    async with scene() as played:
        played.owner.breaks["hello"] = KeyError("journal")
        await played.up()
        ((sentence, step),) = played.owner.failed
        assert "KeyError: 'journal'" in sentence
        assert step == DialAgain(0.1)
        assert played.server.cables[0].left.closed == (1000, "no hello")


@pytest.mark.parametrize("where", ["dialling", "welcomed", "deliver"])
async def test_an_owner_that_fails_costs_the_link_and_no_more(where: str) -> None:
    async with scene() as played:
        played.owner.breaks[where] = KeyError("a bug")
        while played.owner.welcomes[-1:] != ["link-2"]:
            await asyncio.sleep(0.1)
            if where == "deliver" and played.owner.welcomes == ["link-1"]:
                played.server.drivers[0].send(WorkspaceStart())
            if where == "dialling" and played.owner.welcomes == ["link-1"]:
                break  # it failed before the first stream was opened
        assert not played.running.done()
        assert len(played.owner.failed) + len(played.owner.ends) == 1


@pytest.mark.parametrize("where", ["dial_failed", "link_over"])
async def test_an_owner_that_fails_at_an_end_is_dialled_for_again(where: str) -> None:
    async with scene(DialFailed("no")) as played:
        played.owner.breaks[where] = KeyError("a bug")
        await played.up()
        played.server.cables[0].reset()
        await played.up(2)
        assert played.unforeseen == 1


@pytest.mark.parametrize("operation", ["send", "recv"])
async def test_a_link_whose_stream_raises_what_nobody_foresaw_is_over_and_dialled_again(
    operation: str,
) -> None:
    async with scene() as played:
        await played.up()
        played.server.cables[0].left.raises = {operation: KeyError("x")}
        played.server.drivers[0].send(WorkspaceStart())
        assert played.dialer.link is not None
        played.dialer.link.driver.send(WorkspaceStart())
        await played.up(2)
        ((name, kinds, step),) = played.owner.ends
        assert (name, kinds, step) == ("link-1", ("stream_ended",), DialAgain(0.1))


async def test_a_stream_that_cannot_be_closed_ends_nothing() -> None:
    async with scene() as played:
        await played.up()
        played.server.cables[0].left.raises = {"close": OSError("x")}
        played.server.drivers[0].leave("server.shutdown")
        await played.up(2)
        assert [name for name, _, _ in played.owner.ends] == ["link-1"]


# -- no welcome ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (None, "the server hung up before it welcomed this agent: eof"),
        ("", "the server took the connection and then said nothing"),
        (b"\xc1", "the server does not speak Tether's protocol: not a message"),
        (Ping(n=1), "the server took the connection and then said nothing"),
        (WorkspaceStart(), "the server took the connection and then said nothing"),
        (
            welcome(protocol=(9, 0)),
            f"the server (version 9) speaks protocol 9 and this agent (version {VERSION}) 2: upgrade"
            " the older of the two",
        ),
        (
            Goodbye(cause="agent.superseded", detail="another agent has this token"),
            "the server turned this agent away: another agent has this token",
        ),
    ],
    ids=["hangs up", "nothing", "garbage", "a ping", "a command", "a version", "a goodbye"],
)
async def test_without_a_welcome_there_was_no_link(answer: Any, sentence: str) -> None:
    async with scene(answer) as played:
        await played.up()
        ((told, step),) = played.owner.failed
        assert (told.startswith(sentence), step) == (True, DialAgain(0.1)), told
        assert (played.owner.ends, played.owner.messages) == ([], [])
        assert played.unforeseen == 0


async def test_a_server_that_says_nothing_is_given_up_after_a_time() -> None:
    async with scene("") as played:
        await played.up()
        assert played.server.waits() == [WELCOME_S + 0.1]


async def test_a_goodbye_instead_of_a_welcome_says_when_to_dial_again() -> None:
    goodbye = Goodbye(cause="server.shutdown", retry_after_s=7.0)
    async with scene(goodbye) as played:
        await played.up()
        ((_, step),) = played.owner.failed
        assert step == DialAgain(7.0)
        (waited_s,) = played.server.waits()
        assert waited_s == pytest.approx(7.0, abs=0.2)


async def test_a_goodbye_for_ever_instead_of_a_welcome_ends_the_dialling() -> None:
    goodbye = Goodbye(cause="workspace.deleted", detail="it was deleted", retry_after_s=-1.0)
    async with scene(goodbye) as played:
        assert await played.running == Dismissed(goodbye)


async def test_the_servers_sentence_stands_alone_where_somebody_wants_that() -> None:
    refused = WelcomeRefused(Goodbye(cause="agent.superseded", detail="go away"), Party.AGENT)
    assert (refused.sentence, str(refused), refused.cause) == (
        "go away",
        "the server turned this agent away: go away",
        "agent.superseded",
    )


# -- a link, and its end -------------------------------------------------------------------


async def test_messages_are_delivered_and_the_keepalive_is_the_servers() -> None:
    async with scene(welcome(ping_every_s=5.0, patience_s=12.0)) as played:
        await played.up()
        played.server.drivers[0].send(WorkspaceStart())
        await asyncio.sleep(3600)
        assert (played.owner.messages, played.owner.ends) == ([WorkspaceStart()], [])
        played.server.cables[0].go_silent()
        silent_at = asyncio.get_running_loop().time()
        await played.up(2)
        assert asyncio.get_running_loop().time() - silent_at <= 12.2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda played: played.server.cables[0].reset(), "stream_ended"),
        (lambda played: played.server.cables[0].go_silent(), "stream_ended"),
        (lambda played: played.server.drivers[0].leave("server.shutdown"), "goodbye_said"),
        (lambda played: played.server.drivers[0].send_data(b"\xc1"), "protocol_violated"),
    ],
    ids=["reset", "silence", "goodbye", "garbage"],
)
async def test_each_end_is_told_once_and_dialled_again(
    fault: Callable[[Scene], None], kind: str
) -> None:
    async with scene() as played:
        await played.up()
        await asyncio.sleep(20)
        fault(played)
        await played.up(2)
        ((name, kinds, step),) = played.owner.ends
        assert (name, kinds[-1], step) == ("link-1", kind, DialAgain(0.1))
        assert played.owner.failed == []


async def test_whoever_waits_for_a_link_to_be_over_finds_its_owner_told() -> None:
    async with scene() as played:
        await played.up()
        link = played.dialer.link
        assert link is not None
        played.server.cables[0].reset()
        await asyncio.wait([link.over])
        assert [name for name, _, _ in played.owner.ends] == ["link-1"]
        assert played.dialer.link is None
        assert isinstance(link.driver.cell.facts[-1], ev.StreamEnded)
        assert link.driver.cell.facts[-1].how is StreamEnd.RESET


async def test_a_servers_hint_at_the_end_of_a_link_is_obeyed() -> None:
    async with scene() as played:
        await played.up()
        played.server.drivers[0].leave("server.shutdown", retry_after_s=60.0)
        await played.up(2)
        (waited_s,) = played.server.waits()
        assert 60.0 <= waited_s <= 61.0


async def test_a_goodbye_for_ever_ends_the_dialling() -> None:
    async with scene() as played:
        await played.up()
        played.server.drivers[0].leave("workspace.deleted", retry_after_s=-1.0)
        outcome = Dismissed(Goodbye(cause="workspace.deleted", retry_after_s=-1.0))
        assert await played.running == outcome
        ((_, _, step),) = played.owner.ends
        assert step == outcome


async def test_links_that_are_dropped_at_once_are_backed_off() -> None:
    async with scene() as played:
        for number in range(1, 6):
            await played.up(number)
            played.server.cables[number - 1].reset()
        await played.up(6)
        assert played.server.waits() == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6], abs=0.11)


async def test_a_link_that_nobody_has_a_use_for_is_not_dialled_again() -> None:
    async with scene() as played:
        await played.up()
        played.wanted = False
        played.server.cables[0].reset()
        assert await played.running == Stopped()
        assert len(played.server.dialled_at) == 1


async def test_a_run_that_is_cancelled_tells_the_end_all_the_same() -> None:
    async with scene() as played:
        await played.up()
        played.running.cancel()
        await asyncio.wait([played.running])
        ((name, kinds, _),) = played.owner.ends
        assert (name, kinds) == ("link-1", ("internal_failure",))


# -- leaving -------------------------------------------------------------------------------


async def test_leaving_a_link_says_the_cause_and_dials_again() -> None:
    async with scene() as played:
        await played.up()
        played.dialer.leave(LEAVING)
        await played.up(2)
        assert Goodbye(cause="agent.shutdown", actor="signal:15") in played.server.heard


async def test_quitting_says_the_cause_and_dials_no_more() -> None:
    async with scene() as played:
        await played.up()
        played.dialer.quit(LEAVING)
        played.dialer.quit(LEAVING)
        assert await played.running == Stopped()
        ((_, kinds, step),) = played.owner.ends
        assert (kinds, step) == (("goodbye_said",), Stopped())
        assert played.server.heard[-1] == Goodbye(cause="agent.shutdown", actor="signal:15")


async def test_a_server_that_does_not_acknowledge_a_goodbye_holds_us_up_for_the_linger() -> None:
    async with scene() as played:
        await played.up()
        played.server.cables[0].go_silent()
        began = asyncio.get_running_loop().time()
        played.dialer.quit(LEAVING)
        assert await played.running == Stopped()
        lasted_s = asyncio.get_running_loop().time() - began
        assert lasted_s == pytest.approx(LINGER_S)


async def test_quitting_between_two_dials_is_at_once() -> None:
    async with scene(*[DialFailed("no")] * 50) as played:
        await asyncio.sleep(60)
        began = asyncio.get_running_loop().time()
        played.dialer.quit(LEAVING)
        assert await played.running == Stopped()
        assert asyncio.get_running_loop().time() == began


async def test_quitting_while_a_dial_hangs_is_at_once() -> None:
    async def hangs() -> MessageStream:
        await asyncio.sleep(3600)
        raise AssertionError("cancelled before that")

    async with scene() as played:
        played.running.cancel()
        owner = Owner()
        dialer = Dialer(Party.AGENT, owner, dial=hangs, clock=LoopClock(), redial=Redial())
        running = played.tasks.spawn(dialer.run(), "hangs")
        await asyncio.sleep(1)
        dialer.quit(LEAVING)
        assert await running == Stopped()
        assert asyncio.get_running_loop().time() < 2
        assert owner.failed == []


async def test_quitting_before_the_welcome_says_goodbye_and_waits_for_nobody() -> None:
    async with scene("") as played:
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        played.dialer.quit(LEAVING)
        assert await played.running == Stopped()
        assert asyncio.get_running_loop().time() == began
        assert played.owner.failed == [("this agent left before the server welcomed it", Stopped())]
        await asyncio.sleep(1)
        assert played.server.heard == [HELLO, Goodbye(cause="agent.shutdown", actor="signal:15")]


async def test_an_answer_to_a_ping_of_ours_is_delivered() -> None:
    async with scene() as played:
        await played.up()
        assert played.dialer.link is not None
        played.dialer.link.driver.ping()
        await asyncio.sleep(1)
        assert [type(message) for message in played.owner.messages] == [Pong]
