"""A laboratory is what it was declared to be, alone in its world, and gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.host.talk import QUIET_S, Talk
from tether_gauntlet.lab import faults, names
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.capabilities import Missing, probe, require
from tether_gauntlet.lab.shell import LabError, wait_for
from tether_gauntlet.lab.topology import Topology, internet

pytestmark = pytest.mark.lab

SMALL = internet(relays=(), agents=1)


def traces(name: str) -> list[str]:
    """Whatever on this machine carries a laboratory's name."""
    return [
        str(path)
        for place in ("/run/netns", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu")
        for path in Path(place).glob(f"{name}-*")
    ] + [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]


def test_the_server_sees_the_nat_and_not_the_client(make_lab: Callable[[Topology], Lab]) -> None:
    lab = make_lab(SMALL)
    with Talk(lab) as talk:
        assert talk.seen_from == lab["nat"].address
        assert (talk.forth(), talk.back()) == ("arrived", "arrived")


def test_nobody_reaches_the_client_from_outside(make_lab: Callable[[Topology], Lab]) -> None:
    lab = make_lab(SMALL)
    with lab["client"].listen() as listener, pytest.raises(OSError, match=r"unreachable|timed out"):
        lab["server"].connect(lab["client"].address, listener.getsockname()[1], QUIET_S)


@pytest.mark.parametrize("reachable", [True, False])
def test_clients_reach_agents_if_they_shall(
    make_lab: Callable[[Topology], Lab], reachable: bool
) -> None:
    lab = make_lab(internet(relays=(), agents_reachable=reachable))
    with lab["agent1"].listen() as listener:
        port = listener.getsockname()[1]
        if reachable:
            lab["client"].connect(lab["agent1"].address, port).close()
        else:
            with pytest.raises(OSError, match=r"unreachable|timed out"):
                lab["client"].connect(lab["agent1"].address, port, QUIET_S)
    with Talk(lab, caller="agent1") as talk:
        assert talk.seen_from == lab["agent1" if reachable else "gw"].address


def test_a_host_has_its_own_name_devices_and_names_of_others(
    make_lab: Callable[[Topology], Lab],
) -> None:
    client = make_lab(SMALL)["client"]
    script = "hostname; ls /sys/class/net; getent hosts server.lab; pwd; echo $TETHER_CONFIG_DIR"
    said = client.run("sh", "-c", script, check=True).stdout.split()
    assert said == [
        *("client", "lo", "to-nat", "10.1.0.2", "server", "server.lab"),
        *(str(client.home), str(client.directory / "tether")),
    ]
    assert client.run("ls", "/sys/fs/cgroup").stdout == os.linesep.join(
        [*sorted(os.listdir("/sys/fs/cgroup")), ""]
    )


def test_two_laboratories_with_the_same_addresses_do_not_meet(
    make_lab: Callable[[Topology], Lab],
) -> None:
    one, other = make_lab(SMALL), make_lab(SMALL)
    assert one["server"].address == other["server"].address
    with Talk(one) as cut, Talk(other) as whole, faults.blackhole(one, "client"):
        assert (cut.forth(seconds=QUIET_S), whole.forth()) == ("silence", "arrived")


def test_everything_is_gone_afterwards(tmp_path: Path) -> None:
    lab = Lab(SMALL, directory=tmp_path)
    try:
        group = lab.cgroup("g")
        stubborn = "trap '' TERM HUP INT; setsid sleep 1000 & sleep 1000"
        program = lab["server"].start("stubborn", ["sh", "-c", stubborn], cgroup=group)
        wait_for("three processes", lambda: len(group.pids()) == 3)
        spaces = [host.namespace for host in lab.hosts.values()]
        faults.freeze(lab, group)
        faults.delay(lab, "client", ms=1)
        assert traces(lab.name) != []
    finally:
        lab.close()
    assert traces(lab.name) == []
    assert program.returncode == -signal.SIGKILL
    assert names.processes_in(spaces) == []


def test_what_a_killed_owner_left_is_swept(tmp_path: Path) -> None:
    require("namespaces", "veth", "nft", "cgroup-v1-freezer")
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tether_gauntlet.lab.building import Lab\n"
        "from tether_gauntlet.lab.topology import internet\n"
        f"lab = Lab(internet(relays=(), agents=0), directory=Path({str(tmp_path)!r}))\n"
        "lab.cgroup('g').freeze()\n"
        "lab['server'].start('sleeper', ['sleep', '1000'])\n"
        "print(lab.name, flush=True)\n"
        "time.sleep(1000)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    try:
        name = owner.stdout.readline().strip()
        assert traces(name) != []
        assert not names.is_orphan(f"{name}-server")
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    assert names.is_orphan(f"{name}-server")
    names.sweep()
    wait_for("nothing to be left", lambda: not traces(name), DEADLINE_S)


def test_it_is_built_in_a_moment(make_lab: Callable[[Topology], Lab]) -> None:
    make_lab(SMALL)  # the probes are done once
    began = time.monotonic()
    make_lab(internet(agents=2))
    assert time.monotonic() - began < 2  # 0.1 s on an idle machine


def test_what_the_machine_lacks_is_named_with_its_reason() -> None:
    with_reason = {name: each.reason for name, each in probe().items() if not each.present}
    assert all(with_reason.values())
    for name, reason in with_reason.items():
        with pytest.raises(Missing, match=name) as lacking:
            require(name)
        assert reason in str(lacking.value)


def test_a_program_that_ends_before_its_word_shows_what_it_said(
    make_lab: Callable[[Topology], Lab],
) -> None:
    program = make_lab(SMALL)["server"].start("brief", ["sh", "-c", "echo why >&2; exit 3"])
    with pytest.raises(LabError, match=r"(?s)exited 3.*why"):
        program.wait_event("never")


def test_a_terminal_is_a_terminal(make_lab: Callable[[Topology], Lab]) -> None:
    program = make_lab(SMALL)["server"].start("shell", ["sh", "-i"], terminal=True)
    program.write(b"tty; stty size; echo $((6*7))\n")
    said = program.wait_output(b"42")
    assert b"/dev/pts/" in said
    assert b"24 80" in said
    program.write(b"exit 5\n")
    assert program.exit_code() == 5
