"""A child follows its parent into the grave, however that one dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from tether.net.parent import PARENT_VARIABLE, follow_parent

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl(2) is Linux's")

CHILD = """
import os, signal
from tether.net.parent import follow_parent
# Not print(): the signal may arrive while the line below is being printed.
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"asked to stop\\n"), os._exit(0)))
print(os.getpid(), follow_parent(), "TETHER_PARENT_PID" in os.environ, flush=True)
signal.pause()
"""

PARENT = f"""
import os, signal, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", {CHILD!r}], env={{**os.environ, "TETHER_PARENT_PID": str(os.getpid())}}
)
signal.pause()
"""


def test_without_a_named_parent_nobody_is_followed() -> None:
    environ = {"HOME": "x"}
    assert follow_parent(environ)
    assert environ == {"HOME": "x"}


@pytest.mark.parametrize("named", ["", "x", "-1"])
def test_a_name_that_is_no_process_is_taken_out_and_ignored(named: str) -> None:
    environ = {PARENT_VARIABLE: named}
    assert follow_parent(environ)
    assert environ == {}


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_is_asked_to_stop_when_its_parent_dies(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        try:
            assert parent.stdout is not None
            child, *told = parent.stdout.readline().split()
            assert told == ["True", "False"]
            parent.send_signal(number)
            assert parent.stdout.readline() == "asked to stop\n"
            assert parent.stdout.readline() == "", f"child {child} has ended"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


@linux
def test_a_parent_that_is_gone_already_is_told() -> None:
    code = "from tether.net.parent import follow_parent; print(follow_parent())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, PARENT_VARIABLE: "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ("True\n" if os.getpid() == 1 else "False\n")
