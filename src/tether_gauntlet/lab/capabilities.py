"""What this machine can do, found out by doing it once.

Law: each capability has a name, and a missing one says why. Whoever needs one calls `require`, so that
nothing is left out in silence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tether_gauntlet.lab.names import CGROUPS, NETNS, new_lab_name
from tether_gauntlet.lab.shell import LabError, call


class Missing(LabError):
    """This machine lacks something; the text says what and why."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a scenario may need."""

    name: str
    what: str
    reason: str = ""
    """Why it is missing; "" where it is there."""

    @property
    def present(self) -> bool:
        return not self.reason


Probe = Callable[[str], str]
"""Tries one thing in a scratch namespace of that name; why it cannot be done, or ""."""


def _tries(argv: str, given: str = "") -> Probe:
    """A capability that is there if this command succeeds in the scratch namespace."""

    def probe(namespace: str) -> str:
        enter = ["nsenter", f"--net={NETNS / namespace}", "--"]
        try:
            call([*enter, *argv.split()], given=given)
        except LabError as wrong:
            return str(wrong).partition("failed ")[2].partition("\n")[0] or str(wrong)
        return ""

    return probe


def _has(program: str, package: str) -> Probe:
    def probe(_: str) -> str:
        found = shutil.which(program) or Path("/usr/sbin", program).exists()
        return "" if found else f"{program} is not installed (package {package})"

    return probe


def _nft(rule: str, kind: str = "filter hook forward priority 0") -> Probe:
    chain = f"chain c {{\n type {kind};\n {rule}\n }}"
    return _tries("nft -f -", f"table inet probe {{\n {chain}\n}}\ndelete table inet probe\n")


def _cgroup_v1(controller: str) -> Probe:
    def probe(_: str) -> str:
        group = CGROUPS / controller / new_lab_name()
        if not (CGROUPS / controller / "tasks").exists():
            return f"no cgroup v1 hierarchy at {CGROUPS / controller}"
        try:
            group.mkdir()
            group.rmdir()
        except OSError as wrong:
            return f"{group}: {wrong.strerror}"
        return ""

    return probe


def _pressure(_: str) -> str:
    return "" if Path("/proc/pressure/memory").exists() else "the kernel was built without PSI"


def _cgroup_v2(controller: str) -> Probe:
    def probe(_: str) -> str:
        for root in (CGROUPS, CGROUPS / "unified"):
            if (listed := root / "cgroup.controllers").exists():
                there = listed.read_text().split()
                has = controller in there
                return "" if has else f"{root} offers {' '.join(there) or 'no controller'}"
        return "no cgroup v2 hierarchy is mounted"

    return probe


def _kill_socket(namespace: str) -> str:
    """Whether `ss -K` closes an established connection; kernels without it only list it."""
    script = (
        "import socket, subprocess\n"
        "subprocess.run('ip link set lo up'.split(), check=True)\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(listener.getsockname())\n"
        "port = str(listener.getsockname()[1])\n"
        "subprocess.run(['ss', '-K', 'dst', '127.0.0.1', 'dport', '=', port], check=True,\n"
        "  stdout=subprocess.DEVNULL)\n"
        "client.settimeout(1)\n"
        "try: client.recv(1)\n"
        "except ConnectionError: raise SystemExit(0)\n"
        "except TimeoutError: raise SystemExit('ss -K closes nothing: no INET_DIAG_DESTROY')\n"
    )
    done = subprocess.run(
        ["nsenter", f"--net={NETNS / namespace}", "--", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


_TRANSLATION = "ip saddr 10.0.0.0/8 snat ip to 10.0.0.1 fully-random"
_TBF = "tc qdisc add dev lo root tbf rate 64kbit burst 3000 latency 400ms"

_PROBES: dict[str, tuple[str, Probe]] = {
    "veth": ("cables between hosts", _tries("ip link add name v0 type veth peer name v1")),
    "nft": ("packet filters", _nft("ip saddr 10.0.0.1 drop")),
    "nft-random": ("packet loss", _nft("numgen random mod 1000 < 300 drop")),
    "nft-reject": ("resets and ICMP errors", _nft("ip protocol tcp reject with tcp reset")),
    "nft-conntrack": ("stateful firewalls", _nft("ct state invalid drop")),
    "nft-nat": ("address translation", _nft(_TRANSLATION, "nat hook postrouting priority 100")),
    "nft-queue": ("NFQUEUE", _nft("queue num 1")),
    "conntrack": ("losing a firewall's state", _tries("conntrack -F")),
    "tbf": ("rate limits", _tries(_TBF)),
    "netem": ("the kernel's own delay", _tries("tc qdisc replace dev lo root netem delay 10ms")),
    "tun": ("delay by a TUN shim, VPN", _tries("ip tuntap add dev probe0 mode tun")),
    "wireguard": ("a real VPN", _tries("ip link add name wg0 type wireguard")),
    "kill-socket": ("`ss -K`", _kill_socket),
    "cgroup-v1-memory": ("memory limits", _cgroup_v1("memory")),
    "cgroup-v1-cpu": ("CPU quotas", _cgroup_v1("cpu")),
    "cgroup-v1-freezer": ("freezing processes", _cgroup_v1("freezer")),
    "cgroup-v1-pids": ("process limits", _cgroup_v1("pids")),
    "pressure": ("pressure that a file tells of", _pressure),
    "cgroup-v2-memory": ("memory limits", _cgroup_v2("memory")),
    "cgroup-v2-cpu": ("CPU quotas", _cgroup_v2("cpu")),
    "time-namespace": ("clocks that are off", _tries("unshare --time --boottime 60 true")),
    "pid-namespace": ("a container's pids", _tries("unshare --pid --fork true")),
    "tmpfs": ("disks that fill up", _tries("unshare --mount mount -t tmpfs none /mnt")),
    "ssh": ("OpenSSH's client", _has("ssh", "openssh-client")),
    "sshd": ("OpenSSH's server, to compare", _has("sshd", "openssh-server")),
    "nginx": ("a proxy that ends TLS", _has("nginx", "nginx-light")),
    "haproxy": ("a load balancer", _has("haproxy", "haproxy")),
    "squid": ("a company's proxy", _has("squid", "squid")),
    "stunnel": ("TLS around TCP", _has("stunnel", "stunnel4")),
    "socat": ("orders for a load balancer", _has("socat", "socat")),
    "plink": ("PuTTY's client", _has("plink", "putty-tools")),
}


@cache
def probe() -> dict[str, Capability]:
    """Every capability by its name. Tried once per process, in a namespace that is removed."""
    why = _no_namespaces()
    found = {"namespaces": Capability("namespaces", "network namespaces, as root", why)}
    if why:
        unknown = "cannot be tried without namespaces"
        return found | {
            name: Capability(name, what, unknown) for name, (what, _) in _PROBES.items()
        }
    namespace = f"{new_lab_name()}-probe"
    call(["ip", "netns", "add", namespace])
    try:
        for name, (what, tries) in _PROBES.items():
            found[name] = Capability(name, what, tries(namespace))
    finally:
        call(["ip", "netns", "del", namespace])
    return found


def require(*wanted: str) -> None:
    """Do nothing if this machine can do all of it.

    Raises:
        Missing: it cannot; the text names each and why.
    """
    found = probe()
    lacking = [found[name] for name in wanted if not found[name].present]
    if not found["namespaces"].present:  # says it all
        lacking = [found["namespaces"]]
    if lacking:
        raise Missing("; ".join(f"{each.name} ({each.what}): {each.reason}" for each in lacking))


def _no_namespaces() -> str:
    if os.geteuid() != 0:
        return "needs root"
    for program in ("ip", "nsenter", "unshare", "setsid", "env"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    namespace = f"{new_lab_name()}-probe"
    try:
        call(["ip", "netns", "add", namespace])
        call(["ip", "netns", "del", namespace])
    except LabError as wrong:
        return str(wrong)
    return ""
