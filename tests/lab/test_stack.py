"""Tether in a laboratory: it runs there as it does for its users."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tether_gauntlet.lab import Lab, LabStack, Topology, internet

pytestmark = pytest.mark.lab


def test_a_client_behind_a_nat_reaches_a_workspace_and_the_record_tells(
    make_lab: Callable[[Topology], Lab],
) -> None:
    lab = make_lab(internet(relays=(), agents_reachable=False))
    began = time.monotonic()
    with LabStack.whole(lab) as stack:
        assert time.monotonic() - began < 15  # about 2 s on an idle machine
        before = stack.ids()
        done = stack.ssh("hostname; exit 3", check=False)
        assert (done.returncode, done.stdout) == (3, "agent1\n")
        row = stack.wait_closed(before)
        told = (row["disconnect_reason"], row["disconnect_cause"], row["client_ip"])
        assert told == ("graceful", "session.exit", lab["nat"].address)
        assert stack.explain(row["id"])["id"] == row["id"]
        assert lab["client"].tether("whoami").stdout.startswith("admin")
    assert stack.server.returncode == 0
