"""The world in which a scenario runs: the product in a laboratory, sessions, the moment of the fault.

Law: the product is a black box (`lab.stack`). Beside each session goes a second one to a real `sshd` on
the same host, through the same network, for the baseline. What was up at the moment of the fault is
known, and everything that the log ends from then on counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tether_gauntlet.ends import came_and_left, duplicates
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.capabilities import probe
from tether_gauntlet.lab.cgroups import LabCgroup
from tether_gauntlet.lab.middlebox.middlebox import FRONT, Front, Middlebox
from tether_gauntlet.lab.program import Program, children
from tether_gauntlet.lab.shell import LabError, wait_for
from tether_gauntlet.lab.stack import RELAY_PORT, SERVER_PORT, START_S, LabStack, Row
from tether_gauntlet.sessions import LabSession, SharedConnection
from tether_gauntlet.twin import Sshd

END_S = 30.0
"""How long rows may take to close once everything has been healed and stopped."""


@dataclass
class Stage:
    """What a scenario is given."""

    lab: Lab
    middlebox: Middlebox | None = None
    """What parties reach the server through."""
    direct: bool = False
    """Whether sessions may go directly to the agent behind it."""
    twins: bool = True
    """Whether a session to a real `sshd` goes beside each."""
    stack: LabStack = field(init=False)
    sessions: list[LabSession] = field(default_factory=list)
    faulted_at: float = 0.0
    """When the fault was injected (monotonic seconds)."""
    sshd: Sshd | None = None
    front: Front | None = None
    """The middlebox that it all stands behind."""
    _before: set[str] = field(default_factory=set)
    _closed_before: set[str] = field(default_factory=set)
    hosts: list[str] = field(default_factory=list)
    """The clients' machines from which sessions were opened."""

    # -- setting up ------------------------------------------------------------------------

    def start(
        self,
        *,
        server: Sequence[str] = (),
        agent: Sequence[str] = (),
        relays: Sequence[str] = (),
        cgroup: bool = False,
        server_cgroup: bool = False,
        agent_env: Mapping[str, str] | None = None,
    ) -> LabStack:
        """Start server, relays, the agent of `dev` on `agent1`, and set the client up.

        Args:
            server: more options of `tether server`.
            agent: more options of `tether agent`.
            relays: hosts that run a `tether relay`.
            cgroup: the agent gets a control group of its own: `self.group`.
            server_cgroup: the server gets one: `self.server_group`.
            agent_env: more for the agent's environment.
        """
        self._server_cgroup = self.lab.cgroup("server") if server_cgroup else None
        self.stack = stack = self._start_stack(server)
        for host in relays:
            stack.start_relay(host)
        stack.create_workspace("dev")
        self._cgroup = self.lab.cgroup("agent") if cgroup else None
        stack.start_agent("dev", options=agent, cgroup=self._cgroup, env=agent_env)
        stack.log_in("client")
        stack.configure_ssh("client")
        return stack

    def _start_stack(self, options: Sequence[str]) -> LabStack:
        """Start the server, behind the middlebox if there is one."""
        if self.middlebox is None:
            return LabStack(self.lab, server_options=options, server_cgroup=self._server_cgroup)
        relays = [node.name for node in self.lab.topology.nodes if node.name.startswith("relay")]
        targets = [("server", SERVER_PORT), *((name, RELAY_PORT) for name in relays)]
        self.front = front = Front(self.lab, self.middlebox, targets)
        return LabStack(
            self.lab,
            server_options=(*front.server_options, *options),
            server_cgroup=self._server_cgroup,
            url=front.url("server"),
            relay_urls={name: front.url(name, websocket=True) for name in relays},
            agent_options=() if self.direct else ("--direct-listen", "off"),
        )

    @property
    def box(self) -> Front:
        """The middlebox that it all stands behind, where the scenario is about one."""
        assert self.front is not None, "the scenario names its middleboxes"
        return self.front

    @property
    def entry(self) -> str:
        """The host that parties dial to reach the server."""
        return "server" if self.front is None else FRONT

    @property
    def group(self) -> LabCgroup:
        """The agent's control group."""
        assert self._cgroup is not None, "start(cgroup=True) makes one"
        return self._cgroup

    @property
    def server_group(self) -> LabCgroup:
        """The server's control group."""
        assert self._server_cgroup is not None, "start(server_cgroup=True) makes one"
        return self._server_cgroup

    @property
    def agent(self) -> Program:
        """The agent of `dev`, as it runs now."""
        return self.stack.agents["dev"]

    def shell(
        self,
        *,
        workspace: str = "dev",
        host: str = "client",
        command: str = "",
        env: Mapping[str, str] | None = None,
        cgroup: LabCgroup | None = None,
        options: Sequence[str] = (),
    ) -> LabSession:
        """Open a session and wait until it answers. Without a `command` it is a shell on pipes.

        Args:
            command: is run instead.
            env: more for the environment of its `ssh`.
            cgroup: its `ssh` and ProxyCommand are in this control group.
            options: more options of `ssh`.
        """
        before = self.stack.ids()
        started = self.stack.start_ssh(
            *([command] if command else ["sh"]),
            workspace=workspace,
            host=host,
            options=options,
            name=f"ssh{len(self.sessions)}",
            env=env,
            cgroup=cgroup,
        )
        row = self.stack.wait_row(
            before,
            lambda row: row["connect_type"] == "agent_to_client",
            START_S,
            f"the row of a session\n{started.tail()}",
        )
        session = LabSession(started, self._twin(host, command), row["id"], shell=not command)
        self.hosts.append(host)
        self.sessions.append(session)
        if not command:
            session.echoes(f"ready-{len(self.sessions)}", START_S)
            if session.twin is not None:
                session.twin.write(b"echo tw''in\n")
                session.twin.wait_output(b"twin")
        return session

    def another(
        self, name: str = "hers", *, client: str = "client2", agent: str = "agent2"
    ) -> None:
        """Another person, `alice`, with a machine and a workspace of her own."""
        made = json.loads(self.stack.admin("user", "create", "alice", "--json").stdout)
        self.stack.log_in(client, token=made["token"])
        self.stack.create_workspace(name, host=agent, by=client)
        self.stack.start_agent(name, host=agent)
        self.stack.configure_ssh(client)

    def shared_connection(self) -> SharedConnection:
        """Open a connection without a session, and wait until it is logged in."""
        before = self.stack.ids()
        shared = SharedConnection(self.stack, self.lab["client"].directory / "shared")
        options = ("-M", "-S", str(shared.socket), "-N")
        started = self.stack.start_ssh(options=options, name="shared")
        self.sessions.append(LabSession(started, None, ""))
        self.stack.wait_row(
            before,
            lambda row: row["connect_type"] == "agent_to_client",
            START_S,
            f"the row of a connection\n{started.tail()}",
        )
        wait_for("a shared connection", shared.socket.exists, 20)
        return shared

    def _twin(self, host: str, command: str) -> Program | None:
        agent_host = self.lab["agent1"]
        if not self.twins or not probe()["sshd"].present:
            return None
        if self.sshd is None:
            if not self.lab.topology.reachable(host, "agent1"):
                return None
            self.sshd = Sshd.start(agent_host)
        argv = self.sshd.ssh(*([command] if command else ["sh"]))
        return self.lab[host].start(f"twin{len(self.sessions)}", argv)

    # -- what a machine goes through and gets over -------------------------------------------

    def clock(self, host: str) -> Path:
        """The file by which the clocks of a host's programs are shifted, as if it had slept. It is given
        to programs as `TETHER_CLOCK_SHIFT_FILE`."""
        path = self.lab[host].directory / "clock"
        if not path.exists():
            path.write_text("0 0")
        return path

    def nap(self, session: LabSession, seconds: int) -> None:
        """Let a client's machine sleep for a while; its session works afterwards. The client must have
        been started with `clock`."""
        session.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.clock("client").write_text(f"{seconds} 0")
        session.signal(signal.SIGCONT)
        session.echoes("awake", 30)

    def calm(self, seconds: float, session: LabSession) -> None:
        """Type a little for so long, which proves that all is well."""
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            number += 1
            session.echoes(f"calm-{number}-", 30)
            time.sleep(2)

    # -- more than one fault needs these ---------------------------------------------------------

    def limit_descriptors(self, program: Program, *, spare: int) -> None:
        """From now on the program may open so many more files, and then none."""
        used = max(map(int, os.listdir(f"/proc/{program.pid}/fd"))) + 1
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (used + spare, used + spare))

    def new_boot_id(self, host: str) -> None:
        """From now on the host's kernel says that it was booted anew."""
        here = self.lab[host]
        told = here.directory / "boot_id"
        told.write_text(f"{uuid.uuid4()}\n")
        here.run("mount", "--bind", str(told), "/proc/sys/kernel/random/boot_id", check=True)

    def new_container(self, host: str) -> None:
        """From now on the host is another container, as Docker shows it: `/etc/hostname` is mounted
        from a directory of the container's id."""
        here = self.lab[host]
        told = here.directory / "containers" / (uuid.uuid4().hex * 2) / "hostname"
        told.parent.mkdir(parents=True)
        told.write_text(f"{host}\n")
        here.run("umount", "/etc/hostname")  # of the container before, if there was one
        here.run("mount", "--bind", str(told), "/etc/hostname", check=True)

    def set_pressure(self, host: str, what: str, full: float) -> None:
        """From now on the host's kernel says that so many per cent of ten seconds were lost for want of
        `what` (cpu, memory, io)."""
        here = self.lab[host]
        told = here.directory / f"pressure-{what}"
        first = not told.exists()
        line = f"avg10={full:.2f} avg60=0.00 avg300=0.00 total=0"
        told.write_text(f"some {line}\nfull {line}\n")
        if first:
            here.run("mount", "--bind", str(told), f"/proc/pressure/{what}", check=True)

    def new_build(self, version: str) -> dict[str, str]:
        """Make another build of the product; the environment of programs that are to be that build."""
        ours = Path(sys.modules["tether_gauntlet"].__file__ or "").parent.parent / "tether"
        site = self.lab["inet"].directory / f"build-{version}"
        shutil.copytree(ours, site / "tether", ignore=shutil.ignore_patterns("__pycache__"))
        (site / "tether" / "version.py").write_text(f'VERSION = "{version}"\n')
        return {"PYTHONPATH": str(site)}

    def spin(self, group: LabCgroup, host: str = "agent1") -> Program:
        """Start a program in the control group that keeps a CPU busy."""
        return self.lab[host].start("spin", ["sh", "-c", "while :; do :; done"], cgroup=group)

    def crowd_out(self, group: LabCgroup, victim: Program, host: str = "agent1") -> Program:
        """Start a program in the victim's control group that takes all the memory that it gets. The
        kernel is told to kill the victim first, as it does to services that are marked so."""
        for pid in (victim.pid, *children(victim.pid)):
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        grab = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
        return self.lab[host].start("crowd", [sys.executable, "-c", grab], cgroup=group)

    def scribble(self, host: str, number: int) -> Program:
        """Start a program that writes to the host's disk and waits for it, again and again."""
        path = self.lab[host].directory / f"scribble{number}"
        loop = f"while :; do dd if=/dev/zero of={path} bs=1M count=64 oflag=dsync 2>/dev/null; done"
        return self.lab[host].start(f"scribble{number}", ["sh", "-c", loop])

    # -- the fault and after -----------------------------------------------------------------

    def fault(self) -> None:
        """Mark the moment: what the log ends from now on counts. Call right before the fault."""
        rows = self.stack.connections()
        self._before = {row["id"] for row in rows}
        self._closed_before = {row["id"] for row in rows if row["disconnected_at"]}
        if self.sshd is not None:
            self.sshd.mark()
        self.faulted_at = time.monotonic()

    def seconds(self) -> float:
        """How many have passed since the fault."""
        return time.monotonic() - self.faulted_at

    def wait(self, seconds: float) -> None:
        """Let the fault last until so many seconds after it began."""
        time.sleep(max(0.0, seconds - self.seconds()))

    def ended(self) -> list[Row]:
        """The rows that the log has ended since the fault. Links that came after it and left in order
        are marked `excused`."""
        rows = [
            row
            for row in self.stack.connections()
            if row["disconnected_at"] and row["id"] not in self._closed_before
        ]
        if all(row["id"] in self._before for row in rows):
            return rows
        links = self._client_links()
        return [
            {**row, "excused": row["id"] not in self._before and came_and_left(row, links)}
            for row in rows
        ]

    def _client_links(self) -> dict[str, str]:
        """Connection id -> run of the client, of all links that the server welcomed, oldest first."""
        return {
            line["connection_id"]: line["instance_id"]
            for line in self.stack.server.events("control link connected", all_runs=True)
            if line.get("role") == "client"
        }

    def explain(self, row: Row) -> Row:
        """Everything that the log has about a row."""
        return self.stack.explain(row["id"])

    def duplicates(self) -> list[str]:
        """Connections whose end one program has logged more than once, all of its runs together."""
        programs = [self.stack.server, *self.stack.agents.values(), *self.stack.relays.values()]
        return [
            connection
            for program in programs
            for connection in duplicates(program.events(all_runs=True))
        ]

    def finish(self) -> list[str]:
        """End every session, stop the agents in order; the rows that are still open then."""
        for session in self.sessions:
            for program in (session.ssh, session.twin):
                if program is not None and program.returncode is None:
                    program.send_signal(signal.SIGTERM)
        for agent in self.stack.agents.values():
            if agent.returncode is None:
                with contextlib.suppress(LabError):
                    agent.stop(seconds=15)

        def open_rows() -> list[str]:
            return [row["id"] for row in self.stack.connections(status="ongoing")]

        with contextlib.suppress(LabError):
            wait_for("every row to be closed", lambda: not open_rows(), END_S)
        return open_rows()

    def close(self) -> None:
        """Stop everything that was started here; the laboratory does the rest."""
        if hasattr(self, "stack"):
            with contextlib.suppress(LabError):
                self.stack.close()
