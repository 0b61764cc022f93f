"""Which app a session serves: its name, and the family that users filter by.

Law: pure. The variable that a client sets decides; where it is absent, VS Code and its relatives are
recognised by the script with which they start their server, which stock Remote-SSH writes to the
standard input of a bare `sh` or `bash` and its relatives pass as `bash -c '…'`; Zed, JetBrains' and
Neovim's servers are recognised as programs, and TRAMP by the variable that it sets. The variable never
reaches the child's environment. Recognition only names a session: it never changes what runs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from tether.agent.commands.command_line import (
    MAX_COMMAND,
    basename,
    is_shell,
    programs,
)
from tether.attribution.vocabulary import ConnectionType
from tether.protocol import udp as datagrams
from tether.protocol.apps import FAMILIES
from tether.protocol.terminal import messages as terminal

VARIABLES = ("TETHER_SSH_SESSION_TYPE", "CODER_SSH_SESSION_TYPE")
"""Our own name first: it decides where both are set. The other is what existing plugins send."""

_ADDS_LOGIN_KEYS = re.compile(r">>\s*[\"']?[^\s\"';|&]*\bauthorized_keys\b")

MAX_NAME = 64
"""Characters of an app's name; the rest is cut."""


class Source(Enum):
    """How a session's app is known."""

    VARIABLE = auto()
    BOOTSTRAP = auto()
    DEFAULT = auto()


@dataclass(frozen=True, slots=True)
class SessionType:
    """`app` is what counters are kept by; `recognized` is False for a name that no family has."""

    app: str
    family: ConnectionType
    source: Source
    recognized: bool = True


PLAIN = SessionType("ssh", ConnectionType.SSH, Source.DEFAULT)
KINDS = {
    terminal.SUBSYSTEM: SessionType(
        "reconnecting_pty", ConnectionType.RECONNECTING_PTY, Source.DEFAULT
    ),
    datagrams.SUBSYSTEM: SessionType("port_forward", ConnectionType.PORT_FORWARD, Source.DEFAULT),
}
"""What our own subsystems are for."""


def normalized(value: str) -> str:
    """`value` as an app's name: `" JetBrains\\n"` reads as `jetbrains`, `code-server` as
    `code_server`; "" where nothing is left."""
    printable = "".join(char for char in value if unicodedata.category(char) != "Cc")
    return printable.strip()[:MAX_NAME].strip().lower().replace("-", "_")


def from_environment(
    assignments: Iterable[tuple[str, str]],
) -> tuple[SessionType | None, dict[str, str]]:
    """What the client declared, and the environment without the declaration.

    Of several values of one variable the last wins. A variable that is set but empty says `ssh`;
    None where neither variable is set: ask `Bootstrap` then.
    """
    declared: dict[str, str] = {}
    environment: dict[str, str] = {}
    for name, value in assignments:
        (declared if name in VARIABLES else environment)[name] = value
    names = [normalized(declared[variable]) for variable in VARIABLES if variable in declared]
    if not names:
        return None, environment
    return _typed(next(filter(None, names), "ssh"), Source.VARIABLE), environment


def _typed(app: str, source: Source) -> SessionType:
    family = FAMILIES.get(app)
    return SessionType(app, family or ConnectionType.SSH, source, recognized=family is not None)


# -- recognition by bootstrap script -----------------------------------------------------------

SNIFF_BYTES = 32 << 10
"""How much of a shell's standard input is looked at. The scripts name their folder in the first 2."""

TYPED_BYTES = 2 << 10
"""How much of what is typed into a terminal is looked at."""

_SERVER_FOLDERS: Mapping[str, str] = {
    ".vscode-server": "vscode",
    ".vscode-server-insiders": "vscode_insiders",
    ".vscode-server-oss": "code_oss",
    ".vscode-remote": "vscode",
    ".vscodium-server": "vscodium",
    ".vscodium-server-insiders": "vscodium_insiders",
    ".cursor-server": "cursor",
    ".windsurf-server": "windsurf",
    ".positron-server": "positron",
    ".antigravity-server": "antigravity",
    ".trae-server": "trae",
    ".trae-cn-server": "trae_cn",
    ".kiro-server": "kiro",
    ".devin-server": "devin",
}
"""The folder that each program keeps its server in, under the user's home."""

_FOLDER = re.compile(r"(?<![\w.-])(\.[a-z]+(?:-[a-z]+)*[-_](?:server|remote)(?:-[a-z]+)?)(?![\w-])")
_BOOTSTRAP = re.compile(
    r"VSCODE_AGENT_FOLDER|SERVER_DATA_DIR=|print_install_results_and_exit"
    r"|listeningOn==|vscode-remote-lock|--start-server|command-shell\s"
    r"|-server/(?:bin|cli/servers)/[\w-]*[0-9a-f]{40}"
)
"""What only a script that installs or starts such a server says: a person's `ls ~/.vscode-server`
says none of it."""


_JETBRAINS = re.compile(
    r"/remote-dev-server(\.sh)?$|/remote-dev-worker\b|/JetBrains/(RemoteDev|Toolbox)/"
)
_NEOVIM_SERVES = {"--embed", "--headless", "--listen"}
_TRAMP = re.compile(r"INSIDE_EMACS=['\"]?[\w.]+,tramp\b")
"""TRAMP is a shell that it drives itself; what it tells each of them first is who it is."""

_PROGRAM_HINT = re.compile(r"\.zed_server/|remote-dev-|JetBrains/|nvim|INSIDE_EMACS")
"""Programs that are the server themselves, without a script that installs them."""


def bootstrap_type(script: str) -> SessionType | None:
    """The type of a session that runs `script`, if it installs or starts an editor's server."""
    text = script[:MAX_COMMAND]
    app = _app_of_program(text)
    if app is not None:
        return _typed(app, Source.BOOTSTRAP)
    if _BOOTSTRAP.search(text) is None:
        return None
    for folder in _FOLDER.finditer(text):
        app = _SERVER_FOLDERS.get(folder.group(1))
        if app is not None:
            return _typed(app, Source.BOOTSTRAP)
    return None


def _app_of_program(text: str) -> str | None:
    """The app whose server is one of the programs that `text` runs."""
    if _PROGRAM_HINT.search(text) is None:  # scripts are long, and most of them are no editor's
        return None
    if _TRAMP.search(text) is not None:
        return "emacs"
    for found in programs(text):
        path = f"/{found[0]}"
        if "/.zed_server/" in path:
            return "zed"
        if _JETBRAINS.search(path):
            return "jetbrains"
        if basename(path) == "nvim" and _NEOVIM_SERVES & set(found[1:]):
            return "neovim"
    return None


def _tramp_type(typed: str) -> SessionType | None:
    return _typed("emacs", Source.BOOTSTRAP) if _TRAMP.search(typed) else None


class Bootstrap:
    """Recognises one session by its command, and where that is a bare shell by its standard input.

    Make one for a session without a declared type. Call `feed` with each piece of input while
    `undecided`; once it is not, `type` stays as it is.
    """

    def __init__(self, command: str | None, *, pty: bool) -> None:
        self.type = PLAIN
        recognized = bootstrap_type(command) if command else None
        if recognized is not None:
            self.type = recognized
        # A person types into a terminal; an editor's script comes to a shell that has none. TRAMP alone
        # drives a shell on a terminal.
        self.undecided = recognized is None and (not command or is_shell(command))
        self._most = TYPED_BYTES if pty else SNIFF_BYTES
        self._recognize = _tramp_type if pty else bootstrap_type
        self._seen = b""
        self._look_at = 0

    def feed(self, data: bytes) -> SessionType | None:
        """More of the input arrived; the type, if these bytes decided it."""
        if not self.undecided:
            return None
        self._seen += data[: self._most - len(self._seen)]
        if len(data) < 128 and len(self._seen) < min(self._look_at, self._most):
            return None
        self._look_at = len(self._seen) + max(256, len(self._seen) // 4)  # not at every byte again
        recognized = self._recognize(self._seen.decode("utf-8", "replace"))
        if recognized is not None:
            self.type = recognized
        if recognized is not None or len(self._seen) >= self._most:
            self.undecided = False
            self._seen = b""
        return recognized


# -- file transfer ------------------------------------------------------------------------------


class Direction(Enum):
    """Which way files go, seen from the user."""

    UPLOAD = auto()
    DOWNLOAD = auto()
    BOTH = auto()


@dataclass(frozen=True, slots=True)
class Transfer:
    """A session that moves files. `program` is "sftp", "scp" or "rsync"."""

    program: str
    direction: Direction
    paths: tuple[str, ...] = ()


def transfer_of(command: str | None, subsystem: str | None = None) -> Transfer | None:
    """How a session moves files, None where it does not.

    Only the far half of a transfer counts: `scp -t`, `rsync --server`, an SFTP server. A `scp` that
    a user runs inside the workspace is a program like any other.
    """
    if subsystem == "sftp":
        return Transfer("sftp", Direction.BOTH)
    transfers = (_transfer(found) for found in programs(command or ""))
    return next((each for each in transfers if each is not None), None)


def _transfer(found: list[str]) -> Transfer | None:
    name = basename(found[0])
    if name in ("sftp-server", "internal-sftp"):
        return Transfer("sftp", Direction.BOTH)
    if name == "scp":
        return _scp(found[1:])
    if name == "rsync" and "--server" in found:
        direction = Direction.DOWNLOAD if "--sender" in found else Direction.UPLOAD
        operands = [word for word in found[1:] if not word.startswith("-")]
        return Transfer("rsync", direction, tuple(operands[1:]))  # the first one is always "."
    return None


def adds_login_keys(command: str | None) -> bool:
    """Whether a command adds to a user's `authorized_keys`, as `ssh-copy-id` does."""
    return _ADDS_LOGIN_KEYS.search((command or "")[:MAX_COMMAND]) is not None


def connection_type(session: SessionType, transfer: Transfer | None) -> ConnectionType:
    """The word for the connection log: what the client declared, then what the session does."""
    if session.family is ConnectionType.SSH and transfer is not None and transfer.program == "sftp":
        return ConnectionType.SFTP
    return session.family


def _scp(arguments: list[str]) -> Transfer | None:
    letters, paths = "", []
    while arguments:
        word, *arguments = arguments
        if word == "--":
            paths += arguments
            break
        if word.startswith("-") and len(word) > 1:
            letters += word[1:]
        else:
            paths.append(word)
    for letter, direction in (("t", Direction.UPLOAD), ("f", Direction.DOWNLOAD)):
        if letter in letters:
            return Transfer("scp", direction, tuple(paths))
    return None
