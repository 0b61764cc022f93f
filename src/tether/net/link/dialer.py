"""The control link of whoever dials the server: dial, greet, run, back off, and dial again.

Law: one dialer for agents, clients and relays; what they do with a link is their own (`LinkOwner`).
Decides nothing: `protocol.link.redial` says what follows each attempt. Until the server's welcome
there is no link, and what goes wrong is a failed dial. No exception ends the dialling: what a dial, a
hello, a link or an owner raises and no table foresees is told to `net.unexpected`, and dialled again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeAlias, TypeVar

from msgspec.structs import replace

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver
from tether.net.link.handshake import another_version, not_welcomed, silent
from tether.net.link.host_context import HostContext
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream, unforeseen_failure
from tether.net.unexpected import unexpected
from tether.protocol.link.link import LINGER_S, Link
from tether.protocol.link.redial import (
    Attempt,
    AwaitToken,
    DialAgain,
    NextStep,
    Outcome,
    Redial,
    Stopped,
)
from tether.protocol.messages.base import Message
from tether.protocol.messages.control import Goodbye, Hello, Welcome
from tether.protocol.timestamp import Timestamp

FAILED_STEP_S = 10.0
"""Seconds until the next attempt after one that failed by a bug of the dialler itself."""

WELCOME_S = 10.0
"""Seconds that the server may take to answer a hello."""

T = TypeVar("T")

Dial: TypeAlias = Callable[[], Awaitable[MessageStream]]
"""Opens a stream to the server, or raises `DialFailed`."""


class DialledLink:
    """One link, from its first byte to its end."""

    def __init__(self, driver: LinkDriver, now: Timestamp) -> None:
        self.driver = driver

        self.up_since = now
        """When the server welcomed us; until then, when the stream was opened."""

        self.welcome: Welcome | None = None

        self.goodbye: Goodbye | None = None
        """The server's."""

        self.failed: DialFailed | None = None
        """Why there was no welcome, or none that we could take."""

        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the link is over and its owner knows. Wait for it with `asyncio.wait`: to await
        it would hand a cancellation on to everybody else who waits."""

    @property
    def connection_id(self) -> str:
        """The link's row in the connection log; "" before the welcome."""
        return "" if self.welcome is None else self.welcome.connection_id


class LinkOwner(Protocol):
    """Whoever uses the links. Its methods must not block; what they raise is a bug of theirs, and
    ends no more than the link."""

    async def hello(self) -> Hello:
        """The first message on a new stream."""

    def dialling(self) -> None:
        """A dial begins."""

    def dial_failed(self, failed: DialFailed, step: NextStep) -> None:
        """No link came up; `step` follows."""

    def welcomed(self, link: DialledLink, welcome: Welcome) -> None:
        """A link is up."""

    def deliver(self, link: DialledLink, message: Message) -> None:
        """A message came in over a welcomed link. Its welcome and its goodbye are not delivered."""

    def link_over(self, link: DialledLink, step: NextStep) -> None:
        """A welcomed link is over, and its cell has why; `step` follows."""


class Dialer:
    """Keeps one link to the server for as long as `run` runs."""

    def __init__(
        self,
        me: Party,
        owner: LinkOwner,
        *,
        dial: Dial,
        clock: Clock,
        redial: Redial,
        linger_s: float = LINGER_S,
        welcome_s: float = WELCOME_S,
        wanted: Callable[[], bool] = lambda: True,
        jitter: Callable[[], float] = random.random,
        host_context: HostContext | None = None,
        another_token: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """
        Args:
            me: which party we are.
            owner: who uses the links.
            dial: opens a stream to the server.
            clock: the present.
            redial: what follows an attempt.
            linger_s: how long our goodbye waits for its acknowledgement, in seconds.
            welcome_s: how long the server may take to answer the hello, in seconds.
            wanted: whether anybody has a use for another link, once one has failed.
            jitter: draws from [0, 1).
            host_context: tells what happened to this machine when a link is lost.
            another_token: waits until `dial` would use another token than the last time; None where
                that cannot happen.
        """
        self.link: DialledLink | None = None
        """The link that is up, or waits for its welcome."""

        self._me = me
        self._owner = owner
        self._dial = dial
        self._clock = clock
        self._redial = redial
        self._linger_s = linger_s
        self._welcome_s = welcome_s
        self._wanted = wanted
        self._jitter = jitter
        self._host_context = host_context
        self._another_token = another_token
        self._was_welcomed = False  # by this server, with a token that it took then
        self._tasks = Tasks("dialer")

        self._farewell: ev.GoodbyeSaid | None = None
        """Why we dial no more, once `quit` was called."""

        self._quitting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        """Dial the first link now; to fail is the caller's to tell. Call `run` next.

        Raises:
            DialFailed: it did not come up.
        """
        opened = await self._open()
        if isinstance(opened, DialFailed):
            raise opened
        self.link = opened

    async def run(self) -> Outcome:
        """Dial, live, dial again, until one of the outcomes."""
        try:
            while True:
                match await self._step():
                    case DialAgain(wait_s=wait_s):
                        await self._until_quit(asyncio.sleep(wait_s))
                    case AwaitToken():
                        await self._until_quit(self._next_token())
                    case outcome:
                        return outcome
                if self._farewell is not None:
                    return Stopped()
        finally:
            await self._tasks.cancel()

    def leave(self, said: ev.GoodbyeSaid) -> None:
        """Leave the link that is up, if any, with this cause; `run` then dials again."""
        if self.link is not None:
            self.link.driver.leave(said.cause, because=said, actor=said.actor, detail=said.detail)

    def quit(self, said: ev.GoodbyeSaid) -> None:
        """Leave with this cause, and dial no more: `run` returns once the link is over."""
        self._farewell = said
        if not self._quitting.done():
            self._quitting.set_result(None)
        self.leave(said)

    async def _next_token(self) -> None:
        assert self._another_token is not None, "the attempt said that it may change"
        await self._another_token()

    # -- one attempt -------------------------------------------------------------------------

    async def _step(self) -> NextStep:
        """One attempt, and what follows it; a bug of ours is one more failed attempt."""
        try:
            return await self._attempt()
        except Exception as wrong:
            unexpected("dialling", wrong)
            self.link = None
            return DialAgain(FAILED_STEP_S)

    async def _attempt(self) -> NextStep:
        link = self.link
        if link is None:
            opened = await self._until_quit(self._open())
            if opened is None:
                return Stopped()
            if isinstance(opened, DialFailed):
                return self._failed(opened)
            link = self.link = opened
        if self._farewell is not None:  # asked to quit while we were dialling
            self.leave(self._farewell)
        timer = asyncio.get_running_loop().call_later(self._welcome_s, self._answer_is_late, link)
        try:
            await link.driver.run()
        except Exception as wrong:
            unexpected("a control link", wrong)
        finally:
            timer.cancel()
            step = self._over(link)
        return step

    async def _open(self) -> DialledLink | DialFailed:
        """A stream with our hello on its way, or why there is none."""
        stream: MessageStream | None = None
        link: DialledLink | None = None
        try:
            self._owner.dialling()
            stream = await self._dial()
            link = self._begin(stream, await self._owner.hello())
            return link
        except DialFailed as failed:
            if failed.unforeseen:
                unexpected("a dial", failed.__cause__ or failed)
            return failed
        except Exception as wrong:
            unexpected("a dial", wrong)
            return unforeseen_failure(wrong, "the server")
        finally:
            if stream is not None and link is None:
                await self._close(stream)

    def _begin(self, stream: MessageStream, hello: Hello) -> DialledLink:
        now = self._clock.now()
        driver = LinkDriver(
            stream=stream,
            # Nobody need wait for a goodbye's acknowledgement where there was no welcome.
            link=Link(me=self._me, peer=Party.SERVER, now=now, linger=0.0),
            clock=self._clock,
            deliver=lambda message: self._deliver(link, message),
            host_context=self._host_context,
        )
        link = DialledLink(driver, now)
        driver.send(hello)
        return link

    def _over(self, link: DialledLink) -> NextStep:
        """The link's last moment, whatever ended it; what follows."""
        cell = link.driver.cell
        if not cell.ended:  # `run` was cancelled, or failed: nobody has given a cause
            cell.offer(self._failure("the control link was dropped without a cause"))
        self.link = None
        try:
            if link.welcome is None:
                link.failed = link.failed or not_welcomed(cell, link.goodbye, self._me)
                return self._failed(link.failed, link.goodbye)
            lived_s = self._clock.now().mono - link.up_since.mono
            step = self._after(Attempt(goodbye=link.goodbye, lived_s=lived_s))
            self._tell(lambda: self._owner.link_over(link, step))
            return step
        finally:
            link.over.set_result(None)

    def _failed(self, failed: DialFailed, goodbye: Goodbye | None = None) -> NextStep:
        step = self._after(
            Attempt(status=failed.status, code=failed.cause, message=str(failed), goodbye=goodbye)
        )
        self._tell(lambda: self._owner.dial_failed(failed, step))
        return step

    def _after(self, attempt: Attempt) -> NextStep:
        leaving = self._farewell is not None
        return self._redial.after(
            replace(
                attempt,
                leaving=leaving,
                wanted=self._wanted(),
                token_may_change=self._another_token is not None and self._was_welcomed,
            ),
            self._jitter(),
        )

    # -- what the server says --------------------------------------------------------------

    def _deliver(self, link: DialledLink, message: Message) -> None:
        match message:
            case Goodbye():
                link.goodbye = message
            case Welcome() if link.welcome is None:
                self._welcomed(link, message)
            case _ if link.welcome is None:
                pass  # nothing else is owed an answer before the welcome
            case _:
                self._owner.deliver(link, message)

    def _welcomed(self, link: DialledLink, welcome: Welcome) -> None:
        driver = link.driver
        if (failed := another_version(welcome, self._me)) is not None:
            link.failed = failed
            driver.violated(str(failed))
            return
        link.up_since = self._clock.now()
        link.welcome = welcome
        self._was_welcomed = True
        driver.set_liveness(
            ping_every=welcome.ping_every_s, patience=welcome.patience_s, linger=self._linger_s
        )
        self._owner.welcomed(link, welcome)

    def _answer_is_late(self, link: DialledLink) -> None:
        if link.welcome is None:
            link.failed = silent()
            link.driver.give_up()

    # -- what nobody foresaw -----------------------------------------------------------------

    def _tell(self, telling: Callable[[], None]) -> None:
        try:
            telling()
        except Exception as wrong:
            unexpected("the owner of a control link", wrong)

    def _failure(self, what: str) -> ev.InternalFailure:
        vantage = Vantage(str(self._me))
        return ev.InternalFailure(
            vantage=vantage, at=self._clock.now().wall, party=self._me, what=what
        )

    async def _close(self, stream: MessageStream) -> None:
        try:
            await stream.close(1000, "no hello")
        except Exception as wrong:
            unexpected("the close of a stream", wrong)

    async def _until_quit(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` returns; None where we were asked to quit before that."""
        working = self._tasks.spawn(work, "work")
        either: list[asyncio.Future[Any]] = [working, self._quitting]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
        await asyncio.wait([working])
        return None if working.cancelled() else working.result()
