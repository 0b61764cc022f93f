"""An agent that can be dialled elsewhere is followed while a session lives, and no grant is needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tether_gauntlet.lab import faults
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.host import TETHER
from tether_gauntlet.lab.program import Program
from tether_gauntlet.lab.shell import wait_for
from tether_gauntlet.lab.stack import LabStack
from tether_gauntlet.lab.topology import Topology, internet

pytestmark = pytest.mark.lab

FETCH = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:5000/', timeout=20).status)"


def paths(forward: Program) -> list[tuple[str, str]]:
    """The ways that a session has taken so far: its method, and the host."""
    told: list[dict[str, Any]] = [json.loads(line) for line in forward.output().splitlines()]
    seen = [(one["method"], one["where"]) for one in told if one["event"] == "path"]
    return [(method, where.rpartition(":")[0]) for method, where in seen]


def test_a_client_follows_its_agent_to_addresses_that_no_grant_named(
    make_lab: Callable[[Topology], Lab],
) -> None:
    lab = make_lab(internet(relays=()))
    agent, client = lab["agent1"], lab["client"]
    link = lab.link_of("agent1")
    second, third = (f"{link.child_address.rpartition('.')[0]}.{last}" for last in (77, 78))

    def reached(host: str) -> Callable[[], bool]:
        return lambda: paths(forward)[-1:] == [("direct", host)]

    with LabStack.whole(lab) as stack:
        agent.start("web", [sys.executable, "-m", "http.server", "8000"])
        faults.blackhole(lab, "agent1", peer="client")
        forward = client.start(
            "forward-log", [*TETHER, "port-forward", "dev", "--json", "--tcp", "5000:8000"]
        )
        forward.wait_output(b'"listening"')
        assert [method for method, _ in paths(forward)] == ["derp"]
        agent.ip("addr", "add", f"{second}/24", "dev", link.child_device)
        wait_for("the new address", reached(second), DEADLINE_S, shown=forward.errors)
        assert client.run(sys.executable, "-c", FETCH, check=True).stdout == "200\n"
        agent.ip("addr", "add", f"{third}/24", "dev", link.child_device)
        agent.ip("addr", "del", f"{second}/24", "dev", link.child_device)
        wait_for("the address after that", reached(third), DEADLINE_S, shown=forward.errors)
        assert client.run(sys.executable, "-c", FETCH, check=True).stdout == "200\n"
        assert forward.returncode is None
        assert stack.server.events("carrier granted") == []
