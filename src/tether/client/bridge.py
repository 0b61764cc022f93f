"""Joins a tunnel and the pipe of the local `ssh`, and says why the local side ended.

Law: the first thing that is known of an end is offered before anything closes. A closed pipe is only
a fact (whether ssh disconnected first is known to the agent); a signal alone is a decision of ours.

Signals: ssh sends SIGHUP to its ProxyCommand whenever it ends, and a closed terminal sends it to
both; either way ssh may still have its SSH_MSG_DISCONNECT to say. So a signal starts a deadline in
which the pipe is read to its end. A signal becomes a fact if ssh had something to say after it, or if
it is what makes us leave: a SIGHUP that follows from the death of ssh is its symptom. Which signal
came with the end of the pipe is part of that fact, and so is for how long the agent had not answered.
ssh may close the pipe before it sends its signal, so the end waits a moment for one.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import CLIENT_CLOSED
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, Vantage
from tether.client.outcome import fact_of
from tether.net.clock import Clock
from tether.net.fd_io import FdWriter, read_to_end
from tether.net.link.host_context import HostContext
from tether.net.signals import THE_KERNEL, Received
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.carriers.commands import TIMED_OUT, Over
from tether.protocol.messages.base import Message
from tether.protocol.messages.tunnel import FurtherHostKey, LoginResult, SessionResult
from tether.protocol.timestamp import Timestamp
from tether.version import VERSION

DRAIN_S = 1.0
"""How long the pipe may take to reach its end after a signal, or after its other half broke."""

SIGNAL_S = 0.1
"""How long a pipe that has ended waits for the signal of a program that ends by itself."""


class Bridge:
    """One tunnel, one pipe. Call `run` once."""

    def __init__(
        self,
        stream: TunnelStream,
        *,
        stdin: int,
        stdout: int,
        clock: Clock,
        on_result: Callable[[SessionResult], None],
        on_host_key: Callable[[FurtherHostKey], None] = lambda _: None,
        on_other_key: Callable[[], None] = lambda: None,
        parent: int,
        host_context: HostContext | None = None,
    ) -> None:
        """`parent` is the process that started us: ssh. `on_host_key` is told which other host key ssh
        has asked for, before ssh is sent it; `on_other_key`, that ssh was let in after a key that it
        preferred was not."""
        self._clock = clock
        self._on_result = on_result
        self._on_host_key = on_host_key
        self._on_other_key = on_other_key
        self._parent = parent
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("stdio")
        self._stdin = stdin
        self._stdout = FdWriter(stdout, owned=False, on_broken=self._expect_end)
        self._signal: ev.SignalReceived | None = None
        self._noted = False
        self._parting: asyncio.Future[None] | None = None  # the pipe has ended: a signal may follow
        self._deadline: asyncio.TimerHandle | None = None
        self._forever: asyncio.Future[None] = self._loop.create_future()
        self.refusal: str = ""
        """The sentence of the last refusal, if no credential was let in."""
        self.left_for: str = ""
        """The actor, if we left because of a signal while ssh was still there."""
        self.tunnel = TunnelEndpoint(
            stream,
            me=Party.CLIENT,
            peer=Party.AGENT,
            clock=clock,
            version=VERSION,
            on_data=self._to_local,
            on_message=self._message,
            host_context=host_context,
        )

    async def run(self) -> CloseCell:
        """Pump both ways until the tunnel is over."""
        self._tasks.spawn(self._take_in(), "stdin")
        try:
            return await self.tunnel.run()
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            await self._tasks.cancel()

    async def _take_in(self) -> None:
        try:
            await read_to_end(self._stdin, self._from_local)
            now, unanswered_s = self._clock.now(), self._unanswered_s()
            if not self._ended_by() and self.tunnel.is_open:
                self._parting = self._loop.create_future()
                await asyncio.wait([self._parting], timeout=SIGNAL_S)
            self._local_end(now, unanswered_s)
        except Exception as wrong:  # nobody would read the pipe any more
            self.tunnel.failed(wrong)
            raise

    def signalled(self, received: Received) -> None:
        """This process was sent a signal."""
        if self._parting is not None:
            if received.sender == THE_KERNEL:
                return  # the terminal of an ssh that led its session is closed: a symptom
            if not self._parting.done():
                self._parting.set_result(None)
        self._signal = ev.SignalReceived(
            vantage=Vantage.CLIENT,
            at=self._clock.now().wall,
            party=Party.CLIENT,
            signal=received.number,
            sender=received.sender,
        )
        self._noted = False
        if received.number != signal.SIGINT:  # what Ctrl-C means is for ssh to decide
            self._expect_end()

    def no_way(self, over: Over) -> None:
        """No carrier will be found any more."""
        if over.code == TIMED_OUT:
            self.tunnel.give_up()
        else:
            self.tunnel.cut(fact_of(over, self._clock.now().wall))

    def _from_local(self, data: bytes) -> Awaitable[None] | None:
        if not self.tunnel.is_open:
            return self._forever  # nothing more is taken; `run` cancels the reading
        if self._signal is not None and not self._by_ssh(self._signal):
            self._note(self._signal)
        self.tunnel.write(data)
        return self.tunnel.drain()

    def _to_local(self, data: memoryview) -> Awaitable[None] | None:
        self._stdout.write(data)
        return self._stdout.emptied()

    def _local_end(self, now: Timestamp, unanswered_s: float) -> None:
        if unanswered_s:
            self._note_acknowledged(now)
        self.tunnel.leave(
            because=ev.LocalSideClosed(
                vantage=Vantage.CLIENT,
                at=now.wall,
                signal=self._ended_by(),
                unanswered_s=unanswered_s,
            )
        )
        self._stdout.close()

    def _note_acknowledged(self, now: Timestamp) -> None:
        """Note the counters of a stream whose other end's kernel has taken all that we sent: then no
        network was in the way, and its program stands still."""
        stream = self.tunnel.stream
        counters = stream.counters_fact(vantage=Vantage.CLIENT, peer=Party.AGENT, at=now.wall)
        if stream.in_use and counters is not None and not counters.unacked:
            self.tunnel.cell.note(counters)

    def _unanswered_s(self) -> float:
        since = self.tunnel.stream.waiting_since
        return 0.0 if since is None else self._clock.now().mono - since

    def _expect_end(self) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(DRAIN_S, self._not_ended)

    def _not_ended(self) -> None:
        if self._signal is None or self._signal.signal == signal.SIGINT:
            self._local_end(self._clock.now(), self._unanswered_s())
            return
        if self.tunnel.is_open:
            self._note(self._signal)
            from tether.attribution.classify import signal_actor  # see verdict.py

            self.left_for = signal_actor(self._signal.signal, self._signal.sender)
            self.tunnel.leave(CLIENT_CLOSED, actor=self.left_for)
        self._stdout.close()

    def _note(self, received: ev.SignalReceived) -> None:
        if not self._noted:
            self._noted = True
            self.tunnel.cell.note(received)

    def _ended_by(self) -> int:
        """The signal after which ssh ended; 0 for none. The kernel's counts only if ssh had something to
        say after it, for it hangs us up as well when an ssh that led its session was killed."""
        if self._signal is None:
            return 0
        if self._signal.sender == THE_KERNEL and not self._noted:
            return 0
        return self._signal.signal

    def _by_ssh(self, received: ev.SignalReceived) -> bool:
        return received.sender.startswith(f"pid {self._parent} ")

    def _message(self, message: Message) -> None:
        match message:
            case SessionResult():
                self._on_result(message)
            case FurtherHostKey():
                self._on_host_key(message)
            case LoginResult(accepted=accepted, sentence=sentence):
                other_key = accepted and bool(self.refusal)
                self.refusal = "" if accepted else sentence
                if other_key:
                    self._on_other_key()
            case _:
                pass  # a newer agent has more to say
