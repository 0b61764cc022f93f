"""Tether in a laboratory: server, relays, agents and a client, each on its host.

Law: a black box. Only commands, their JSON, their JSON log lines and the HTTP API are used, as any
operator could; nothing of `tether` is imported.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tether_gauntlet.lab.building import DOMAIN, Lab
from tether_gauntlet.lab.capabilities import require
from tether_gauntlet.lab.cgroups import LabCgroup
from tether_gauntlet.lab.host import TETHER
from tether_gauntlet.lab.program import Program
from tether_gauntlet.lab.shell import LabError, wait_for

SERVER_PORT = 7080
RELAY_PORT = 7081

START_S = 90.0
"""How long a program may take to start on a machine that is busy with other laboratories."""

Row = Mapping[str, Any]
"""One connection, as `tether connections --json` shows it."""


@dataclass(frozen=True, slots=True)
class LabWorkspace:
    """A workspace that was created, and where its agent's token is kept."""

    name: str
    workspace_id: str
    token_file: Path

    @property
    def ssh_name(self) -> str:
        return f"{self.name}.tether"


class LabStack:
    """A server on `server`, and agents, relays and clients as they are started. A context manager."""

    def __init__(
        self,
        lab: Lab,
        *,
        server_options: Sequence[str] = (),
        server_cgroup: LabCgroup | None = None,
        url: str = "",
        relay_urls: Mapping[str, str] | None = None,
        agent_options: Sequence[str] = (),
    ) -> None:
        """Start the server.

        Args:
            server_options: more options of `tether server`.
            server_cgroup: the control group that it belongs to.
            url: where others reach it; by default at its own address.
            relay_urls: the host of a relay -> where others reach that.
            agent_options: more options of every `tether agent`.
        """
        require("ssh")
        self.lab = lab
        self.url = url or f"http://server.{DOMAIN}:{SERVER_PORT}"
        self.relay_urls = relay_urls or {}
        self.server_options = tuple(server_options)
        self.agent_options = tuple(agent_options)
        self.server_cgroup = server_cgroup
        self.workspaces: dict[str, LabWorkspace] = {}
        self.agents: dict[str, Program] = {}
        self.relays: dict[str, Program] = {}
        self.server = self.start_server()
        self.admin_token = (self._server_data / "admin-token").read_text().strip()

    @classmethod
    def whole(
        cls,
        lab: Lab,
        *,
        server_options: Sequence[str] = (),
        agent_options: Sequence[str] = (),
        workspace: str = "dev",
    ) -> LabStack:
        """A server, an agent on `agent1` for one workspace, and a `client` that can `ssh` there."""
        stack = cls(lab, server_options=server_options)
        try:
            stack.create_workspace(workspace)
            with ThreadPoolExecutor(2) as pool:
                agent = pool.submit(stack.start_agent, workspace, options=agent_options)
                client = pool.submit(stack.log_in, "client")
                agent.result()
                client.result()
            stack.configure_ssh("client")  # it pins the host key that the agent has told
        except BaseException:
            stack.close()
            raise
        return stack

    def __enter__(self) -> LabStack:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs, relays last. What ignores that is killed with the laboratory."""
        self.lab.heal()
        for program in (*self.agents.values(), self.server, *self.relays.values()):
            if program.returncode is None:
                with contextlib.suppress(LabError):
                    program.stop(seconds=5)

    # -- programs ----------------------------------------------------------------------

    @property
    def _server_data(self) -> Path:
        return self.lab["server"].directory / "server"

    def start_server(self, *, wait: bool = True) -> Program:
        """Start the server (again, on the same data)."""
        listen = ("--listen", f"0.0.0.0:{SERVER_PORT}", "--external-url", self.url)
        data = ("--data-dir", str(self._server_data), "--log-format", "json")
        self.server = self.lab["server"].start(
            "server-log",
            [*TETHER, "server", *listen, *data, *self.server_options],
            cgroup=self.server_cgroup,
        )
        if wait:
            self.server.wait_event("server ready", START_S)
        return self.server

    def start_agent(
        self,
        workspace: str = "dev",
        *,
        host: str = "agent1",
        options: Sequence[str] = (),
        cgroup: LabCgroup | None = None,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> Program:
        """Start a workspace's agent (again, on the same data)."""
        here = self.lab[host]
        known = ("--server", self.url, "--token-file", str(self.workspaces[workspace].token_file))
        data = ("--data-dir", str(here.directory / f"agent-{workspace}"), "--log-format", "json")
        agent = here.start(
            f"agent-{workspace}-log",
            [*TETHER, "agent", *known, *data, *self.agent_options, *options],
            cgroup=cgroup,
            env=env,
        )
        self.agents[workspace] = agent
        if wait:
            agent.wait_event("agent ready", START_S)
        return agent

    def start_relay(
        self, host: str = "relay-a", *, options: Sequence[str] = (), wait: bool = True
    ) -> Program:
        """Start a relay on its host, which is also its region's name."""
        here = self.lab[host]
        token, data = here.directory / "relay-token", here.directory / "relay"
        if not token.exists():
            made = self.admin("token", "create", host, "--relay")
            _write_secret(token, made.stdout.strip())
        listen = ("--listen", f"0.0.0.0:{RELAY_PORT}", "--server", self.url)
        known = ("--token-file", str(token), "--region", host)
        url = self.relay_urls.get(host, f"ws://{host}.{DOMAIN}:{RELAY_PORT}")
        own = ("--url", f"{url}/derp", "--data-dir", str(data))
        form = ("--log-format", "json")
        relay = here.start("relay-log", [*TETHER, "relay", *listen, *known, *own, *form, *options])
        self.relays[host] = relay
        if wait:
            relay.wait_event("relay ready", START_S)
        return relay

    # -- administration, from the server's own host ------------------------------------

    def admin(self, *arguments: str, check: bool = True, **more: Any) -> Any:
        """A `tether` command by the administrator on the server's host, out of reach of faults."""
        env = {"TETHER_URL": f"http://127.0.0.1:{SERVER_PORT}", "TETHER_TOKEN": self.admin_token}
        return self.lab["server"].tether(*arguments, check=check, env=env, **more)

    def create_workspace(
        self, name: str = "dev", *, host: str = "agent1", by: str = ""
    ) -> LabWorkspace:
        """Create a workspace, the administrator's or of whoever is logged in on the host `by`; its
        agent's token is put on `host`."""
        command = ("workspace", "create", name, "--json")
        done = self.lab[by].tether(*command) if by else self.admin(*command)
        created = json.loads(done.stdout)
        token = self.lab[host].directory / f"{name}-token"
        _write_secret(token, created["agent_token"])
        made = LabWorkspace(name, created["workspace_id"], token)
        self.workspaces[name] = made
        return made

    # -- clients -----------------------------------------------------------------------

    def log_in(self, host: str = "client", *, token: str = "") -> None:
        """Make a host a user's machine: by default the administrator's."""
        file = self.lab[host].directory / "token"
        _write_secret(file, token or self.admin_token)
        self.lab[host].tether("login", self.url, "--token-file", str(file), seconds=START_S)

    def configure_ssh(self, host: str = "client") -> None:
        """Let the stock `ssh` of a host that is logged in reach workspaces."""
        config = self.ssh_config(host)
        self.lab[host].tether("config-ssh", "--ssh-config-file", str(config), seconds=START_S)

    def ssh_config(self, host: str = "client") -> Path:
        return self.lab[host].directory / "ssh_config"

    def ssh_argv(self, *arguments: str, host: str = "client") -> list[str]:
        """The stock `ssh` with the configuration that reaches workspaces."""
        return ["ssh", "-F", str(self.ssh_config(host)), *arguments]

    def ssh(
        self,
        *command: str,
        workspace: str = "dev",
        host: str = "client",
        check: bool = True,
        **more: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command in a workspace by the stock `ssh`."""
        argv = self.ssh_argv(f"{workspace}.tether", *command, host=host)
        return self.lab[host].run(*argv, check=check, **more)

    def start_ssh(
        self,
        *command: str,
        workspace: str = "dev",
        host: str = "client",
        options: Sequence[str] = (),
        terminal: bool = False,
        name: str = "ssh",
        env: Mapping[str, str] | None = None,
        cgroup: LabCgroup | None = None,
    ) -> Program:
        """Start the stock `ssh`: a shell on a terminal, or a command on pipes."""
        argv = self.ssh_argv(*options, f"{workspace}.tether", *command, host=host)
        return self.lab[host].start(name, argv, terminal=terminal, env=env, cgroup=cgroup)

    # -- the record --------------------------------------------------------------------

    def connections(self, **filters: str | int) -> list[Row]:
        """The record as the server has it now, newest first; filters as in `tether connections`."""
        query = urlencode({"limit": 1000} | filters)
        rows = self._get(f"/api/v1/connections?{query}")
        if not isinstance(rows, list):
            raise LabError(f"no list of connections: {rows!r}")
        return rows

    def explain(self, connection_id: str) -> Row:
        """One connection's end with its evidence."""
        answer = self._get(f"/api/v1/connections/{connection_id}")
        if not isinstance(answer, dict):
            raise LabError(f"no explanation of {connection_id}: {answer!r}")
        return answer

    def ids(self) -> set[str]:
        """The ids of all connections that are known now, by which later ones are told apart."""
        return {row["id"] for row in self.connections()}

    def new_rows(self, before: set[str], **filters: str | int) -> list[Row]:
        return [row for row in self.connections(**filters) if row["id"] not in before]

    def wait_row(
        self,
        before: set[str],
        where: Callable[[Row], bool],
        seconds: float = 20.0,
        what: str = "a row as wanted",
    ) -> Row:
        """The first row that is not in `before` and for which `where` holds."""

        def check() -> Row | None:
            return next(filter(where, self.new_rows(before)), None)

        def shown() -> str:
            rows = json.dumps(self.new_rows(before), indent=1)
            return f"{rows}\n{self.server.tail()}"

        return wait_for(what, check, seconds, shown=shown)

    def wait_closed(
        self, before: set[str], seconds: float = 20.0, *, connect_type: str = "agent_to_client"
    ) -> Row:
        """The first new row of that type that is closed."""
        return self.wait_row(
            before,
            lambda row: row["connect_type"] == connect_type and bool(row["disconnected_at"]),
            seconds,
            f"a closed row of type {connect_type}",
        )

    def _get(self, path: str) -> Any:
        return self.lab["server"].get_json(SERVER_PORT, path, token=self.admin_token)


def kill_server(stack: LabStack) -> None:
    """Send SIGKILL to the server alone, and wait for its end."""
    stack.server.send_signal(signal.SIGKILL)
    stack.server.exit_code()


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
