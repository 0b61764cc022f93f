"""A stop of the workspace or of the agent, as each kind of connection is told of it: once, and never
over an earlier end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

import asyncssh
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.support.agent.agent_rig import AgentRig
from tests.support.deadline import DEADLINE_S
from tether.agent.tunnels.service import EndOrder
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.protocol.messages.reports import ForwardRecord

Client = asyncssh.SSHClientConnection
Line = EventDict


def said(by: Party, cause: str, actor: str) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=Vantage.AGENT, at=5.0, by=by, cause=cause, actor=actor)


USER_STOP = said(Party.SERVER, "workspace.stopped", "user:alice")
AUTOSTOP = said(Party.SERVER, "workspace.autostop", "policy:autostop")
SHUTDOWN = said(Party.AGENT, "agent.shutdown", "signal:15 from pid 1")

STOPS = [
    pytest.param(USER_STOP, ("workspace_stopped", "server", True, "user:alice"), id="stop"),
    pytest.param(AUTOSTOP, ("workspace_stopped", "server", True, "policy:autostop"), id="autostop"),
    pytest.param(
        SHUTDOWN, ("server_shutdown", "agent", True, "signal:15 from pid 1"), id="shutdown"
    ),
]


def stop(agent: AgentRig, because: ev.GoodbyeSaid = USER_STOP) -> None:
    agent.server.end(None, EndOrder(because, "it ends"))


def fields(line: Line) -> tuple[str, str, bool, str]:
    return (
        line["disconnect_reason"],
        line["disconnect_initiator"],
        line["disconnect_expected"],
        line["disconnect_actor"],
    )


def ends(lines: Sequence[Line], event: str) -> list[Line]:
    return [line for line in lines if line["event"] == event]


async def knows(agent: AgentRig) -> None:
    """Wait until the agent's only connection knows why it ends."""
    (connection,) = agent.server.live.values()
    while not connection.cell.ended:
        await asyncio.sleep(0)


def cause(facts: tuple[ev.Evidence, ...]) -> str:
    return classify(ConnectType.AGENT_TO_CLIENT, facts).disconnect.cause


# -- one line, with who and why --------------------------------------------------------------------


@pytest.mark.parametrize(("because", "expected"), STOPS)
async def test_a_session_has_one_end_and_its_connection_one_with_who_stopped_it(
    agent: AgentRig, because: ev.GoodbyeSaid, expected: tuple[str, str, bool, str]
) -> None:
    with capture_logs() as lines:
        client = await agent.connect()
        process = await client.create_process("echo ready; cat")
        await process.stdout.readline()
        stop(agent, because)
        end = await agent.end()
    (line,) = ends(lines, "ssh connection closed")
    assert fields(line) == expected
    assert line["connection_id"] == end.connection_id
    (session,) = ends(lines, "ssh session ended")
    assert (session["connection_id"], session["exit_code"]) == (end.connection_id, None)
    assert [(r.ended_at is None, r.exit_code) for r in agent.records[:2]] == [
        (True, None),
        (False, None),
    ]


@pytest.mark.parametrize(("because", "expected"), STOPS)
async def test_a_connection_that_only_forwards_has_one_end_with_who_stopped_it(
    agent: AgentRig, because: ev.GoodbyeSaid, expected: tuple[str, str, bool, str]
) -> None:
    """It has no session whose end would tell: its own line is all there is (`ssh -N -L`)."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        with capture_logs() as lines:
            client = await agent.connect()
            port = server.sockets[0].getsockname()[1]
            reader, writer = await client.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            stop(agent, because)
            end = await agent.end()
    (line,) = ends(lines, "ssh connection closed")
    assert fields(line) == expected
    assert line["connection_id"] == end.connection_id
    assert ends(lines, "ssh session ended") == []
    *_, forward = [item for item in agent.items if isinstance(item, ForwardRecord)]
    assert (forward.end, forward.cause) == ("connection_ended", because.cause)


async def test_a_session_whose_input_has_ended_is_still_ended_by_the_stop(
    agent: AgentRig, client: Client
) -> None:
    """`ssh host make </dev/null`: the end of its input is no end of the session."""
    process = await client.create_process("echo ready; cat >/dev/null; echo read; exec sleep 60")
    assert await process.stdout.readline() == "ready\n"
    process.stdin.write_eof()
    assert await process.stdout.readline() == "read\n"
    assert agent.records[-1].ended_at is None
    stop(agent)
    assert cause((await agent.end()).cell.facts) == "workspace.stopped"
    assert agent.records[-1].ended_at is not None


async def test_the_stop_waits_until_every_end_is_logged(agent: AgentRig) -> None:
    clients = [await agent.connect() for _ in range(3)]
    await clients[0].create_process("cat", term_type="xterm")
    waited = set(agent.server.live)
    with capture_logs() as lines:
        stop(agent, SHUTDOWN)
        await agent.server.close(timeout=DEADLINE_S)
        closed = ends(lines, "ssh connection closed")
    assert {line["connection_id"] for line in closed} == waited
    assert [line["disconnect_cause"] for line in closed] == ["agent.shutdown"] * 3
    assert agent.server.live == {}


# -- what ended before the stop keeps its own end ---------------------------------------------------


def breaks_off(agent: AgentRig) -> None:
    agent.cables[0].reset()


def is_killed(agent: AgentRig) -> None:
    agent.clients[0].vanish_politely()


@pytest.mark.parametrize("leaves", [breaks_off, is_killed])
async def test_a_connection_whose_transport_ended_first_keeps_that_end(
    agent: AgentRig, leaves: Callable[[AgentRig], None]
) -> None:
    client = await agent.connect()
    process = await client.create_process("echo ready; cat", term_type="xterm")
    await process.stdout.readline()
    leaves(agent)
    await knows(agent)
    (connection,) = agent.server.live.values()
    before = cause(connection.cell.facts)
    with capture_logs() as lines:
        stop(agent)
        end = await agent.end()
    (line,) = ends(lines, "ssh connection closed")
    assert line["disconnect_cause"] == before != "workspace.stopped"
    assert line["disconnect_actor"] == ""
    assert USER_STOP not in end.cell.facts


async def test_a_session_whose_channel_was_closed_first_keeps_its_end_while_its_process_runs(
    agent: AgentRig, client: Client
) -> None:
    process = await client.create_process("echo $$; trap '' HUP PIPE TERM; exec sleep 60")
    pid = int(str(await process.stdout.readline()))
    process.close()
    await process.wait_closed()
    while agent.records[-1].ended_at is None:
        await asyncio.sleep(0)
    ended = agent.records[-1]
    with capture_logs() as lines:
        stop(agent)
        end = await agent.end()
        await agent.server.close(timeout=DEADLINE_S)
    assert ends(lines, "ssh session ended") == []
    assert cause(end.cell.facts) == "workspace.stopped"  # of the connection, which lived
    late = agent.records[-1]
    assert (late.session_id, late.ended_at) == (ended.session_id, ended.ended_at)
    assert late.process_ended_at is not None
    assert late.exit_signal in ("HUP", "KILL")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_second_of_two_stops_changes_nothing(agent: AgentRig) -> None:
    client = await agent.connect()
    await client.create_process("cat")
    stop(agent, AUTOSTOP)
    stop(agent, SHUTDOWN)
    end = await agent.end()
    assert cause(end.cell.facts) == "workspace.autostop"
    assert SHUTDOWN in end.cell.symptoms
