"""An SSH connection whose tunnel loses its carriers: sessions live on, and nothing is lost."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from tests.support.agent.agent_rig import AgentRig, agent_rig
from tests.support.clock import LoopClock
from tether.agent.tunnels.service import EndOrder
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.tunnel.resume_policy import Waits

pytestmark = pytest.mark.anyio

PATIENT = Waits()


async def detached(agent: AgentRig) -> None:
    while agent.served[0].in_use or agent.clients[0].stream.in_use:
        await asyncio.sleep(0.001)


async def test_a_shell_goes_on_where_it_was(agent: AgentRig) -> None:
    agent.waits = PATIENT
    async with await agent.connect() as client:
        shell = await client.create_process("cat")
        shell.stdin.write("before\n")
        assert await shell.stdout.readline() == "before\n"
        agent.cables[0].reset()
        await detached(agent)
        shell.stdin.write("meanwhile\n")
        await asyncio.sleep(0.05)
        agent.another_carrier(2)
        assert await shell.stdout.readline() == "meanwhile\n"
        shell.stdin.write_eof()
        await shell.wait()
    end = await agent.end()
    kinds = [
        fact.kind for fact in end.cell.facts if fact.kind in ("carrier_ended", "tunnel_resumed")
    ]
    assert kinds[:2] == ["carrier_ended", "tunnel_resumed"]
    (lost,) = (f for f in end.cell.facts if isinstance(f, ev.CarrierEnded))
    assert (lost.carrier, lost.how) == (1, StreamEnd.RESET)


async def test_a_transfer_survives_the_loss_of_every_carrier(agent: AgentRig) -> None:
    agent.waits = PATIENT
    size = 24_000_000
    async with await agent.connect() as client:
        process = await client.create_process(
            f"head -c {size} /dev/zero | tr '\\0' x", encoding=None
        )
        digest, count, number, cable = hashlib.sha256(), 0, 1, agent.cables[0]
        while data := await process.stdout.read(1 << 20):
            digest.update(data)
            count += len(data)
            if count > number * 5_000_000:
                cable.reset()
                await detached(agent)
                number += 1
                cable = agent.another_carrier(number)
    assert (count, number) == (size, 5)
    assert digest.hexdigest() == hashlib.sha256(b"x" * size).hexdigest()


async def test_while_detached_a_program_waits_once_the_window_is_full(agent: AgentRig) -> None:
    agent.waits = PATIENT
    async with await agent.connect() as client:
        process = await client.create_process("yes", encoding=None, window=64 << 20)
        await process.stdout.read(1)
        agent.cables[0].reset()
        await detached(agent)
        before = -1
        while agent.served[0].unacked_bytes != before:
            before = agent.served[0].unacked_bytes
            await asyncio.sleep(0.3)
        assert 8 << 20 <= before < (9 << 20) + (1 << 19)
        agent.another_carrier(2)
        got = 0
        while got < 20_000_000:
            got += len(await process.stdout.read(1 << 20))
        process.kill()
        process.close()


async def test_an_agent_that_ends_a_detached_connection_does_so_with_its_cause(
    agent: AgentRig,
) -> None:
    agent.waits = PATIENT
    client = await agent.connect()
    agent.cables[0].reset()
    await detached(agent)
    said = ev.GoodbyeSaid(vantage=Vantage.AGENT, at=0.0, by=Party.AGENT, cause="agent.shutdown")
    agent.server.end(None, EndOrder(said, "the agent stops"))
    assert await agent.cause() == "agent.shutdown"
    client.abort()


@pytest.mark.virtual_time(grace=0.02)
async def test_a_client_that_is_cut_off_before_its_login_is_not_given_up(tmp_path: Path) -> None:
    async with agent_rig(tmp_path, clock=LoopClock(), login_timeout_s=5.0) as agent:
        agent.waits = PATIENT
        agent.tunnel()
        await asyncio.sleep(1)
        agent.cables[0].reset()
        await asyncio.sleep(20)
        assert agent.ends.empty()
        agent.another_carrier(2)
        assert await agent.cause() == "client.handshake_timeout"
