"""The stock `ssh` that carries an attach: frames in and out of its pipes, its words, its end.

Law: never waits but where it says so. ssh has a process group of its own, so that what the terminal
does to us (Ctrl-C, a hang-up) is ours to say to the agent. `finish` leaves no process behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tether.cli.ssh.ssh import RESULT_FILE, read_result, stock_ssh
from tether.client.host_keys import SUFFIX
from tether.client.status_line import COLUMNS, is_sentence, split
from tether.net.host.platform import number_of
from tether.protocol.messages.base import Garbage
from tether.protocol.terminal.messages import (
    SUBSYSTEM,
    AttachEnded,
    FrameReader,
    Item,
    TerminalMessage,
    frame,
    opening_line,
)

CROWDED = 256 << 10
"""Bytes that wait for ssh above which nothing more is read from the user."""

_LEAVES_S = 3.0
"""How long ssh may take to go once its session is over."""

_READ = 256 << 10


class Line:
    """The `ssh` of one attach. Call `finish` at the end."""

    def __init__(self, host: str, columns: int = 0) -> None:
        """`columns`: how wide the terminal is that `drawn` is for; 0 where only sentences are shown."""
        self.over = False
        """Nothing more will come."""
        self._frames = FrameReader()
        self._pending = bytearray()
        self._words = bytearray()
        self._directory = tempfile.TemporaryDirectory(prefix="tether-", ignore_cleanup_errors=True)
        self._result = Path(self._directory.name, "result.json")
        self._drawn: list[bytes] = []
        env = {**os.environ, RESULT_FILE: str(self._result), COLUMNS: str(columns)}
        argv = stock_ssh(host, "-T", "-o", "BatchMode=yes", "-o", "RequestTTY=no")
        self._ssh = ssh = subprocess.Popen(
            [*argv, "-s", "--", f"{host}{SUFFIX}", SUBSYSTEM],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
        self._in, self._out, self._err = map(_given, (ssh.stdin, ssh.stdout, ssh.stderr))
        self.stdin = self._in.fileno()
        self.stdout = self._out.fileno()
        self.stderr: int | None = self._err.fileno()
        os.set_blocking(self.stdin, False)

    @property
    def waiting(self) -> int:
        """Bytes that ssh has not taken yet: call `flush` when it takes more."""
        return len(self._pending)

    def open(self, message: TerminalMessage) -> None:
        """Say first what this attach is for."""
        self._send(opening_line(message))

    def send(self, item: Item) -> None:
        """Send a message, or what was typed."""
        self._send(frame(item))

    def flush(self) -> None:
        """ssh takes more."""
        try:
            while self._pending:
                del self._pending[: os.write(self.stdin, self._pending)]
        except BlockingIOError:
            pass
        except OSError:  # ssh is gone: the end of its output says so
            self._pending.clear()

    def read(self) -> list[Item]:
        """What has arrived; call it when there is something to read."""
        data = os.read(self.stdout, _READ)
        self.over = not data
        try:
            return list(self._frames.feed(data))
        except Garbage as garbage:
            self.over = True
            self._words += f"tether: the agent sent {garbage}\n".encode()
            return []

    def read_words(self) -> None:
        """ssh or its proxy said something."""
        assert self.stderr is not None
        words = os.read(self.stderr, _READ)
        self._words += words
        self._words[:], drawings = split(bytes(self._words))
        self._drawn += drawings
        if not words:
            self.stderr = None

    def drawn(self) -> list[bytes]:
        """What the proxy wants to be drawn on the terminal, since this was asked last."""
        drawn, self._drawn = self._drawn, []
        return drawn

    def words(self) -> str:
        """What was said since this was asked last."""
        said = self._words.decode("utf-8", "replace")
        self._words.clear()
        return said

    def result(self) -> Mapping[str, Any]:
        """What the proxy wrote down about the connection's end."""
        return read_result(self._result)

    def give_up(self) -> None:
        """End ssh: nobody needs the connection any more."""
        with contextlib.suppress(ProcessLookupError):
            self._ssh.terminate()

    def finish(self) -> None:
        """Wait for ssh to go, and see to it that it does."""
        self._in.close()
        self._pending.clear()
        # Its pipes are read to their end, or it might wait for us.
        while not self.over or self.stderr is not None:
            wanted = [
                fd for fd in (None if self.over else self.stdout, self.stderr) if fd is not None
            ]
            ready, _, _ = select.select(wanted, [], [], _LEAVES_S)
            if not ready:
                break
            if self.stdout in ready:
                self.over = not os.read(self.stdout, _READ)
            if self.stderr in ready:
                self.read_words()
        for number in (0, signal.SIGTERM, number_of("SIGKILL")):  # 0 only looks
            self._ssh.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._ssh.wait(_LEAVES_S)
                break
        self._out.close()
        self._err.close()

    def forget(self) -> None:
        """The result has been read."""
        self._directory.cleanup()

    def _send(self, data: bytes) -> None:
        self._pending += data
        self.flush()


def _given(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "asked for"
    return pipe


def ask(line: Line, request: TerminalMessage) -> TerminalMessage | None:
    """The agent's one answer to `request`; None where the connection ended before it. Waits."""
    line.open(request)
    answer: TerminalMessage | None = None
    while not line.over:
        wanted = [fd for fd in (line.stdout, line.stderr) if fd is not None]
        ready, _, _ = select.select(wanted, [], [])
        if line.stderr in ready:
            line.read_words()
            for sentence in filter(is_sentence, line.drawn()):
                os.write(2, sentence)
        for item in line.read() if line.stdout in ready else ():
            if isinstance(item, AttachEnded):
                return answer
            if isinstance(item, TerminalMessage):
                answer = item
    return answer
