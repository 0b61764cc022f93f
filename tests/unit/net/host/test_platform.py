"""The client imports and starts where modules, signals and calls of POSIX are missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tether.net.host import platform

MODULES = (
    *("tether.cli.ssh.ssh", "tether.cli.ssh.stdio", "tether.cli.ssh.config"),
    *("tether.cli.port_forward.port_forward", "tether.cli.port_forward.run"),
    *("tether.cli.network.ping", "tether.client.probe", "tether.client.bridge"),
    *("tether.cli.attach.attach", "tether.cli.attach.run", "tether.cli.attach.loop"),
    *("tether.client.connection", "tether.client.ssh_client", "tether.client.status_line"),
)
"""What ssh, stdio, config-ssh, port-forward, ping and attach are made of."""

MISSING_MODULES = ("fcntl", "termios", "tty", "pty", "resource", "pwd", "grp", "syslog")
MISSING_SIGNALS = (
    *("SIGHUP", "SIGQUIT", "SIGKILL", "SIGPIPE", "SIGXFSZ", "SIGCHLD", "SIGSTOP", "SIGCONT"),
    *("SIGWINCH", "SIGUSR1", "SIGUSR2", "SIGBUS", "SIGTSTP"),
)
MISSING_CALLS = ("sigwaitinfo", "sigtimedwait", "pthread_sigmask", "sigwait", "pthread_kill")
MISSING_OF_OS = ("posix_spawn", "O_CLOEXEC", "O_NOFOLLOW", "getpgrp", "tcgetpgrp", "fchmod")

SYSTEMS = {
    **{f"without {one}": ((one,), (), (), ()) for one in MISSING_MODULES},
    "as macOS": ((), (), ("sigwaitinfo", "sigtimedwait"), ()),
    "as Windows": (MISSING_MODULES, MISSING_SIGNALS, MISSING_CALLS, MISSING_OF_OS),
}
"""What is missing there: modules, signals, calls of `signal`, and names of `os`."""

LACKING = textwrap.dedent("""
    import asyncio, builtins, importlib, os, signal, subprocess, sys
    known, by_name = builtins.__import__, importlib.import_module
    def ours(name, globals=None, *more, **named):
        if name in {modules!r} and (globals or {{}}).get("__name__", "").startswith("tether"):
            raise ImportError(f"there is no {{name}} here")
        return known(name, globals, *more, **named)
    def module(name, *more):
        if name in {modules!r}:
            raise ImportError(f"there is no {{name}} here")
        return by_name(name, *more)
    builtins.__import__, importlib.import_module = ours, module
    for place, names in ((signal, {signals!r}), (os, {of_os!r})):
        for name in names:
            if hasattr(place, name):
                delattr(place, name)
""")
"""Libraries ask which system this is, and have their ways around; only our own code is refused."""


def lacking(
    modules: object, signals: tuple[str, ...], calls: tuple[str, ...], of_os: object
) -> str:
    """Code that makes this system lack something, before anything of ours is imported."""
    return LACKING.format(modules=modules, signals=(*signals, *calls), of_os=of_os)


def run(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TETHER")}
    env |= {"TETHER_CONFIG_DIR": str(tmp_path / "config"), "HOME": str(tmp_path)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_client_imports_where_something_is_missing(system: str, tmp_path: Path) -> None:
    code = f"{lacking(*SYSTEMS[system])}\nimport importlib\n" + "".join(
        f"importlib.import_module({module!r})\n" for module in MODULES
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ssh", "--help"], "Open a shell or run a command"),
        (["ssh", "dev"], "tether: "),
        (["ssh", "--stdio", "dev.tether"], "tether: "),
        (["config-ssh", "--help"], "any ssh program"),
        (["port-forward", "dev", "--tcp", "8080"], "tether: "),
        (["ping", "dev"], "tether: "),
        (["attach", "dev"], "tether: "),
        (["connections"], "tether: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_start_as_on_windows_and_say_what_they_need(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    code = (
        f"{lacking(*SYSTEMS['as Windows'])}\n"
        f"from tether.__main__ import main\nsys.exit(main({arguments!r}))"
    )
    done = run(code, tmp_path)
    assert said in done.stdout + done.stderr
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_signal_without_a_sender_is_handed_over_where_nothing_tells_it(tmp_path: Path) -> None:
    for system in ("as macOS", "as Windows"):
        code = lacking(*SYSTEMS[system]) + textwrap.dedent("""
            from tether.net.signals import SignalWatcher
            async def main():
                came = asyncio.get_running_loop().create_future()
                watcher = SignalWatcher(came.set_result)
                os.kill(os.getpid(), signal.SIGTERM)
                try:
                    received = await came
                    print(int(received.number), repr(received.sender))
                finally:
                    watcher.stop()
            asyncio.run(main())
        """)
        done = run(code, tmp_path)
        assert (done.stdout, done.stderr) == ("15 ''\n", "")


def test_a_lock_keeps_others_out_until_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = os.open(path, os.O_RDWR | os.O_CREAT)
    second = os.open(path, os.O_RDWR)
    try:
        platform.lock(first, wait=False)
        with pytest.raises(OSError, match="unavailable"):
            platform.lock(second, wait=False)
        os.close(first)
        platform.lock(second, wait=False)
    finally:
        os.close(second)


def test_a_program_that_is_only_waited_for_has_its_exit_code() -> None:
    end = "import os, sys; sys.exit(7)"
    assert platform.wait_for_program([sys.executable, "-c", end], os.environ) == 7
    kill = "import os; os.kill(os.getpid(), 15)"
    assert platform.wait_for_program([sys.executable, "-c", kill], os.environ) == 143


def test_signals_that_are_missing_keep_their_numbers() -> None:
    assert platform.number_of("SIGKILL") == signal.SIGKILL
    assert platform.number_of("SIGNOSUCH") == 0
    assert platform.signals("SIGTERM", "SIGNOSUCH") == (signal.SIGTERM,)
