"""Terminals with real programs on real PTYs, and the real screen host."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from functools import partial

import pytest

from tests.support.agent.terminal_rig import TerminalRig, cells
from tests.support.deadline import DEADLINE_S
from tether.agent.process.environment import Account
from tether.agent.process.process import Processes
from tether.agent.screen.client import Screens
from tether.agent.terminal.service import TerminalSettings, start_program
from tether.agent.terminal.viewers import QUEUE_MAX
from tether.protocol.terminal.attach import agent_goodbye


@pytest.fixture
async def rig() -> AsyncIterator[TerminalRig]:
    processes = Processes()
    rig = TerminalRig(screens=Screens(processes))
    settings = TerminalSettings(
        account=Account("worker", "/", "/bin/sh"), directory="/", env={"PS1": "$ "}
    )
    rig.terminals._start = partial(start_program, processes, settings)
    async with asyncio.timeout(DEADLINE_S):
        yield rig
    rig.terminals.abandon(agent_goodbye("agent.shutdown", rig.clock.now()))
    await rig.terminals.close(timeout=DEADLINE_S)
    await processes.end_all()


async def test_a_real_shell_survives_its_client(rig: TerminalRig) -> None:
    wire = await rig.watching(rows=24, cols=80)
    wire.send(b"tty; echo $TERM; stty size; X=kept\r")
    await wire.until(lambda: b"24 80" in wire.screen())
    assert b"xterm-256color" in wire.screen()
    wire.detach()
    back = await rig.watching(rows=24, cols=80)
    assert b"24 80" in back.screen()
    back.send(b"echo is $X; exit 3\r")
    told = await back.over()
    assert told is not None
    assert b"is kept" in back.output
    assert (told.cause, told.exit_code) == ("session.exit", 3)


async def test_a_real_command_that_is_over_at_once_is_seen(rig: TerminalRig) -> None:
    wire = rig.client(command="printf 'f\\303\\274nf'; exit 5")
    told = await wire.over()
    assert told is not None
    assert "fünf".encode() in wire.screen()
    assert told.exit_code == 5


async def test_a_program_knows_the_connection_that_opened_its_terminal(rig: TerminalRig) -> None:
    wire = rig.client(command='[ "$SSH_TTY" = "$(tty)" ] && echo "opened by $TETHER_USER"')
    await wire.over()
    assert b"opened by alice" in wire.screen()


async def test_a_crash_of_the_screen_host_ends_nothing(rig: TerminalRig) -> None:
    wire = await rig.watching()
    host = rig.screens._process
    assert host is not None
    host.signal(signal.SIGKILL)
    wire.send(b"echo a''live\r")
    await wire.until(lambda: b"alive" in wire.output)
    while rig.screens._process is host:
        await asyncio.sleep(0)
    wire.send(b"echo and-b''ack\r")
    await wire.until(lambda: b"and-back" in wire.output)
    back = await rig.watching("bob")
    assert back.snapshots[0].exact
    assert b"and-back" in back.screen()


async def test_a_flood_is_stopped_at_once_by_who_looks_on(rig: TerminalRig) -> None:
    fast, slow = await rig.watching(), await rig.watching("bob")
    slow.attach.pause_writing()
    fast.send(b"yes\r")
    await fast.until(lambda: fast.sent > 2 << 20)
    fast.send(b"\x03")
    fast.send(b"echo stop''ped\r")
    await fast.until(lambda: b"stopped" in fast.tail)
    slow.attach.resume_writing()
    await slow.until(lambda: b"stopped" in slow.tail)
    assert slow.sent < QUEUE_MAX


async def test_vim_looks_the_same_to_whoever_comes_back_in_the_middle(rig: TerminalRig) -> None:
    if shutil.which("vim") is None:
        pytest.skip("vim is not installed")
    stays, goes = await rig.watching(), await rig.watching("bob")
    goes.send(b"vim -u NONE -N -n -i NONE -c 'syntax on' -c 'set nu hls' /etc/passwd\r")
    await goes.until(lambda: b"root" in goes.tail)
    goes.send(b":vsplit\rgg/sh\rVjj")
    await goes.until(lambda: b"VISUAL" in goes.tail)
    goes.detach()
    back = await rig.watching("bob")
    back.send(b"d:q\r:set nohls\ri\xe6\x97\xa5 done")
    await back.until(lambda: b"done" in back.tail)
    await stays.until(lambda: b"done" in stays.tail)
    assert cells(back.screen()) == cells(stays.screen())
    back.send(b"\x1b:q!\r")
    await back.until(lambda: b"?1049l" in back.tail)
    back.send(b"echo l''eft\r")
    await back.until(lambda: b"left" in back.tail)
    await stays.until(lambda: b"left" in stays.tail)
    assert cells(back.screen()) == cells(stays.screen())
