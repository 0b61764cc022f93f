"""Building a laboratory and taking it down.

Law: every namespace has a holder, a process that ends when this one does; the names are swept by the
next laboratory if this process dies before `close`. Nothing touches the machine's own network.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tether_gauntlet.lab import names
from tether_gauntlet.lab.capabilities import require
from tether_gauntlet.lab.cgroups import LabCgroup
from tether_gauntlet.lab.fault import Fault
from tether_gauntlet.lab.host import Host
from tether_gauntlet.lab.shell import LabError, call
from tether_gauntlet.lab.topology import Cable, Topology, internet

DOMAIN = "lab"

_HOLD = """set -e
cd "$1"
echo "$3" >/proc/sys/kernel/hostname
mount --bind hosts /etc/hosts
mount --bind resolv.conf /etc/resolv.conf
mkdir -p cgroup
mount --rbind /sys/fs/cgroup cgroup
mount -t sysfs sysfs /sys
mount --rbind cgroup /sys/fs/cgroup
umount -l cgroup
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
echo "$2" >/proc/sys/net/ipv4/ip_forward
ip -batch network
[ ! -s ruleset ] || nft -f ruleset
echo ready
exec cat >/dev/null
"""
"""The life of a holder: makes the host what it is, then waits for its input to end.

`/sys` is mounted anew, since it shows the network devices of the namespace that mounted it."""


class Lab:
    """A running laboratory. Use it as a context manager, or call `close` once, in a `finally`."""

    def __init__(self, topology: Topology | None = None, *, directory: Path | None = None) -> None:
        """Build it.

        Args:
            topology: the hosts; by default all of `internet()`.
            directory: for the hosts' files; by default a temporary one, removed by `close`.

        Raises:
            Missing: this machine cannot do it; the text says why.
            LabError: a tool failed.
        """
        require("namespaces", "veth", "nft")
        self.topology = internet() if topology is None else topology
        names.sweep()
        self.name = names.new_lab_name()
        self._temporary = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix="tlab-")) if directory is None else directory
        self.hosts: dict[str, Host] = {}
        self.faults: list[Fault] = []
        self.cgroups: list[LabCgroup] = []
        self._holders: list[subprocess.Popen[str]] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Host:
        self.topology.node(name)
        return self.hosts[name]

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def router_of(self, name: str) -> Host:
        """The router that a host hangs on."""
        parent = self.topology.node(name).parent
        if not parent:
            raise LabError(f"{name} is the middle of the internet: it hangs on nothing")
        return self.hosts[parent]

    def link_of(self, name: str) -> Cable:
        """The cable between a host and its router."""
        self.router_of(name)
        return self.topology.links[name]

    def cgroup(self, name: str) -> LabCgroup:
        """A new control group of this laboratory."""
        require("cgroup-v1-memory", "cgroup-v1-cpu", "cgroup-v1-freezer")
        group = LabCgroup.create(f"{self.name}-{name}")
        self.cgroups.append(group)
        return group

    def heal(self) -> None:
        """Undo every fault, the latest first."""
        while self.faults:
            self.faults[-1].undo()

    def close(self) -> None:
        """Undo the faults, end every process of every host, and remove everything."""
        problems: list[str] = []
        while self.faults:  # a frozen process could not be killed
            fault = self.faults[-1]
            try:
                fault.undo()
            except (LabError, OSError) as wrong:
                problems.append(f"{fault.what}: {wrong}")
                self.faults.remove(fault)
        for host in self.hosts.values():
            for program in host.programs:
                program.kill()
        for holder in self._holders:
            assert holder.stdin is not None
            holder.stdin.close()
        spaces = [self._namespace(node.name) for node in self.topology.nodes]
        names.kill_all_in(spaces)
        for holder in self._holders:
            holder.wait(10)
            assert holder.stdout is not None
            holder.stdout.close()
        names.delete_namespaces([name for name in spaces if (names.NETNS / name).exists()])
        for group in self.cgroups:
            group.remove()
        self._holders.clear()
        self.cgroups.clear()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)
        if problems:
            raise LabError("some faults could not be undone: " + "; ".join(problems))

    # -- building ----------------------------------------------------------------------

    def _namespace(self, host: str) -> str:
        return f"{self.name}-{host}"

    def _build(self) -> None:
        batch = [f"netns add {self._namespace(node.name)}" for node in self.topology.nodes]
        batch += [
            f"link add name {link.child_device} netns {self._namespace(link.child)} "
            f"type veth peer name {link.parent_device} netns {self._namespace(link.parent)}"
            for link in self.topology.links.values()
        ]
        call(["ip", "-batch", "-"], given="\n".join(batch) + "\n")
        for node in self.topology.nodes:
            self._hold(node.name)
        for node, holder in zip(self.topology.nodes, self._holders, strict=True):
            assert holder.stdout is not None
            if holder.stdout.readline() != "ready\n":
                said = (self.directory / node.name / "holder.log").read_text()
                raise LabError(f"{node.name} could not be made: {said}")

    def _hold(self, name: str) -> None:
        directory = self.directory / name
        (directory / "home").mkdir(parents=True)
        (directory / "tether").mkdir(mode=0o700)
        (directory / "hosts").write_text(self._hosts_file(name))
        (directory / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # nobody answers there
        (directory / "network").write_text(self._network(name))
        (directory / "ruleset").write_text(self.topology.ruleset(name))
        forwards = str(int(bool(self.topology.children(name))))
        argv = ["nsenter", f"--net={names.NETNS / self._namespace(name)}", "--"]
        argv += ["unshare", "--uts", "--mount", "--propagation", "slave", "--"]
        with (directory / "holder.log").open("wb") as log:
            holder = subprocess.Popen(
                [*argv, "sh", "-c", _HOLD, "holder", str(directory), forwards, name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # a Ctrl-C is for whoever built this, not for the holder
            )
        self._holders.append(holder)
        self.hosts[name] = Host(
            name=name,
            address=self.topology.address(name),
            namespace=self._namespace(name),
            directory=directory,
            holder=holder.pid,
        )

    def _hosts_file(self, at: str) -> str:
        lines = ["127.0.0.1 localhost"]
        for node in self.topology.nodes:
            with contextlib.suppress(LabError):  # a lonely root has no address
                address = self.topology.address_seen(node.name, at)
                lines.append(f"{address} {node.name} {node.name}.{DOMAIN}")
        return "\n".join(lines) + "\n"

    def _network(self, name: str) -> str:
        lines = ["link set lo up"]
        ends = [(link.parent_device, link.parent_address) for link in self.topology.links.values()
                if link.parent == name]  # fmt: skip
        if name in self.topology.links:
            link = self.topology.links[name]
            ends.append((link.child_device, link.child_address))
        for device, address in ends:
            lines += [f"addr add {address}/24 dev {device}", f"link set {device} up"]
        lines += [f"route add {route}" for route in self.topology.routes(name)]
        return "\n".join(lines) + "\n"
