"""Faults: each is one function that harms something real and returns how to undo it.

Law: a fault says what it did in one sentence, is undone exactly, and is undone at the latest when its
laboratory closes. Faults of a host's traffic are put on the router that it hangs on, never on the host
itself, unless their name says so: the host's own kernel must not know.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from tether_gauntlet.lab.building import DOMAIN, Lab
from tether_gauntlet.lab.capabilities import require
from tether_gauntlet.lab.cgroups import LabCgroup
from tether_gauntlet.lab.fault import Fault, numbers, void
from tether_gauntlet.lab.filters import Way, add_table, filter_packets, said, with_peer
from tether_gauntlet.lab.host import Host
from tether_gauntlet.lab.names import NETNS
from tether_gauntlet.lab.program import Program
from tether_gauntlet.lab.shell import LabError
from tether_gauntlet.lab.topology import NAT_TABLE, translation

# -- packets that do not arrive, or are answered by somebody in between --------------------------


def blackhole(
    lab: Lab, host: str, *, peer: str | None = None, way: Way = "both", port: int | None = None
) -> Fault:
    """Drop packets in silence.

    Args:
        host: whose packets, and those that it forwards for hosts below; its router drops them.
        peer: only those between the two.
        way: only those from the host, or only those to it.
        port: only those to or from this TCP port of either.
    """
    what = f"{lab.router_of(host).name} drops the packets {said(host, peer, way)}"
    return filter_packets(lab, host, peer, way, port, "drop", what)


def lose(
    lab: Lab, host: str, *, percent: float, peer: str | None = None, way: Way = "both"
) -> Fault:
    """Drop `percent` of the packets, at random."""
    require("nft-random")
    verdict = f"numgen random mod 1000 < {round(percent * 10)} drop"
    return filter_packets(
        lab, host, peer, way, None, verdict, f"{percent:g} % loss {said(host, peer, way)}"
    )


def reset(lab: Lab, host: str, *, peer: str | None = None, port: int | None = None) -> Fault:
    """Let a middlebox answer every TCP packet from the host with RST, to the host only.

    The other end hears nothing. For a reset of both ends, see `rebind_nat`.
    """
    require("nft-reject")
    what = f"{lab.router_of(host).name} resets the connections of {host}{with_peer(peer)}"
    return filter_packets(
        lab, host, peer, "from", port, "reject with tcp reset", what, protocol="tcp"
    )


def unreachable(
    lab: Lab,
    host: str,
    *,
    peer: str | None = None,
    code: Literal["host-unreachable", "net-unreachable", "admin-prohibited"] = "host-unreachable",
) -> Fault:
    """Let the router answer every packet from the host with this ICMP error."""
    require("nft-reject")
    what = f"{lab.router_of(host).name} answers {host}{with_peer(peer)} with ICMP {code}"
    return filter_packets(lab, host, peer, "from", None, f"reject with icmp type {code}", what)


# -- the host's own link, address and route ------------------------------------------------------


def link_down(lab: Lab, host: str) -> Fault:
    """Pull the host's cable: its own interface goes down."""
    here, link = lab[host], lab.link_of(host)
    here.ip("link", "set", link.child_device, "down")

    def undo() -> None:
        here.ip("link", "set", link.child_device, "up")
        for route in lab.topology.routes(host):
            here.ip("route", "replace", *route.split())

    return Fault(lab.faults, f"the link of {host} is down", undo)


def change_address(lab: Lab, host: str, *, last: int = 77) -> Fault:
    """Give the host another address of its subnet, and take the old one away (Wi-Fi roaming, DHCP)."""
    here, link = lab[host], lab.link_of(host)
    new = f"{link.child_address.rpartition('.')[0]}.{last}"

    def change(old: str, to: str) -> None:
        here.ip("addr", "add", f"{to}/24", "dev", link.child_device)
        here.ip("addr", "del", f"{old}/24", "dev", link.child_device)
        # an address in second place goes with the first, and with it the routes over it
        here.ip("addr", "replace", f"{to}/24", "dev", link.child_device)
        for route in lab.topology.routes(host):
            here.ip("route", "replace", *route.split())

    change(link.child_address, new)
    return Fault(
        lab.faults,
        f"the address of {host} changes from {link.child_address} to {new}",
        lambda: change(new, link.child_address),
    )


# -- routers that forget -------------------------------------------------------------------------


def rebind_nat(lab: Lab, router: str = "nat") -> Fault:
    """Let the NAT forget its connections, and give those that go on another port.

    Both ends of an established connection are reset at once. New ones work.
    """
    require("nft-nat", "conntrack")
    here, link = lab[router], lab.link_of(router)
    below = ", ".join(inner.subnet for inner in lab.topology.below(router))
    match = f"ip saddr {{ {below} }}"
    table = f"delete table inet {NAT_TABLE}\n"
    here.tool(
        "nft", "-f", "-", given=table + translation(match, link.child_address, "fully-random")
    )
    here.tool("conntrack", "-F")
    return Fault(
        lab.faults,
        f"{router} rebinds its connections to other ports",
        lambda: void(
            here.tool("nft", "-f", "-", given=table + translation(match, link.child_address))
        ),
    )


def lose_state(lab: Lab, router: str = "nat") -> Fault:
    """Restart a stateful firewall: packets of established connections are dropped, new ones work."""
    require("nft-conntrack", "conntrack")
    here = lab[router]
    remove = _strict(here, "ct state invalid drop")
    here.tool("conntrack", "-F")
    return Fault(lab.faults, f"{router} has lost the state of its connections", remove)


def idle_timeout(lab: Lab, router: str = "nat", *, seconds: int, resets: bool = False) -> Fault:
    """Let a middlebox (a load balancer, a NAT) forget connections that are silent for too long.

    Args:
        seconds: how long a connection may be silent; begins anew for those that are established.
        resets: packets that come too late are answered with RST; else they are dropped.
    """
    require("nft-conntrack", "nft-reject", "conntrack")
    here = lab[router]
    late = "ct state invalid ip protocol tcp reject with tcp reset" if resets else ""
    remove = _strict(here, late or "ct state invalid drop")
    setting = "net.netfilter.nf_conntrack_tcp_timeout_established"
    before = here.tool("sysctl", "-n", setting).strip()
    here.tool("sysctl", "-qw", f"{setting}={seconds}")

    def undo() -> None:
        here.tool("sysctl", "-qw", f"{setting}={before}")
        remove()

    return Fault(lab.faults, f"{router} forgets connections after {seconds} s of silence", undo)


def _strict(router: Host, rule: str) -> Callable[[], None]:
    """Let the router track connections from their beginning only; `rule` is for all other packets."""
    loose = "net.netfilter.nf_conntrack_tcp_loose"
    name = add_table(router, "forward", rule)
    router.tool("sysctl", "-qw", f"{loose}=0")

    def undo() -> None:
        router.tool("nft", "delete", "table", "inet", name)
        router.tool("sysctl", "-qw", f"{loose}=1")

    return undo


# -- narrow and slow roads -----------------------------------------------------------------------


def mtu_black_hole(lab: Lab, host: str, *, mtu: int = 1200) -> Fault:
    """Drop large packets to and from the host, and tell nobody that they were too large."""
    router, link = lab.router_of(host), lab.link_of(host)
    silent = add_table(router, "output", "ip protocol icmp icmp type destination-unreachable drop")
    router.ip("link", "set", link.parent_device, "mtu", str(mtu))

    def undo() -> None:
        router.ip("link", "set", link.parent_device, "mtu", "1500")
        router.tool("nft", "delete", "table", "inet", silent)

    return Fault(lab.faults, f"packets to and from {host} longer than {mtu} bytes vanish", undo)


def throttle(lab: Lab, host: str, *, kbit: int) -> Fault:
    """Let each direction of the host's link carry at most so many kbit/s."""
    require("tbf")
    link = lab.link_of(host)
    ends = (lab[host], link.child_device), (lab.router_of(host), link.parent_device)
    burst = str(max(3000, kbit * 1000 // 8 // 50))
    for where, device in ends:
        shape = ("tbf", "rate", f"{kbit}kbit", "burst", burst, "latency", "400ms")
        where.tool("tc", "qdisc", "replace", "dev", device, "root", *shape)

    def undo() -> None:
        for where, device in ends:
            where.tool("tc", "qdisc", "del", "dev", device, "root")

    return Fault(lab.faults, f"the link of {host} carries {kbit} kbit/s", undo)


def delay(
    lab: Lab, host: str, *, ms: float, jitter_ms: float = 0, loss_percent: float = 0
) -> Fault:
    """Delay every packet between the host and its router by `ms`, each way."""
    link, router = lab.link_of(host), lab.router_of(host)
    device = f"slow{next(numbers)}"
    shim = _start_shim(lab[host], device, router, device, ms, jitter_ms, loss_percent)
    _detour(lab[host], link.child_device, device, link.child_address)
    _detour(router, link.parent_device, device, link.parent_address)
    return Fault(
        lab.faults, f"{ms:g} ms of delay each way between {host} and {router.name}", shim.kill
    )


def vpn(lab: Lab, host: str, *, exit_at: str = "inet", ms: float = 1) -> Fault:
    """Bring a VPN up: the default route changes, and with it the address of new connections.

    Established connections keep their old source address, under which no answer reaches them.
    """
    number = next(numbers)
    device, network = f"vpn{number}", f"172.16.{number % 256}"
    here, far = lab[host], lab[exit_at]
    shim = _start_shim(here, device, far, device, ms, 0, 0)
    here.ip("addr", "add", f"{network}.2/24", "dev", device)
    far.ip("addr", "add", f"{network}.1/24", "dev", device)
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        here.ip("route", "add", half, "via", f"{network}.1", "dev", device)
    return Fault(lab.faults, f"a VPN from {host} to {exit_at} is up", shim.kill)


def _start_shim(
    host: Host, device: str, far: Host, far_device: str, ms: float, jitter: float, loss: float
) -> Program:
    require("tun")
    ends = ((host, device), (far, far_device))
    argv = [sys.executable, "-m", "tether_gauntlet.lab.shim"]
    argv += [f"--end={NETNS / where.namespace}:{name}" for where, name in ends]
    argv += [f"--delay-ms={ms}", f"--jitter-ms={jitter}", f"--loss-percent={loss}"]
    shim = host.start(f"shim-{device}", argv)
    shim.wait_output(b"ready")
    for where, name in ends:
        where.ip("link", "set", name, "up", "mtu", "1500")
    return shim


def _detour(host: Host, usual: str, device: str, address: str) -> None:
    """Send over `device` what would go over `usual`, by routes that are more specific."""
    host.ip("addr", "add", f"{address}/32", "dev", device)
    for route in json.loads(host.ip("-json", "route", "show", "dev", usual)):
        whole = route["dst"] if route["dst"] != "default" else "0.0.0.0/0"
        for half in _halves(whole):
            host.ip("route", "add", half, "dev", device, "src", address)


def _halves(network: str) -> list[str]:
    return [str(half) for half in ip_network(network).subnets()]


# -- names and sockets ---------------------------------------------------------------------------


def no_dns(lab: Lab, host: str, *, name: str | None = None, answers: bool = True) -> Fault:
    """Take the host's name resolution away.

    Args:
        name: only this name; by default every host's.
        answers: look-ups fail at once; else the name server is silent until the resolver gives up.
    """
    here = lab[host]
    before = here.hosts_file.read_text()
    forgotten = [name] if name is not None else [node.name for node in lab.topology.nodes]
    gone = {word for each in forgotten for word in (each, f"{each}.{DOMAIN}")}
    kept = [line for line in before.splitlines() if gone.isdisjoint(line.split()[1:])]
    here.hosts_file.write_text("\n".join(kept) + "\n")
    table = "" if answers else add_table(here, "output", "udp dport 53 drop")

    def undo() -> None:
        here.hosts_file.write_text(before)
        if table:
            here.tool("nft", "delete", "table", "inet", table)

    return Fault(lab.faults, f"{host} cannot resolve {name or 'names'}", undo)


def kill_sockets(lab: Lab, host: str, *, peer: str | None = None, port: int | None = None) -> Fault:
    """Close established TCP connections of the host, as its administrator can (`ss -K`).

    Args:
        peer: only those to this host.
        port: only those to this port.
    """
    require("kill-socket")
    wanted = ["dst", lab.topology.address_seen(peer, host)] if peer is not None else []
    wanted += ["dport", "=", str(port)] if port is not None else []
    lab[host].tool("ss", "-K", "-t", "state", "established", *wanted)
    return Fault(
        lab.faults, f"established connections of {host}{with_peer(peer)} are killed", lambda: None
    )


# -- processes -----------------------------------------------------------------------------------


def fill_disk(lab: Lab, host: str, directory: Path) -> Fault:
    """Fill a disk made by `Host.small_disk` up to its last byte."""
    here, ballast = lab[host], directory / "ballast"
    if directory not in here.disks:
        raise LabError(f"{directory} is no small disk of {host}: it could be the machine's own")
    here.run("dd", "if=/dev/zero", f"of={ballast}", "bs=64k")  # until nothing is left
    here.run("dd", "if=/dev/zero", f"of={ballast}", "bs=1", "oflag=append", "conv=notrunc")
    return Fault(
        lab.faults,
        f"the disk {directory} of {host} is full",
        lambda: void(here.run("rm", str(ballast))),
    )


def stop_process(lab: Lab, program: Program, *, children: bool = False) -> Fault:
    """Stop a program by SIGSTOP; SIGCONT undoes it.

    Args:
        children: stop its whole process group, such as an `ssh` with its ProxyCommand.
    """
    send = program.signal_group if children else program.send_signal
    send(signal.SIGSTOP)
    return Fault(lab.faults, f"{program.name} is stopped", partial(send, signal.SIGCONT))


def freeze(lab: Lab, group: LabCgroup) -> Fault:
    """Let the processes of a control group stand still, without any signal."""
    group.freeze()
    return Fault(lab.faults, f"{group.name} is frozen", group.thaw)


def starve(lab: Lab, group: LabCgroup, *, share: float, period_us: int = 100_000) -> Fault:
    """Give the processes of a control group `share` of one core."""
    group.limit_cpu(share, period_us=period_us)
    return Fault(lab.faults, f"{group.name} has {share:.3g} of a core", group.unlimit_cpu)
