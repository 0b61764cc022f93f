"""`tether ssh`: its arguments, its child, its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tether.cli.ssh.ssh import arrange, exit_code, passed_through


@pytest.mark.parametrize(
    ("given", "arranged"),
    [
        ("dev", "-- dev"),
        ("dev -- uname -a", "-- dev uname -a"),
        ("dev uname -a", "-- dev uname -a"),
        ("dev -t -A top -b", "-t -A -- dev top -b"),
        ("-tt -L 1:b:2 dev -N", "-tt -L 1:b:2 -N -- dev"),
        ("-NL 1:b:2 dev", "-NL 1:b:2 -- dev"),
        ("-L1:b:2 dev x", "-L1:b:2 -- dev x"),
        ("-o A=b dev -o C=d -- -x", "-o A=b -o C=d -- dev -x"),
        ("-- dev -- cmd -- --", "-- dev cmd -- --"),
        ("dev --help", "--help -- dev"),
        ("--help", "--help"),
    ],
)
def test_options_are_read_where_ssh_reads_them(given: str, arranged: str) -> None:
    assert arrange(given.split()) == arranged.split()


def test_options_are_passed_to_ssh() -> None:
    given: dict[str, Any] = {
        "terminal": 2,
        "no_terminal": False,
        "no_command": True,
        "agent": True,
        "local": ("1:b:2", "3:d:4"),
        "remote": (),
        "dynamic": ("1080",),
        "more": ("User=x",),
    }
    want = "-t -t -N -A -L 1:b:2 -L 3:d:4 -D 1080 -o User=x"
    assert passed_through(given) == want.split()


@pytest.mark.parametrize(
    ("status", "result", "want"),
    [
        (0, {}, (0, "")),
        (3, {"exit_code": 3}, (3, "")),
        (255, {"exit_code": 255, "by": "local"}, (255, "")),
        (255, {}, (255, "")),
        (
            255,
            {"exit_signal": "TERM"},
            (143, "the remote command was ended by signal TERM"),
        ),
        (
            255,
            {"exit_signal": "WEIRD"},
            (255, "the remote command was ended by signal WEIRD"),
        ),
        (255, {"exit_signal": "HUP", "by": "remote"}, (255, "")),
        (143, {"by": "failed"}, (255, "")),
        (3, {"exit_code": 3, "by": "remote"}, (3, "")),
        (143, {}, (143, "")),
    ],
)
def test_the_exit_code_tells_a_command_from_a_connection(
    status: int, result: dict[str, Any], want: tuple[int, str]
) -> None:
    assert exit_code(status, result) == want


RUNNER = (
    "import os, sys; from tether.cli.ssh.ssh import run_child;"
    "sys.exit(run_child(sys.argv[1:], dict(os.environ)))"
)


@contextlib.contextmanager
def runner(script: str) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", RUNNER, sys.executable, "-u", "-c", script]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("script", "code"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_the_childs_end_becomes_our_exit_code(script: str, code: int) -> None:
    with runner(script) as process:
        assert process.wait(DEADLINE_S) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_from_a_process_is_handed_to_the_child(number: signal.Signals) -> None:
    script = (
        "import signal, sys\n"
        f"print(signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}]), flush=True)\n"
        f"print(signal.sigwait([{int(number)}]))\n"
        "sys.exit(9)\n"
    )
    with runner(script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"set()\n", "the child starts with no signal blocked"
        os.kill(process.pid, number)
        assert (process.wait(DEADLINE_S), process.stdout.read()) == (9, f"{int(number)}\n".encode())


def test_when_the_child_stops_we_stop_and_go_on_together() -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP); print('on', flush=True)"
    with runner(script) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout is not None
        assert process.stdout.read() == b"on\n"
        assert process.wait(DEADLINE_S) == 0
