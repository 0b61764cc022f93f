"""What the SSH server is told, and what all its connections share.

Law: these are values, and nothing here acts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from tether.agent.commands.policy import TransferPolicy
from tether.agent.forwarding.listeners import Listeners
from tether.agent.ide.watcher import IdeWatcher
from tether.agent.metrics import AgentMetrics
from tether.agent.process.environment import Account, current_account
from tether.agent.process.process import Processes
from tether.agent.ssh.host_key import HostKey
from tether.agent.ssh.x11 import NUMBERS, Displays
from tether.agent.terminal.pty import PtySettings
from tether.agent.terminal.service import TerminalService, TerminalSettings
from tether.net.clock import Clock
from tether.net.link.host_context import HostContext, NoHostContext
from tether.protocol.messages.reports import ReportItem


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """What the SSH server needs to know. A new value may be assigned to `SshServer.settings` at any
    time, as a Welcome does, and holds for the tunnels that are served from then on. Only the host key
    of the first value stays."""

    host_key: HostKey
    user_ca_key: str = ""
    """The server's user CA, one OpenSSH line; "" trusts no certificate."""
    workspace: str = ""
    workspace_id: str = ""
    login_timeout_s: float = 30.0
    env: Mapping[str, str] = field(default_factory=dict)
    """What every session's environment starts from: `environment.inherited(os.environ)`."""
    account: Account | None = None
    """Who commands run as; None for the agent's own user, looked up for each connection."""
    directory: str = ""
    """Where sessions start, `~` and variables in it expanded; "" is the home directory."""
    motd_file: Path | None = None
    """Shown to login shells on a terminal; None shows nothing."""
    announcement_file: Path | None = None
    """The same, and also shown where the user asked for quiet (`~/.hushlogin`)."""
    policy: TransferPolicy = field(default_factory=TransferPolicy)
    displays: range = NUMBERS
    """Numbers that forwarded X11 displays may have. Only those of the first value are used."""
    terminals: PtySettings = field(default_factory=PtySettings)
    """Limits of reconnecting terminals. A new value holds after the next stop of the workspace."""

    def for_terminals(self) -> TerminalSettings:
        """What a new reconnecting terminal starts with."""
        account = self.account or current_account(os.environ)
        return TerminalSettings(
            account=account,
            directory=self.directory_of(account),
            env=self.env,
            workspace=self.workspace,
            workspace_id=self.workspace_id,
            limits=self.terminals,
        )

    def directory_of(self, account: Account) -> str:
        """Where sessions of `account` start."""
        if not self.directory:
            return account.home
        known = {**self.env, "HOME": account.home, "USER": account.name}
        path = self.directory
        if path == "~" or path.startswith("~/"):
            path = account.home + path[1:]
        path = Template(path).safe_substitute(known)
        return os.path.normpath(os.path.join(account.home, path))


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedParts:
    """What every connection of one agent uses."""

    clock: Clock
    processes: Processes
    metrics: AgentMetrics
    displays: Displays
    ide: IdeWatcher
    terminals: TerminalService
    listeners: Listeners
    on_item: Callable[[ReportItem], None]
    host_context: HostContext = field(default_factory=NoHostContext)
