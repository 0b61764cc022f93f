"""The joint of a pipe and a tunnel: bytes, ends and signals, over real pipes and a cable."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.clock import EPOCH, LoopClock
from tests.support.net.cable import Cable
from tests.support.net.tunnels import agent_over, client_over
from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, Vantage
from tether.client.bridge import DRAIN_S, SIGNAL_S, Bridge
from tether.net.fd_io import NonBlocking
from tether.net.signals import Received
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.protocol.messages.base import Message
from tether.protocol.messages.tunnel import SessionResult

pytestmark = pytest.mark.virtual_time

SSH = 4242
BY_SSH = Received(signal.SIGHUP, f"pid {SSH} uid 0 (the parent)")
BY_THE_TERMINAL = Received(signal.SIGHUP, "the kernel")
BY_SOMEBODY = Received(signal.SIGTERM, "pid 77 uid 0")
CTRL_C = Received(signal.SIGINT, "the kernel")
DELAY = 0.01


class Rig:
    """A bridge with its two pipes, and the agent's end of its tunnel."""

    def __init__(self) -> None:
        clock, cable = LoopClock(), Cable(delay=DELAY)
        self.cable, self.loop = cable, asyncio.get_running_loop()
        self.stdin, self.ssh_writes = os.pipe()
        self.ssh_reads, self.stdout = os.pipe()
        self.got = bytearray()
        self.results: list[SessionResult] = []
        self.bridge = Bridge(
            client_over(cable.left, clock),
            stdin=self.stdin,
            stdout=self.stdout,
            clock=clock,
            on_result=self.results.append,
            parent=SSH,
        )
        self.agent = TunnelEndpoint(
            agent_over(cable.right, clock),
            me=Party.AGENT,
            peer=Party.CLIENT,
            clock=clock,
            version="0",
            on_data=self._data,
            on_message=_ignore,
        )
        self.tasks = Tasks("rig")
        self.client_over = self.tasks.spawn(self.bridge.run(), "client")
        self.agent_over = self.tasks.spawn(self.agent.run(), "agent")

    def _data(self, data: memoryview) -> None:
        self.got += data

    async def until(self, check: Callable[[], bool]) -> None:
        """Let (virtual) time pass until `check` holds."""
        async with asyncio.timeout(60):
            while not check():
                await asyncio.sleep(DELAY)

    def close_ssh(self) -> None:
        """ssh is gone: both of its descriptors are closed."""
        for name in ("ssh_writes", "ssh_reads"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


def _ignore(_: Message) -> None:
    pass


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    with NonBlocking(rig.stdin, rig.stdout):
        yield rig
        await rig.tasks.cancel()
    rig.close_ssh()
    os.close(rig.stdin)
    os.close(rig.stdout)


def local_closed(number: int = 0) -> Callable[[ev.Evidence], bool]:
    return lambda fact: isinstance(fact, ev.LocalSideClosed) and fact.signal == number


def kinds(cell: CloseCell) -> list[str]:
    return [fact.kind for fact in cell.facts]


async def test_bytes_pass_both_ways_in_order_and_whole(rig: Rig) -> None:
    up, down = os.urandom(3_000_000), os.urandom(3_000_000)
    got = bytearray()

    async def ssh() -> None:
        sent = 0
        while sent < len(up) or len(got) < len(down):
            if sent < len(up):
                with contextlib.suppress(BlockingIOError):
                    sent += os.write(rig.ssh_writes, up[sent : sent + 100_000])
            with contextlib.suppress(BlockingIOError):
                got.extend(os.read(rig.ssh_reads, 70_000))
            await asyncio.sleep(0.001)

    async def agent() -> None:
        for start in range(0, len(down), 50_000):
            rig.agent.write(down[start : start + 50_000])
            await rig.agent.drain()

    os.set_blocking(rig.ssh_writes, False)
    os.set_blocking(rig.ssh_reads, False)
    await asyncio.gather(ssh(), agent())
    await rig.until(lambda: len(rig.got) >= len(up))
    assert (bytes(rig.got), bytes(got)) == (up, down)


async def test_a_reader_that_stalls_holds_the_agent_back(rig: Rig) -> None:
    total = 40_000_000  # more than pipe, window and queues together
    sent = 0

    async def agent() -> None:
        nonlocal sent
        while sent < total:
            rig.agent.write(bytes(65536))
            sent += 65536
            await rig.agent.drain()

    rig.tasks.spawn(agent(), "flood")
    await asyncio.sleep(3600)
    assert sent < 12_000_000


async def test_a_pipe_that_ends_is_told_as_a_fact_and_without_a_cause(rig: Rig) -> None:
    os.write(rig.ssh_writes, b"last words")
    rig.close_ssh()
    mine, theirs = await rig.client_over, await rig.agent_over
    assert mine.facts == (
        ev.LocalSideClosed(vantage=Vantage.CLIENT, at=EPOCH, signal=0, unanswered_s=0.0),
    )
    assert theirs.facts == mine.facts
    assert bytes(rig.got) == b"last words"


async def test_the_hangup_that_ssh_sends_when_it_ends_is_no_fact_of_its_own(rig: Rig) -> None:
    rig.bridge.signalled(BY_SSH)
    os.write(rig.ssh_writes, b"SSH_MSG_DISCONNECT")
    rig.close_ssh()
    mine, theirs = await rig.client_over, await rig.agent_over
    assert (kinds(mine), kinds(theirs)) == (["local_side_closed"], ["local_side_closed"])
    assert local_closed(signal.SIGHUP)(mine.facts[-1])
    assert bytes(rig.got) == b"SSH_MSG_DISCONNECT"


async def test_a_closed_terminal_is_told_if_ssh_had_something_to_say_after_it(rig: Rig) -> None:
    await asyncio.sleep(1)
    rig.bridge.signalled(BY_THE_TERMINAL)
    os.write(rig.ssh_writes, b"SSH_MSG_DISCONNECT")
    rig.close_ssh()
    await rig.client_over
    assert (await rig.agent_over).facts == (
        ev.SignalReceived(
            vantage=Vantage.CLIENT,
            at=EPOCH + 1,
            party=Party.CLIENT,
            signal=signal.SIGHUP,
            sender="the kernel",
        ),
        ev.LocalSideClosed(
            vantage=Vantage.CLIENT, at=EPOCH + 1, signal=signal.SIGHUP, unanswered_s=0.0
        ),
    )


async def test_a_hangup_that_follows_from_the_death_of_ssh_is_not_its_reason(rig: Rig) -> None:
    rig.close_ssh()  # killed, as the leader of its session: the kernel hangs us up
    rig.bridge.signalled(BY_THE_TERMINAL)
    await rig.client_over
    assert kinds(await rig.agent_over) == ["local_side_closed"]


async def test_nor_is_it_where_it_comes_before_the_pipes_end(rig: Rig) -> None:
    rig.bridge.signalled(BY_THE_TERMINAL)
    rig.close_ssh()
    assert local_closed(0)((await rig.client_over).facts[-1])
    assert kinds(await rig.agent_over) == ["local_side_closed"]


async def test_the_hangup_of_an_ssh_that_has_closed_its_pipe_already_counts(rig: Rig) -> None:
    rig.close_ssh()
    await asyncio.sleep(SIGNAL_S / 2)
    rig.bridge.signalled(BY_SSH)
    assert local_closed(signal.SIGHUP)((await rig.client_over).facts[-1])


async def test_the_end_of_the_pipe_tells_for_how_long_nothing_was_answered(rig: Rig) -> None:
    rig.cable.go_silent()
    os.write(rig.ssh_writes, b"anybody there?")
    await asyncio.sleep(7)
    rig.bridge.signalled(BY_SSH)
    rig.close_ssh()
    closed = (await rig.client_over).facts[-1]
    assert isinstance(closed, ev.LocalSideClosed)
    assert closed.unanswered_s == pytest.approx(7, abs=0.1)


async def test_asked_to_stop_while_ssh_stays_we_leave_and_say_who_asked(rig: Rig) -> None:
    began = rig.loop.time()
    rig.bridge.signalled(BY_SOMEBODY)
    mine, theirs = await rig.client_over, await rig.agent_over
    assert DRAIN_S <= rig.loop.time() - began < DRAIN_S + 1
    actor = "signal:15 from pid 77 uid 0"
    assert kinds(mine) == ["signal_received", "goodbye_said"]
    assert rig.bridge.left_for == actor
    noted, said = theirs.facts
    assert isinstance(noted, ev.SignalReceived)
    assert isinstance(said, ev.GoodbyeSaid)
    assert (said.by, said.cause, said.actor) == (Party.CLIENT, "client.closed", actor)


async def test_ssh_may_finish_what_it_is_saying_after_we_were_asked_to_stop(rig: Rig) -> None:
    rig.bridge.signalled(BY_SOMEBODY)
    await asyncio.sleep(DRAIN_S / 2)
    os.write(rig.ssh_writes, b"more")
    rig.close_ssh()
    await rig.client_over
    assert kinds(await rig.agent_over) == ["signal_received", "local_side_closed"]
    assert (bytes(rig.got), rig.bridge.left_for) == (b"more", "")


async def test_ctrl_c_ends_nothing(rig: Rig) -> None:
    rig.bridge.signalled(CTRL_C)
    await asyncio.sleep(3600)
    assert not rig.client_over.done()
    os.write(rig.ssh_writes, b"SSH_MSG_DISCONNECT")
    rig.close_ssh()
    await rig.client_over
    assert kinds(await rig.agent_over) == ["signal_received", "local_side_closed"]


async def test_a_broken_stdout_ends_it_even_if_stdin_stays_open(rig: Rig) -> None:
    os.close(rig.ssh_reads)
    rig.ssh_reads = -1
    rig.agent.write(b"anybody there?")
    await rig.client_over
    assert kinds(await rig.agent_over) == ["local_side_closed"]


async def test_the_agents_goodbye_comes_after_its_last_byte(rig: Rig) -> None:
    rig.agent.write(b"bye")
    rig.agent.leave("agent.shutdown", actor="signal:15")
    cell = await rig.client_over
    assert os.read(rig.ssh_reads, 100) == b"bye"
    (said,) = cell.facts
    assert isinstance(said, ev.GoodbyeSaid)
    assert (said.by, said.cause, said.actor) == (Party.AGENT, "agent.shutdown", "signal:15")


async def test_what_comes_after_the_agents_goodbye_is_a_symptom(rig: Rig) -> None:
    rig.agent.leave("agent.shutdown")
    await rig.until(lambda: rig.bridge.tunnel.cell.ended)
    rig.close_ssh()
    cell = await rig.client_over
    assert kinds(cell) == ["goodbye_said"]
    assert [fact.kind for fact in cell.symptoms][:1] == ["local_side_closed"]


async def test_the_result_of_the_last_session_is_handed_over(rig: Rig) -> None:
    rig.agent.send(SessionResult(exit_signal="TERM"))
    await rig.until(lambda: bool(rig.results))
    assert rig.results == [SessionResult(exit_signal="TERM")]
