"""Each fault does what it says to a real connection, and is gone when it is undone."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.host.talk import QUIET_S, Talk, heard
from tether_gauntlet.lab import faults
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.program import Program
from tether_gauntlet.lab.shell import LabError, wait_for
from tether_gauntlet.lab.topology import Topology, internet

pytestmark = pytest.mark.lab


def dial(lab: Lab, callee: str = "server", seconds: float = 2.0) -> str:
    """What a new connection of the client meets."""
    with lab[callee].listen() as listener:
        address = lab.topology.address_seen(callee, "client")
        try:
            with lab["client"].connect(address, listener.getsockname()[1], seconds):
                return "connected"
        except TimeoutError:
            return "silence"
        except OSError as wrong:
            return errno.errorcode[wrong.errno or 0]


# -- packets -----------------------------------------------------------------------------


def test_a_blackhole_is_silent_both_ways_and_what_was_said_arrives_when_it_is_undone(
    lab: Lab,
) -> None:
    with Talk(lab) as talk:
        with faults.blackhole(lab, "client"):
            assert (talk.forth(seconds=QUIET_S), talk.back(seconds=QUIET_S)) == ("silence",) * 2
        assert (heard(talk.callee), heard(talk.caller)) == ("arrived",) * 2


def test_a_blackhole_one_way_lets_the_other_way_through(lab: Lab) -> None:
    with Talk(lab) as talk, faults.blackhole(lab, "client", way="from"):
        assert (talk.forth(seconds=QUIET_S), talk.back()) == ("silence", "arrived")
    with Talk(lab) as talk, faults.blackhole(lab, "client", way="to"):
        assert (talk.forth(), talk.back(seconds=QUIET_S)) == ("arrived", "silence")


def test_a_blackhole_between_two_hosts_leaves_the_third_alone(lab: Lab) -> None:
    with (
        Talk(lab) as cut,
        Talk(lab, callee="relay-a") as whole,
        faults.blackhole(lab, "client", peer="server"),
    ):
        assert (cut.forth(seconds=QUIET_S), whole.forth()) == ("silence", "arrived")


def test_a_blackhole_at_the_far_router_knows_the_client_by_its_nat(lab: Lab) -> None:
    with (
        Talk(lab) as cut,
        Talk(lab, caller="relay-a") as whole,
        faults.blackhole(lab, "server", peer="client"),
    ):
        assert (cut.forth(seconds=QUIET_S), whole.forth()) == ("silence", "arrived")


def test_a_blackhole_of_a_router_is_that_of_the_hosts_behind_it(
    make_lab: Callable[[Topology], Lab],
) -> None:
    lab = make_lab(internet(relays=("relay-a",), agents=1))
    with (
        Talk(lab, caller="agent1") as cut,
        Talk(lab, caller="relay-a") as whole,
        faults.blackhole(lab, "gw"),
    ):
        assert (cut.forth(seconds=QUIET_S), whole.forth()) == ("silence", "arrived")


def test_a_blackhole_of_one_port_leaves_the_others_alone(lab: Lab) -> None:
    with Talk(lab) as cut, Talk(lab) as whole, faults.blackhole(lab, "client", port=cut.port):
        assert (cut.forth(seconds=QUIET_S), whole.forth()) == ("silence", "arrived")


def test_loss_takes_the_share_that_was_asked_for(lab: Lab) -> None:
    sent = 1000
    with lab["server"].open_socket(socket.SOCK_DGRAM) as sink:
        sink.bind(("0.0.0.0", 0))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        where = (lab["server"].address, sink.getsockname()[1])
        with (
            lab["client"].open_socket(socket.SOCK_DGRAM) as source,
            faults.lose(lab, "client", percent=30),
        ):
            for _ in range(sent):
                source.sendto(b"x", where)
        sink.settimeout(QUIET_S)
        arrived = 0
        with contextlib.suppress(TimeoutError):
            while sink.recv(16):
                arrived += 1
    assert 620 < arrived < 780  # five standard deviations of 14.5 around 700


def test_a_middlebox_resets_the_client_and_the_server_hears_nothing(lab: Lab) -> None:
    with Talk(lab) as talk, faults.reset(lab, "client"):
        talk.caller.sendall(b"ping")
        assert heard(talk.caller) == "ConnectionResetError"
        assert heard(talk.callee, seconds=QUIET_S) == "silence"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("host-unreachable", "EHOSTUNREACH"),
        ("net-unreachable", "ENETUNREACH"),
        ("admin-prohibited", "EHOSTUNREACH"),
    ],
)
def test_a_router_says_that_there_is_no_way(lab: Lab, code: str, error: str) -> None:
    with faults.unreachable(lab, "client", code=code):  # type: ignore[arg-type]
        assert dial(lab) == error
    assert dial(lab) == "connected"


# -- the host's own network --------------------------------------------------------------


def test_without_a_link_there_is_no_network(lab: Lab) -> None:
    with Talk(lab) as talk:
        with faults.link_down(lab, "client"):
            assert dial(lab) == "ENETUNREACH"
            assert talk.back(seconds=QUIET_S) == "silence"
        assert dial(lab) == "connected"
        assert talk.forth() == "arrived"


def test_a_new_address_cuts_what_had_the_old_one_until_it_comes_back(lab: Lab) -> None:
    with Talk(lab) as old:
        with faults.change_address(lab, "client"):
            with Talk(lab) as new:
                assert new.caller.getsockname()[0].endswith(".77")
                assert new.forth() == "arrived"
            assert old.back(seconds=QUIET_S) == "silence"
        assert heard(old.caller, 4) == "arrived"
        assert dial(lab) == "connected"


# -- routers that forget -----------------------------------------------------------------


def test_a_nat_that_rebinds_resets_both_ends_and_takes_new_connections(lab: Lab) -> None:
    with Talk(lab) as talk, faults.rebind_nat(lab):
        talk.caller.sendall(b"ping")
        assert heard(talk.caller) == "ConnectionResetError"
        talk.callee.sendall(b"pong")
        assert heard(talk.callee) == "ConnectionResetError"
        assert dial(lab) == "connected"


def test_a_firewall_that_lost_its_state_drops_the_old_and_takes_the_new(lab: Lab) -> None:
    with Talk(lab) as talk, faults.lose_state(lab):
        assert (talk.forth(seconds=QUIET_S), talk.back(seconds=QUIET_S)) == ("silence",) * 2
        with Talk(lab) as new:
            assert (new.forth(), new.back()) == ("arrived",) * 2


@pytest.mark.parametrize(("resets", "then"), [(True, "ConnectionResetError"), (False, "silence")])
def test_what_was_silent_for_too_long_is_forgotten(lab: Lab, resets: bool, then: str) -> None:
    def forgotten() -> bool:
        return f"dport={talk.port}" not in lab["nat"].tool("conntrack", "-L")

    with faults.idle_timeout(lab, seconds=1, resets=resets), Talk(lab) as talk:
        assert (talk.forth(), talk.back()) == ("arrived",) * 2
        wait_for("the NAT to forget", forgotten, DEADLINE_S)
        talk.caller.sendall(b"ping")
        assert heard(talk.caller, seconds=QUIET_S) == then


# -- narrow and slow roads ---------------------------------------------------------------


def test_a_black_hole_for_large_packets_lets_small_ones_through(lab: Lab) -> None:
    with Talk(lab) as talk:
        with faults.mtu_black_hole(lab, "server"):
            assert (talk.forth(), talk.back()) == ("arrived",) * 2
            assert talk.forth(b"x" * 4000, QUIET_S) == "silence"
        assert heard(talk.callee, 4000) == "arrived"


def test_a_throttled_link_carries_what_was_asked_for(lab: Lab) -> None:
    with Talk(lab) as talk, faults.throttle(lab, "client", kbit=64):
        began = time.monotonic()
        assert talk.forth(b"x" * 12_000) == "arrived"
        took = time.monotonic() - began
    at_64_kbit = (12_000 - 3000) / 8000  # the first 3000 bytes pass at once
    assert at_64_kbit <= took < 3 * at_64_kbit


def test_delay_is_added_each_way_and_a_connection_lives_through_its_coming_and_going(
    lab: Lab,
) -> None:
    def round_trip() -> float:
        began = time.monotonic()
        assert (talk.forth(), talk.back()) == ("arrived",) * 2
        return time.monotonic() - began

    with Talk(lab) as talk:
        assert round_trip() < 0.1
        with faults.delay(lab, "client", ms=100):
            assert 0.2 <= round_trip() < 0.4
            assert dial(lab) == "connected"
        assert round_trip() < 0.1


def test_a_vpn_gives_new_connections_another_address_and_strands_the_old(lab: Lab) -> None:
    with Talk(lab) as old:
        with faults.vpn(lab, "client"):
            with Talk(lab) as new:
                assert new.seen_from.startswith("172.16.")
                assert (new.forth(), new.back()) == ("arrived",) * 2
            assert old.back(seconds=QUIET_S) == "silence" or old.forth(seconds=QUIET_S) == "silence"
        assert dial(lab) == "connected"


# -- names and sockets -------------------------------------------------------------------


def test_without_dns_no_name_is_known(lab: Lab) -> None:
    def resolves(name: str) -> bool:
        return lab["client"].run("getent", "hosts", name).returncode == 0

    with faults.no_dns(lab, "client", name="server"):
        assert (resolves("server.lab"), resolves("relay-a.lab")) == (False, True)
    with faults.no_dns(lab, "client"):
        assert (resolves("server.lab"), resolves("relay-a.lab")) == (False, False)
    assert resolves("server.lab")


def test_a_killed_socket_is_aborted_here_and_reset_there(lab: Lab) -> None:
    with Talk(lab) as talk, Talk(lab, callee="relay-a") as other:
        faults.kill_sockets(lab, "client", peer="server")
        assert heard(talk.caller) == "ConnectionAbortedError"
        assert heard(talk.callee) == "ConnectionResetError"
        assert other.forth() == "arrived"


# -- processes ---------------------------------------------------------------------------

TICK = "while :; do echo tick; sleep 0.01; done"
BUSY = "while :; do :; done"


def ticks(program: Program) -> bool:
    """Whether it writes while it is watched."""
    before = len(program.output())
    deadline = time.monotonic() + QUIET_S
    while time.monotonic() < deadline:
        if len(program.output()) > before:
            return True
        time.sleep(0.01)
    return False


def test_a_stopped_process_goes_on_where_it_was(lab: Lab) -> None:
    program = lab["server"].start("ticker", ["sh", "-c", TICK])
    program.wait_output(b"tick")
    with faults.stop_process(lab, program):
        wait_for("it to stop", lambda: not ticks(program))
    assert ticks(program)
    program.kill()


def test_a_frozen_group_stands_still_without_a_signal(lab: Lab) -> None:
    program = lab["server"].start("frozen", ["sh", "-c", TICK], cgroup=(group := lab.cgroup("ice")))
    program.wait_output(b"tick")
    with faults.freeze(lab, group):
        assert not ticks(program)
    assert ticks(program)
    program.kill()


def test_a_starved_group_is_throttled(lab: Lab) -> None:
    group = lab.cgroup("starved")
    with faults.starve(lab, group, share=0.05):
        program = lab["server"].start("busy", ["sh", "-c", BUSY], cgroup=group)
        wait_for("it to be throttled", lambda: group.throttled() > 2)
        program.kill()


def test_a_group_that_takes_too_much_memory_is_killed_by_the_kernel(lab: Lab) -> None:
    group = lab.cgroup("small")
    group.limit_memory(64 << 20)
    program = lab["server"].start(
        "hog", ["python3", "-c", "x = bytearray(256 << 20)"], cgroup=group
    )
    assert program.exit_code() == -9
    assert group.oom_kills() == 1


def test_a_full_disk_takes_nothing_more_and_is_a_disk_of_that_host_alone(
    lab: Lab, tmp_path: Path
) -> None:
    server = lab["server"]
    disk = server.small_disk(tmp_path / "disk", size=1 << 20)

    def write() -> str:
        return server.run("cp", "/etc/hosts", str(disk / "file")).stderr

    with faults.fill_disk(lab, "server", disk):
        assert "No space left on device" in write()
        (disk / "ours").touch()  # not on that disk: this process is on no host
    assert write() == ""
    with pytest.raises(LabError, match="the machine's own"):
        faults.fill_disk(lab, "client", disk)
