"""Tether in a laboratory: it runs there as it does for its users."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.stack import LabStack
from tether_gauntlet.lab.topology import Topology, internet

pytestmark = pytest.mark.lab


def test_a_client_behind_a_nat_reaches_a_workspace_and_the_record_tells(
    make_lab: Callable[[Topology], Lab],
) -> None:
    lab = make_lab(internet(relays=(), agents_reachable=False))
    with LabStack.whole(lab) as stack:
        before = stack.ids()
        done = stack.ssh("hostname; exit 3", check=False)
        assert (done.returncode, done.stdout) == (3, "agent1\n")
        row = stack.wait_closed(before)
        told = (row["disconnect_reason"], row["disconnect_cause"], row["client_ip"])
        assert told == ("graceful", "session.exit", lab["nat"].address)
        assert stack.explain(row["id"])["id"] == row["id"]
        assert lab["client"].tether("whoami").stdout.startswith("admin")
    assert stack.server.returncode == 0


def test_the_example_in_the_docs_does_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "gauntlet.md"
    example = re.search(r"(?s)```python\n(.*?)```", page.read_text())
    assert example is not None
    exec(compile(example[1], str(page), "exec"), {})
    assert capsys.readouterr().out.startswith("client.ssh_killed The ssh program")
