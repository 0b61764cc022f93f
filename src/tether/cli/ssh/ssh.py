"""`tether ssh NAME`: the stock `ssh` through Tether, with the remote command's true end.

Law: runs `ssh` as a child and adds what its exit code cannot tell: a command that was ended by a
signal is 128+n, as in a shell; 255 means that the connection failed, unless the remote command itself
exited so. The sentence that says why is printed by the proxy, once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tether.cli.output import wait_option
from tether.cli.ssh.options import executable, options
from tether.client.device_key import OPENSSH_KEYS, ensure_device_keys
from tether.client.errors import EXIT_CONNECTION_FAILED, Failure, os_failure
from tether.client.host_keys import SUFFIX, workspace_name
from tether.config import ConfigError, client_files, load
from tether.net.host import platform

RESULT_FILE = "TETHER_RESULT_FILE"
SENTENCE_LATER = "TETHER_SENTENCE_LATER"
QUIET = "TETHER_QUIET"
_IGNORED = platform.signals("SIGPIPE", "SIGXFSZ")
"""What Python ignores and a child must not."""

_FAILED = (EXIT_CONNECTION_FAILED, 128 + signal.SIGTERM)
"""How ssh ends without its connection; the second one where the proxy ended it, to keep it quiet."""

PROXY_ENDS_S = 2.0
"""How long after ssh's end the proxy may take to write down how the connection ended."""

LOOK_EVERY_S = 0.02

ENDED_BY_SIGNAL = 128
"""How a program ended that a signal has ended, and a number more. ssh's own 255 is above it, too."""

_WITH_VALUE = "LRDo"


class SshCommand(click.Command):
    """Accepts options before and right after NAME, as ssh does; the rest is the remote command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, arrange(args))


@click.command(cls=SshCommand, context_settings={"allow_interspersed_args": False})
@click.option("--stdio", is_flag=True, help="Be an OpenSSH ProxyCommand: carry bytes, no more.")
@click.option("-t", "terminal", count=True, help="Ask for a terminal; twice: in any case.")
@click.option("-T", "no_terminal", is_flag=True, help="Ask for no terminal.")
@click.option("-N", "no_command", is_flag=True, help="Run no command, only forward ports.")
@click.option("-A", "agent", is_flag=True, help="Forward the SSH agent.")
@click.option("-L", "local", multiple=True, metavar="SPEC", help="Forward a local port.")
@click.option("-R", "remote", multiple=True, metavar="SPEC", help="Forward a remote port.")
@click.option("-D", "dynamic", multiple=True, metavar="SPEC", help="Forward as a SOCKS proxy.")
@click.option("-v", "verbose", count=True, help="Let ssh tell what it does.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Say nothing while a lost connection is being resumed."
)
@click.option("-o", "more", multiple=True, metavar="OPTION", help="Any option of ssh_config.")
@wait_option
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, command: tuple[str, ...], stdio: bool, **given: Any) -> int:
    """Open a shell or run a command in a workspace.

    Exits with the remote exit code; 255 if the connection failed, with one sentence that says why.

    \b
    Examples:
      tether ssh dev
      tether ssh dev -- make test
      tether ssh -t dev htop
      tether ssh -N -L 8080:127.0.0.1:80 dev
    """
    if stdio:
        from tether.cli.ssh import stdio as proxy

        return proxy.main([name, *command])
    try:
        return _connect(workspace_name(name), command, given)
    except (Failure, ConfigError, OSError) as wrong:  # other codes may be the remote command's
        told = os_failure(wrong) if isinstance(wrong, OSError) else wrong
        raise Failure(str(told), EXIT_CONNECTION_FAILED) from wrong


def stock_ssh(host: str, *first: str) -> list[str]:
    """How ssh is started for `host`, without the host; of an option, the `first` value counts."""
    program = shutil.which("ssh")
    if program is None:
        raise Failure(
            "OpenSSH's `ssh` is not installed: install it first (Debian and Ubuntu: "
            "`apt install openssh-client`; Fedora: `dnf install openssh-clients`)"
        )
    load(os.environ)  # say now, and once, what is missing
    files = client_files(os.environ)
    keys = ensure_device_keys(files, OPENSSH_KEYS)
    argv = [program, *first]
    for key, value in options(files, executable(), host, keys):
        argv += ["-o", f"{key}={value}"]
    return [*argv, "-o", f"HostKeyAlias={host}{SUFFIX}", "-o", "ControlPath=none"]


def _connect(host: str, command: Sequence[str], given: Mapping[str, Any]) -> int:
    first = passed_through(given)
    if given["verbose"]:
        first += ["-o", f"LogLevel=DEBUG{min(given['verbose'], 3)}"]
    argv = stock_ssh(host, *first)
    with tempfile.TemporaryDirectory(prefix="tether-", ignore_cleanup_errors=True) as directory:
        result_file = Path(directory, "result.json")
        env = {**os.environ, RESULT_FILE: str(result_file)}
        if given["quiet"]:
            env[QUIET] = "1"
        terminal = _terminal(command, given)
        if terminal is not None:
            env[SENTENCE_LATER] = "1"
        status = run_child([*argv, "--", f"{host}{SUFFIX}", *command], env)
        cut_short = terminal is not None and status >= ENDED_BY_SIGNAL
        result = last_result(result_file) if cut_short else read_result(result_file)
        code, line = exit_code(status, result)
    if terminal is not None and cut_short:
        terminal.restore()
        line = str(result.get("sentence") or line)
    if line:
        print(f"tether: {line}", file=sys.stderr)
    return code


class UsersTerminal:
    """The terminal in which `ssh` shows a remote one, and how it was before."""

    def __init__(self) -> None:
        """Raises OSError where there are no modes to be remembered."""
        self._modes = platform.TerminalModes(0)
        if not self._modes.remember():
            raise OSError("a terminal without modes")

    def restore(self) -> None:
        """ssh, or its connection, ended at once: nobody has undone what the remote program had told
        the terminal."""
        from tether.cli.terminal_modes import CANCEL, LEAVE_ALTERNATE_IF_THERE, USUAL

        with contextlib.suppress(OSError):
            os.write(1, CANCEL + LEAVE_ALTERNATE_IF_THERE + USUAL + b"\r")
        self._modes.restore()


def _terminal(command: Sequence[str], given: Mapping[str, Any]) -> UsersTerminal | None:
    """The user's terminal, where ssh will ask for one at the other end and there is one here."""
    wanted = given["terminal"] or not (command or given["no_command"] or given["no_terminal"])
    if not wanted or not (os.isatty(0) and os.isatty(1)):
        return None
    try:
        return UsersTerminal()
    except OSError:
        return None


def arrange(arguments: Sequence[str], values_of: Callable[[str], int] | None = None) -> list[str]:
    """`arguments` with the options that follow NAME moved before it, and `--` after NAME.

    ssh reads options up to its first word that is none, then a host, then options again.
    `values_of` tells how many words after an option are its values; None knows ours.
    """
    values_of = values_of or _takes_next
    front: list[str] = []
    rest, name = list(arguments), None
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("-") and word != "-":
            front.append(word)
            values = values_of(word)
            front += rest[:values]
            del rest[:values]
        elif name is None:
            name = word
        else:
            rest.insert(0, word)
            break
    if name is None and rest:
        name = rest.pop(0)
        if rest[:1] == ["--"]:
            rest.pop(0)
    return front if name is None else [*front, "--", name, *rest]


def _takes_next(word: str) -> bool:
    """Whether the value of an option, or of a cluster of short ones such as `-NL`, is the next word."""
    if word == "--wait":
        return True
    valued = [letter in _WITH_VALUE for letter in word[1:]]
    return not word.startswith("--") and True in valued and valued.index(True) == len(valued) - 1


def passed_through(given: Mapping[str, Any]) -> list[str]:
    """The user's options, as ssh wants them."""
    argv = ["-t"] * given["terminal"]
    for key, flag in (("no_terminal", "-T"), ("no_command", "-N"), ("agent", "-A")):
        argv += [flag] if given[key] else []
    for key, flag in (("local", "-L"), ("remote", "-R"), ("dynamic", "-D"), ("more", "-o")):
        for value in given[key]:
            argv += [flag, value]
    return argv


def run_child(argv: list[str], env: Mapping[str, str]) -> int:
    """Run a program in our place: hand signals on, stop when it stops; its exit code, or 128+n.

    A signal from the terminal reaches the child by itself; one from another process is passed on.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if not platform.SPAWNS:
        return platform.wait_for_program(argv, env)
    watched = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = platform.block_signals(watched)
    try:
        child = os.posix_spawn(argv[0], argv, env, setsigmask=before, setsigdef=_IGNORED)
        while True:
            number, by_process = _next_signal(watched)
            if number != signal.SIGCHLD:
                if by_process:
                    os.kill(child, number)
                continue
            done, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if not done:
                continue
            if os.WIFSTOPPED(status):  # `~^Z`: the shell must see us stop, too
                os.kill(os.getpid(), signal.SIGSTOP)
                os.kill(child, signal.SIGCONT)
                continue
            ended = os.waitstatus_to_exitcode(status)
            return ended if ended >= 0 else 128 - ended
    finally:
        platform.unblock_signals(before)


def _next_signal(watched: set[signal.Signals]) -> tuple[int, bool]:
    """Wait for one; whether a process sent it, and not the kernel for a terminal."""
    number, told = platform.wait_for_signal(watched)
    # where nothing is told, as on macOS: ssh takes the same signal twice in its stride
    return number, told is None or told.si_code <= 0


def read_result(path: Path) -> Mapping[str, Any]:
    """The last that the proxy wrote; nothing if it did not run (a shared connection of the user's)."""
    try:
        whole = path.read_bytes().rpartition(b"\n")[0]
        result = json.loads(whole.rpartition(b"\n")[2])
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


def last_result(path: Path) -> Mapping[str, Any]:
    """The same, once the proxy has said how the connection ended: ssh may have left before it."""
    deadline = time.monotonic() + PROXY_ENDS_S  # noqa: TID251  # no clock of ours has been made yet
    while not (result := read_result(path)).get("by") and time.monotonic() < deadline:  # noqa: TID251
        time.sleep(LOOK_EVERY_S)
    return result


def exit_code(status: int, result: Mapping[str, Any]) -> tuple[int, str]:
    """Our exit code, and a line to print, from that of `ssh` and what the proxy knows.

    ssh answers 255 both for a failed connection and for a command that a signal ended.
    """
    if status in _FAILED and result.get("by") in ("remote", "failed"):
        return EXIT_CONNECTION_FAILED, ""  # the proxy has said what happened
    name = result.get("exit_signal")
    if status != EXIT_CONNECTION_FAILED or not isinstance(name, str) or not name.isalnum():
        return status, ""
    number = getattr(signal, f"SIG{name}", None)
    code = 128 + number if isinstance(number, signal.Signals) else EXIT_CONNECTION_FAILED
    return code, f"the remote command was ended by signal {name}"
