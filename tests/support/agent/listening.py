"""Real processes that listen on real ports, and end when the test does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.deadline import DEADLINE_S

# argv: family, host, port, exit code on end of input, then anything
_LISTENER = """
import os, socket, sys
family, host, port, code = sys.argv[1:5]
server = socket.socket(getattr(socket, family))
if family == "AF_INET6":
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.bind((host, int(port)))
server.listen()
print(server.getsockname()[1], flush=True)
sys.stdin.read()
os._exit(int(code))
"""


@dataclass
class Listening:
    """A child that listens on `port`."""

    process: subprocess.Popen[str]
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def finish(self) -> None:
        """Let it exit with its code, and bury it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(DEADLINE_S)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill it and bury it."""
        self.process.send_signal(number)
        self.process.wait(DEADLINE_S)


@contextlib.contextmanager
def listening(
    host: str = "127.0.0.1", *arguments: str, port: int = 0, code: int = 0
) -> Iterator[Listening]:
    """A process that listens on `host`, with `arguments` in its command line."""
    family = "AF_INET6" if ":" in host else "AF_INET"
    command = [sys.executable, "-c", _LISTENER, family, host, str(port), str(code), *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the listener did not start"
        yield Listening(process, int(line))
    finally:
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
