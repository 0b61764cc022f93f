"""Each way a control link can end is a cause of its own: an agent and a server on hosts of their own.

One laboratory and one agent for all of them, one end after another. What the agent logs is what it can
know alone, at once; the record is what both ends know together.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import build
from tests.support.deadline import DEADLINE_S
from tether_gauntlet.lab import faults
from tether_gauntlet.lab.program import Program
from tether_gauntlet.lab.shell import wait_for
from tether_gauntlet.lab.stack import SERVER_PORT, LabStack, Row, kill_server
from tether_gauntlet.lab.topology import internet

pytestmark = pytest.mark.lab

QUICK = ("--ping-every", "1", "--patience", "3", "--agent-grace", "1")
STREAMS = (
    "disconnected from coordination RPC",
    "disconnected from derp map RPC",
    "disconnected from server",
)


@dataclass
class Watch:
    """One agent's log, an end at a time."""

    stack: LabStack
    agent: Program
    seen: int = 0

    def link(self) -> str:
        """The agent's link that is up and coordinated, once there is one."""

        def check() -> str | None:
            lines = self.agent.events()
            events = [line for line in lines if line["event"].startswith(("conn", "disc"))]
            last = events[-1] if events else {}
            up = last.get("event") == "connected to coordination RPC"
            return str(last["connection_id"]) if up else None

        return wait_for("a coordinated link", check, DEADLINE_S, shown=self.agent.tail)

    def end(self) -> dict[str, Any]:
        """The next end of a link: one line for each of its streams, and all say the same."""

        def check() -> list[dict[str, Any]] | None:
            ends = self.agent.events(STREAMS[-1])
            return ends if len(ends) > self.seen else None

        ends = wait_for("the end of the link", check, DEADLINE_S, shown=self.agent.tail)
        link = ends[self.seen]
        self.seen += 1
        told = [
            line
            for line in self.agent.events()
            if line.get("connection_id") == link["connection_id"] and "disconnect_cause" in line
        ]
        assert sorted(line["event"] for line in told) == sorted(STREAMS)
        fields = [{k: v for k, v in line.items() if k.startswith("disc")} for line in told]
        assert fields == [fields[0]] * len(STREAMS)
        return link

    def row(self, connection_id: str, cause: str = "") -> Row:
        """The row of a link, once it is closed (for that cause)."""

        def check() -> Row | None:
            rows = self.stack.connections(type="control")
            (row,) = [one for one in rows if one["connection_id"] == connection_id]
            good = row["disconnected_at"] and (not cause or row["disconnect_cause"] == cause)
            return row if good else None

        def shown() -> str:
            return json.dumps(self.stack.explain(connection_id), indent=1)

        return wait_for(f"the row of the link, {cause}", check, DEADLINE_S, shown=shown)


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    topology = internet(clients=0, relays=(), agents=2)
    with (
        build(topology, tmp_path_factory.mktemp("ends")) as lab,
        LabStack(lab, server_options=QUICK) as stack,
    ):
        stack.create_workspace()
        yield Watch(stack, stack.start_agent())


def truth(end: Row) -> tuple[str, str, bool]:
    return end["disconnect_cause"], end["disconnect_initiator"], end["disconnect_expected"]


def test_a_server_that_is_restarted_says_so(watch: Watch) -> None:
    link = watch.link()
    watch.stack.server.stop()
    end = watch.end()
    assert truth(end) == ("server.shutdown", "server", True)
    assert end["disconnect_actor"].startswith("signal:15")
    watch.stack.start_server()
    assert truth(watch.row(link)) == truth(end)


def test_a_server_that_is_killed_has_vanished_and_then_crashed(watch: Watch) -> None:
    link = watch.link()
    kill_server(watch.stack)
    assert truth(watch.end()) == ("server.vanished", "server", False)
    watch.stack.start_server()
    assert truth(watch.row(link)) == ("server.crashed", "server", False)


def test_a_server_that_stands_still_is_unresponsive_and_not_unreachable(watch: Watch) -> None:
    link = watch.link()
    fault = faults.stop_process(watch.stack.lab, watch.stack.server)
    try:
        assert truth(watch.end()) == ("server.unresponsive", "server", False)
    finally:
        fault.undo()
    assert truth(watch.row(link, "server.unresponsive"))[1:] == ("server", False)


def test_a_cut_cable_is_the_networks_doing(watch: Watch) -> None:
    link = watch.link()
    fault = faults.blackhole(watch.stack.lab, "agent1")
    try:
        end = watch.end()
    finally:
        fault.undo()
    assert truth(end) == ("server.unreachable", "network", False)
    row = watch.row(link, "network.path_lost")
    assert truth(row) == ("network.path_lost", "network", False)


def test_a_link_that_is_reset_in_between_is_the_networks_doing(watch: Watch) -> None:
    link = watch.link()
    fault = faults.reset(watch.stack.lab, "agent1")
    try:
        end = watch.end()
        alone = watch.row(link)  # the server heard nothing more, and has no more to say
    finally:
        fault.undo()
    assert truth(end) == ("network.middlebox_reset", "network", False)
    assert truth(alone) == ("agent.unreachable", "network", False)
    watch.link()
    assert truth(watch.row(link))[1:] == ("network", False), "nor does the agent's word change that"


def test_a_token_that_is_replaced_ends_the_link_that_it_opened(watch: Watch) -> None:
    watch.link()
    server = watch.stack.lab["server"]
    connection = http.client.HTTPConnection("127.0.0.1", SERVER_PORT)
    connection.sock = server.connect("127.0.0.1", SERVER_PORT, 10)
    try:
        headers = {"Authorization": f"Bearer {watch.stack.admin_token}"}
        connection.request(
            "POST", "/api/v1/workspaces/dev/agent-token?at_once=true", headers=headers
        )
        token = json.loads(connection.getresponse().read())["agent_token"]
    finally:
        connection.close()
    watch.stack.workspaces["dev"].token_file.write_text(token)
    assert truth(watch.end()) == ("auth.token_revoked", "server", True)


def test_a_second_agent_is_told_of_and_it_is_the_older_one_that_ends(watch: Watch) -> None:
    link = watch.link()
    second = watch.stack.start_agent(host="agent2")
    try:
        end = watch.end()
        assert truth(end) == ("agent.superseded", "server", False)
        assert "connected with the token of workspace dev" in end["disconnect_detail"]
        assert truth(watch.row(link)) == truth(end)
    finally:
        second.stop()
        watch.stack.agents["dev"] = watch.agent


def test_an_agent_that_is_too_old_is_told_so(watch: Watch, tmp_path: Path) -> None:
    stack = watch.stack
    watch.agent.stop()
    stack.server.stop()
    stack.server_options = (*QUICK, "--min-agent-version", "99.1")
    stack.start_server()
    before = stack.ids()
    old = stack.start_agent(wait=False)
    failed = old.wait_event("failed to dial server")
    assert failed["cause"] == "agent.outdated"
    assert "from version 99.1 on" in failed["error"]
    assert not any("disconnect_cause" in line for line in old.events()), "it was no link"
    row = stack.wait_closed(before, connect_type="server_to_agent")
    assert truth(row) == ("agent.outdated", "server", False)
