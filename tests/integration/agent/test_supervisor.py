"""The agent's life in real processes: how it is ready, stands by, dies, and stops in order."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent.played_server import DISCONNECT_FIELDS
from tests.support.agent.played_site import Agent, PlayedClient, Site, opened, site
from tests.support.deadline import DEADLINE_S
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, Party, StreamEnd
from tether.protocol.messages.base import facts_of
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import (
    EndConnections,
    Goodbye,
    Welcome,
    WorkspaceStart,
    WorkspaceStop,
)
from tether.protocol.messages.reports import Ended, LifecycleRecord, PathRecord, Report, ReportItem
from tether.protocol.messages.tunnel import OfferDeclined
from tether.version import VERSION

pytestmark = pytest.mark.anyio
ME = f"signal:15 from pid {os.getpid()} uid {os.geteuid()}"
A2C, S2A = ConnectType.AGENT_TO_CLIENT, ConnectType.SERVER_TO_AGENT


@pytest.fixture
def anyio_backend() -> str:
    """The agents choose their own loop; the test's does not matter."""
    return "asyncio"


def causes(played: Site, connect_type: ConnectType = A2C) -> dict[str, tuple[str, str]]:
    """Connection -> cause and actor, as the server would judge the agent's reports alone."""
    verdicts = {
        item.connection_id: classify(connect_type, facts_of(item.facts)).disconnect
        for item in played.reported()
        if isinstance(item, Ended)
    }
    return {name: (verdict.cause, verdict.actor) for name, verdict in verdicts.items()}


def heard(client: PlayedClient) -> tuple[str, str]:
    """What the client's own vantage makes of the end."""
    verdict = classify(A2C, client.tunnel.cell.facts).disconnect
    return verdict.cause, verdict.actor


async def stopped(agent: Agent, seconds: float = DEADLINE_S) -> int:
    """The exit code, and that it came in time."""
    async with asyncio.timeout(seconds):
        return await agent.exit_code()


# -- ready -------------------------------------------------------------------------------------


async def test_the_agent_says_who_it_is(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        ready = await agent.event("agent ready")
        assert (ready["workspace"], ready["workspace_id"], ready["connection_id"]) == (
            "dev",
            "ws-1",
            "link-1",
        )
        hello = (await played.server.link()).hello
        assert hello is not None
        assert (hello.role, hello.version, hello.open_connections) == ("agent", VERSION, [])
        assert hello.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert hello.ssh_host_key.startswith("ssh-ed25519 AAAA")
        assert hello.hostname == os.uname().nodename
        assert hello.instance_id and hello.journal_id
        assert played.tokens == ["Bearer tether_agent_secret"]
        assert "tether_agent_secret" not in str(agent.lines)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"port": "nonsense"}, "tether: --server must be an http:// or https:// URL"),
        ({"token": None}, "tether: the token file {directory}/token cannot be read: No such file"),
        ({"token": ""}, "tether: the token file {directory}/token holds no agent's token"),
        ({"data_dir": "/proc/nowhere"}, "tether: the data directory /proc/nowhere cannot be used"),
    ],
    ids=["no URL", "no token file", "an empty token file", "no data directory"],
)
async def test_what_keeps_it_from_starting_is_one_line(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    async with site(tmp_path) as played:
        if change.get("token", "x") is None:
            played.token_file.unlink()
        elif "token" in change:
            played.token_file.write_text(change["token"])
        played.port = change.get("port", played.port)
        agent = await played.start(change.get("data_dir", "agent"), wait=False)
        assert await stopped(agent) == 1
        (line,) = agent.text
        assert line.startswith(sentence.format(directory=tmp_path))


async def test_a_second_agent_on_one_data_directory_is_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        first = await played.start()
        second = await played.start(wait=False)
        assert await stopped(second) == 1
        assert second.text == [
            f"tether: another `tether agent` (pid {first.process.pid}) already uses "
            f"{tmp_path}/agent: stop it, or choose another --data-dir"
        ]
        assert first.process.returncode is None


async def test_a_refused_token_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        sentence = "this token was revoked: make a new one with `tether workspace token dev`"
        played.refusal = {"code": "token_revoked", "message": sentence}
        agent = await played.start(wait=False)
        assert await stopped(agent) == 1
        (line,) = [line for line in agent.lines if line["level"] == "error"]
        assert (line["event"], line["error"]) == ("server refused this agent", sentence)
        assert not any(line.keys() & DISCONNECT_FIELDS for line in agent.lines)


async def test_an_agent_without_its_server_waits_for_it(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        await played.vanish()
        agent = await played.start(wait=False)
        failed = await agent.event("failed to dial server", 2)
        assert failed["error"] == (
            f"nothing listens at 127.0.0.1:{played.port}: is the server running?"
        )
        assert not any(line.keys() & DISCONNECT_FIELDS for line in agent.lines)
        await played.listen()
        await agent.event("agent ready")


# -- the states of its life --------------------------------------------------------------------


def states(played: Site) -> list[str]:
    """What was told over all links, as a server files it: a number of a journal once, although what a
    lost link did not acknowledge comes again."""
    reports = [m for link in played.server.links for m in link.heard if isinstance(m, Report)]
    filed: dict[tuple[str, int], ReportItem] = {}
    for report in reports:
        for seq, item in enumerate(report.items, report.first_seq):
            filed.setdefault((report.journal_id, seq), item)
    return [item.state for item in filed.values() if isinstance(item, LifecycleRecord)]


UP = ["created", "starting", "ready"]


@pytest.mark.parametrize(
    ("script", "final"),
    [
        ("", "off"),
        ("exit 0", "off"),
        ("exit 3", "shutdown_error"),
        ("trap '' TERM; while :; do sleep 0.05; done", "shutdown_timeout"),
    ],
    ids=["no script", "it works", "it fails", "it does not end"],
)
async def test_a_life_is_told_from_created_to_how_the_stop_script_ended(
    tmp_path: Path, script: str, final: str
) -> None:
    async with site(tmp_path) as played:
        agent = await played.start(stop_script=script)
        (link,) = played.server.links
        await link.until(lambda: states(played) == UP)
        agent.kill()
        assert await stopped(agent) == 0
        assert states(played) == [*UP, "shutting_down", final]
        assert [line["state"] for line in agent.events("lifecycle state")] == states(played)
        assert agent.events("attempted to set lifecycle state to a previous state") == []
        assert agent.events("failed to report final lifecycle state") == []


async def test_states_that_were_entered_without_a_server_are_told_later_in_order(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        (link,) = played.server.links
        await link.until(lambda: states(played) == UP)
        await played.vanish()
        await agent.event("disconnected from server")
        agent.kill()
        assert await stopped(agent) == 0
        (line,) = agent.events("failed to report final lifecycle state")
        assert line["state"] == "off"
        await played.listen()
        await played.start()
        again = await played.server.link(2)
        await again.until(lambda: len(states(played)) == 8)
        assert states(played) == [*UP, "shutting_down", "off", *UP]


async def test_a_link_that_is_lost_neither_loses_nor_repeats_a_state(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        (link,) = played.server.links
        await link.until(lambda: states(played) == UP)
        link.stream.abort()  # type: ignore[attr-defined]
        await played.server.link(2)
        await agent.event("connected to server", 2)
        agent.kill()
        assert await stopped(agent) == 0
        assert states(played) == [*UP, "shutting_down", "off"]


async def test_a_workspace_that_is_stopped_and_started_is_another_life(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        (link,) = played.server.links
        link.say(STOP)
        await link.until(lambda: states(played) == [*UP, "shutting_down", "off"])
        link.say(WorkspaceStart(actor="user:alice"))
        await link.until(lambda: states(played) == [*UP, "shutting_down", "off", *UP])
        agent.kill()
        assert await stopped(agent) == 0
        assert states(played)[8:] == ["shutting_down", "off"]


async def test_an_agent_that_stands_by_has_no_more_than_been_created(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        played.server.welcome = {"workspace_running": False}
        agent = await played.start()
        (link,) = played.server.links
        await link.until(lambda: states(played) == ["created"])
        agent.kill()
        assert await stopped(agent) == 0
        assert states(played) == ["created", "shutting_down", "off"]


# -- tunnels -----------------------------------------------------------------------------------


async def test_a_tunnel_is_reported_from_its_opening_to_its_end(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        client = await played.tunnel("t1")
        client.tunnel.leave("client.closed")
        await agent.event("ssh connection closed")
        (link,) = played.server.links
        await link.until(lambda: "t1" in causes(played))
        kinds = [type(item).__name__ for item in played.reported() if item.connection_id == "t1"]
        assert kinds == ["Opened", "PathRecord", "Ended"]
        (line,) = agent.events("ssh connection closed")
        assert (line["connection_id"], line["disconnect_cause"]) == ("t1", "client.closed")


async def test_an_offer_that_cannot_be_joined_is_declined(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        played.relay_refusal = "the ticket has expired"
        (link,) = played.server.links
        link.say(played.offer("t1"))
        assert await link.hear(OfferDeclined) == [
            OfferDeclined(
                connection_id="t1",
                message="the agent could not join the tunnel: the ticket has expired",
            )
        ]
        assert opened(played.reported()) == []
        assert agent.events("ssh connection closed") == []


async def test_sessions_live_on_while_the_server_is_away(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        client = await played.tunnel("t1")
        (link,) = played.server.links
        assert isinstance(link.stream, object)
        link.stream.abort()  # type: ignore[attr-defined]
        line = await agent.event("disconnected from server")
        assert (line["disconnect_cause"], line["connection_id"]) == ("server.vanished", "link-1")
        again = await played.server.link(2)
        assert again.hello is not None
        assert set(again.hello.open_connections) >= {"t1"}
        await again.until(lambda: "link-1" in causes(played, S2A))
        assert causes(played, S2A) == {"link-1": ("server.vanished", "")}
        assert not client.over.is_set()
        assert len(agent.events("agent ready")) == 1
        assert len(agent.events("connected to server")) == 2


async def test_only_the_named_connections_are_ended(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        await played.start()
        alices, bobs = await played.tunnel("t1"), await played.tunnel("t2")
        (link,) = played.server.links
        link.say(
            EndConnections(
                connection_ids=["t1", "t9"], cause="auth.user_revoked", actor="admin:root"
            )
        )
        await alices.over.wait()
        await link.until(lambda: "t1" in causes(played))
        assert causes(played) == {"t1": ("auth.user_revoked", "admin:root")}
        assert heard(alices) == ("auth.user_revoked", "admin:root")
        assert not bobs.over.is_set()


# -- standing by -------------------------------------------------------------------------------

STOP = WorkspaceStop(cause="workspace.stopped", actor="user:alice", detail="lunch")
SAID = ("workspace.stopped", "user:alice")


async def test_a_stopped_workspace_ends_in_order_and_stands_by(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        client = await played.tunnel("t1")
        (link,) = played.server.links
        played.server.welcome = {"workspace_running": False}
        link.say(STOP)
        await client.over.wait()
        assert heard(client) == SAID
        await link.until(lambda: "t1" in causes(played))
        assert link.driver is not None
        link.driver.leave("workspace.stopped", actor="user:alice")  # as the hub does

        await agent.event("workspace is stopped; standing by")
        again = await played.server.link(2)
        await again.until(lambda: "link-1" in causes(played))
        assert causes(played) == {"t1": SAID, "link-1": SAID}
        again.say(played.offer("t2"))
        (declined,) = await again.hear(OfferDeclined)
        assert "tether workspace start dev" in declined.message

        again.say(WorkspaceStart(actor="user:alice"))
        await agent.event("workspace started")
        assert not (await played.tunnel("t3")).over.is_set()
        ends = [(line["connection_id"], line["disconnect_cause"]) for line in ended_lines(agent)]
        assert ends == [("t1", "workspace.stopped"), ("link-1", "workspace.stopped")]


def ended_lines(agent: Agent) -> list[dict[str, Any]]:
    return [line for line in agent.lines if "disconnect_cause" in line]


async def test_a_server_that_does_not_leave_is_left_with_the_same_cause(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        (link,) = played.server.links
        played.server.welcome = {"workspace_running": False}
        link.say(STOP)
        assert await link.hear(Goodbye) == [
            Goodbye(cause="workspace.stopped", actor="user:alice", detail="lunch")
        ]
        await agent.event("workspace is stopped; standing by")


async def test_a_workspace_that_was_started_meanwhile_is_taken_up(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        played.server.welcome = {"workspace_running": False}
        agent = await played.start()
        await agent.event("workspace is stopped; standing by")
        played.server.welcome = {}
        (link,) = played.server.links
        assert link.driver is not None
        link.driver.leave("server.shutdown")
        await played.server.link(2)
        await agent.event("workspace started")
        await played.tunnel("t1")


async def test_the_agent_of_a_deleted_workspace_exits_with_0(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        client = await played.tunnel("t1")
        (link,) = played.server.links
        assert link.driver is not None
        link.driver.leave("workspace.deleted", actor="user:alice", retry_after_s=-1.0)
        assert await stopped(agent) == 0
        line = await agent.event("server dismissed this agent")
        assert line["reason"] == "The workspace was deleted by alice."
        assert heard(client) == ("workspace.deleted", "user:alice")


async def test_a_signal_during_a_stop_does_not_overwrite_its_cause(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        client = await played.tunnel("t1")
        (link,) = played.server.links
        link.say(STOP)
        await agent.event("workspace is stopping")
        agent.kill()
        assert await stopped(agent) == 0
        assert heard(client) == SAID
        assert await link.hear(Goodbye) == [
            Goodbye(cause="workspace.stopped", actor="user:alice", detail="lunch")
        ]
        assert [line["disconnect_cause"] for line in ended_lines(agent)] == [
            "workspace.stopped",
            "workspace.stopped",
        ]


# -- stopping ----------------------------------------------------------------------------------


async def test_sigterm_tells_everybody_who_asked(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        client = await played.tunnel("t1")
        agent.kill()
        assert await stopped(agent) == 0
        assert heard(client) == ("agent.shutdown", ME)
        (link,) = played.server.links
        *_, last = link.heard
        assert last == Goodbye(cause="agent.shutdown", actor=ME), "the goodbye follows the reports"
        assert causes(played) == {"t1": ("agent.shutdown", ME)}
        assert [line["event"] for line in agent.lines if line["event"].startswith("agent")] == [
            *("agent starting", "agent ready", "agent main loop exited", "agent stopped"),
        ]
        assert {(line["disconnect_cause"], line["level"]) for line in ended_lines(agent)} == {
            ("agent.shutdown", "info")
        }
        assert len(ended_lines(agent)) == 2

        again = await played.start()
        assert again.events("previous run died") == []
        second = await played.server.link(2)
        assert second.hello is not None
        assert "link-1" in second.hello.open_connections, "its end waits to be reported"
        await second.until(lambda: "link-1" in causes(played))
        assert causes(played, S2A)["link-1"] == ("agent.shutdown", ME)


@pytest.mark.parametrize("hanging_up", [True, False])
async def test_the_coordinator_is_left_before_the_link_and_waited_for_only_so_long(
    tmp_path: Path, hanging_up: bool
) -> None:
    async with site(tmp_path) as played:
        played.server.coordinating, played.server.hanging_up = True, hanging_up
        agent = await played.start()
        await agent.event("connected to coordination RPC")
        agent.kill()
        assert await stopped(agent) == 0
        told = [line["event"] for line in agent.lines]
        waited = (
            "coordinator RPC disconnected"
            if hanging_up
            else "timed out waiting for Coordinator RPC disconnect"
        )
        order = [
            *("shutting down agent", "disconnected from coordination RPC", waited),
            *("disconnected from server", "agent main loop exited", "agent stopped"),
        ]
        assert [event for event in told if event in order] == order
        assert {line["disconnect_cause"] for line in ended_lines(agent)} == {"agent.shutdown"}


async def test_an_agent_that_never_reached_the_coordinator_waits_for_nothing(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        agent.kill()
        assert await stopped(agent) == 0
        assert agent.events("coordinator RPC disconnected") == []
        assert agent.events("timed out waiting for Coordinator RPC disconnect") == []


async def test_a_stop_without_a_server_keeps_the_reports(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        played.resume_s = 0.3
        client = await played.tunnel("t1")
        await played.vanish()
        await agent.event("ssh connection closed")
        agent.kill()
        assert await stopped(agent) == 0
        assert client.over.is_set()
        await played.listen()
        await played.start()
        link = await played.server.link(2)
        assert link.hello is not None
        assert sorted(link.hello.open_connections) == ["link-1", "t1"]
        await link.until(lambda: {"t1", "link-1"} <= causes(played).keys())
        assert causes(played)["t1"] == ("client.unreachable", "")  # by any other relay
        assert causes(played, S2A)["link-1"] == ("server.vanished", "")


async def test_a_server_that_acknowledges_nothing_delays_the_stop_only_so_long(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as played:
        played.server.acknowledging = False
        agent = await played.start()
        client = await played.tunnel("t1")
        agent.kill()
        assert await stopped(agent) == 0
        assert heard(client) == ("agent.shutdown", ME)


async def test_a_second_signal_shortens_the_waits_and_keeps_the_causes(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        played.server.acknowledging = False
        agent = await played.start(flush_s=10 * DEADLINE_S)
        client = await played.tunnel("t1")
        (link,) = played.server.links
        agent.kill()
        await agent.event("ssh connection closed")
        agent.kill(signal.SIGINT)
        assert await stopped(agent) == 0
        assert heard(client) == ("agent.shutdown", ME)
        assert await link.hear(Goodbye) == [Goodbye(cause="agent.shutdown", actor=ME)]


async def test_a_hangup_without_a_terminal_is_ignored(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        agent.kill(signal.SIGHUP)
        await agent.event("hangup ignored")
        await played.tunnel("t1")


async def test_an_agent_whose_parent_is_killed_stops_in_order(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        parent = await played.start(as_child=True)
        client = await played.tunnel("t1")
        parent.kill(signal.SIGKILL)
        stopping = await parent.event("shutting down agent")
        assert stopping["actor"].startswith(f"signal:15 from pid {parent.process.pid} ")
        await parent.event("agent stopped")
        assert heard(client) == ("agent.shutdown", stopping["actor"])


async def test_an_agent_whose_parent_is_gone_already_does_not_start(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        orphan = await played.start(wait=False, TETHER_PARENT_PID="1")
        assert await stopped(orphan) == 1
        assert (orphan.lines, orphan.text) == (
            [],
            ["tether: the process that started this is gone"],
        )


# -- dying ---------------------------------------------------------------------------------------


async def test_a_killed_agent_is_explained_by_its_next_run(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        client = await played.tunnel("t1")
        (link,) = played.server.links
        await link.until(lambda: opened(played.reported()) == ["t1"])
        agent.kill(signal.SIGKILL)
        assert await agent.exit_code() == -signal.SIGKILL
        await client.over.wait()
        (lost,) = [f for f in client.tunnel.cell.facts if isinstance(f, ev.StreamEnded)]
        assert (lost.peer, lost.how) == (Party.RELAY, StreamEnd.EOF)

        again = await played.start()
        died = await again.event("previous run died")
        assert (died["previous_pid"], died["open_connections"]) == (agent.process.pid, 2)
        assert died["host_rebooted"] is False
        assert not any(line.keys() & DISCONNECT_FIELDS for line in again.lines)
        second = await played.server.link(2)
        assert second.hello is not None
        assert sorted(second.hello.open_connections) == ["link-1", "t1"]
        await second.until(lambda: {"t1", "link-1"} <= causes(played).keys())
        assert causes(played) == {
            "t1": ("agent.killed", "signal:9"),
            "link-1": ("agent.killed", "signal:9"),
        }
        first_hello = link.hello
        assert first_hello is not None
        assert second.hello.journal_id == first_hello.journal_id
        assert second.hello.instance_id != first_hello.instance_id


def used(items: list[ReportItem]) -> set[str]:
    """The connections of which a carrier is told to be in use."""
    return {item.connection_id for item in items if isinstance(item, PathRecord)}


async def test_reports_survive_a_kill_and_are_not_sent_twice_once_acknowledged(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as played:
        agent = await played.start()
        (await played.tunnel("t1")).tunnel.leave("client.closed")
        (link,) = played.server.links
        await link.until(lambda: "t1" in causes(played))
        played.server.acknowledging = False
        client = await played.tunnel("t2")
        for told in (opened, used):  # one batch at a time: the next comes when this one is settled
            await link.until(lambda told=told: "t2" in told(played.reported()))  # type: ignore[misc]
            link.acknowledge([one for one in link.heard if isinstance(one, Report)][-1])
        client.tunnel.leave("client.closed")
        await link.until(lambda: "t2" in causes(played))  # heard, and not acknowledged
        agent.kill(signal.SIGKILL)
        await agent.exit_code()

        played.server.acknowledging = True
        await played.start()
        second = await played.server.link(2)
        await second.until(lambda: causes(played).keys() >= {"t2", "link-1"})
        again = [item for m in second.heard if isinstance(m, Report) for item in m.items]
        assert "t1" not in {item.connection_id for item in again}
        assert causes(played)["t2"] == ("client.closed", "")


async def test_a_welcome_of_a_newer_server_is_understood(tmp_path: Path) -> None:
    async with site(tmp_path) as played:
        played.server.welcome = {"protocol": (PROTOCOL[0], 99), "capabilities": ["time-travel"]}
        agent = await played.start()
        assert (await agent.event("agent ready"))["workspace"] == "dev"
        assert isinstance(played.server.next_answer(), Welcome)
