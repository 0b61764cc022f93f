"""The environment of a session's process, and who sets what in it.

Law: the base set is built here, from the account and the settings, never by copying the agent's own
environment: the agent's token and its variables stay with the agent. A client may only add names
that the base set lacks, and only so many; its language is its own, as with sshd's `AcceptEnv LANG LC_*`.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

MAX_VARIABLES = 256
MAX_BYTES = 64 << 10
"""How much a client may set per session, names and values together."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FORBIDDEN = re.compile(r"(LD_|DYLD_|GCONV_PATH\Z|BASH_FUNC_|SSH_)")
_LANGUAGE = re.compile(r"(LANG|LC_[A-Z]+)\Z")
_OURS = re.compile(
    r"(TETHER|SSH_|LISTEN_|PYTHON|UV_|XDG_SESSION|GCONV_PATH\Z|LD_)"
    r"|(NOTIFY_SOCKET|INVOCATION_ID|JOURNAL_STREAM|WATCHDOG_PID|WATCHDOG_USEC|MAINPID"
    r"|CREDENTIALS_DIRECTORY|VIRTUAL_ENV|TERM|SHLVL|PWD|OLDPWD|_)\Z"
)


@dataclass(frozen=True, slots=True)
class Account:
    """Who commands run as."""

    name: str
    home: str
    shell: str


def current_account(environ: Mapping[str, str]) -> Account:
    """The agent's own account. A user without an entry (a bare uid in a container) gets /bin/sh."""
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
        name, home, shell = entry.pw_name, entry.pw_dir, entry.pw_shell
    except KeyError:
        name, home, shell = environ.get("USER", str(uid)), "/", environ.get("SHELL", "")
    return Account(name, environ.get("HOME") or home or "/", shell or "/bin/sh")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of a machine's environment that sessions should see.

    What an image or a service manager sets for everybody (PATH, LANG, JAVA_HOME …) passes; what
    concerns the agent's own process does not.
    """
    return {name: value for name, value in environ.items() if not _OURS.match(name)}


class ClientVariables:
    """What a client sets for one session, within bounds."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._bytes = 0

    def accept(self, name: bytes, value: bytes) -> bool:
        """Take one variable; False where it is not allowed or there is too much already."""
        word, text = os.fsdecode(name), os.fsdecode(value)
        if not _NAME.match(word) or _FORBIDDEN.match(word) or "\0" in text:
            return False
        if word not in self.values and len(self.values) >= MAX_VARIABLES:
            return False
        if self._bytes + len(name) + len(value) > MAX_BYTES:
            return False
        self._bytes += len(name) + len(value)
        self.values[word] = text
        return True


def connection_environment(
    *, connection_id: str, user: str, client: tuple[str, int]
) -> dict[str, str]:
    """What a program may know of the connection that started it, by our names and by sshd's.

    Args:
        connection_id: as in the connection log.
        user: who has connected, as the server knows them.
        client: the address and the port of their machine, as the server saw them.
    """
    ip, port = client[0] or "0.0.0.0", client[1]
    here = address_towards(ip)
    return {
        "TETHER_CONNECTION_ID": connection_id,
        "TETHER_USER": user,
        "SSH_CLIENT": f"{ip} {port} 22",
        "SSH_CONNECTION": f"{ip} {port} {here} 22",
    }


def address_towards(ip: str) -> str:
    """The address of this machine that `ip` would see; loopback where there is no way to `ip`.

    Nothing is sent. A program that is told where its user came in (`mosh-server -s`) listens there.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((ip, 9))  # any port: the kernel only chooses a source
            return str(sock.getsockname()[0])
    except OSError:
        return "::1" if family is socket.AF_INET6 else "127.0.0.1"


def session_environment(
    account: Account,
    *,
    settings: Mapping[str, str],
    client: Mapping[str, str],
    connection: Mapping[str, str],
) -> dict[str, str]:
    """The whole environment of one session's process.

    Args:
        account: who it runs as.
        settings: what the workspace sets for every session.
        client: what the client set; fills names that nobody else has set, and chooses the language.
        connection: what this connection and this session are (TETHER_…, SSH_…, TERM).
    """
    return {
        **client,
        "PATH": DEFAULT_PATH,
        **settings,
        **{name: value for name, value in client.items() if _LANGUAGE.match(name)},
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "TETHER": "true",
        **connection,
    }
