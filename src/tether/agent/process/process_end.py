"""How a process that is not our child ended: its exit status, and whether memory ran out.

Law: it reports evidence only, and says so where this system does not tell. A process is watched by a
pidfd, so a pid that is used again is never taken for it. Its status comes from the pidfd where the
kernel keeps it (PIDFD_GET_INFO, Linux 6.15), else from /proc until its parent has reaped it; else it
is None. An out-of-memory kill shows as a rise of the `oom_kill` counter of the process's own memory
cgroup (v1 and v2) within the last seconds. The counter does not name its victim, so a rule must ask for
more. Nothing here blocks for longer than it takes to read a file of /proc or /sys.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tether.agent.process.socket_holders import Holder, started_at
from tether.net.host.cgroup import Cgroup

if sys.platform != "win32":
    import fcntl

POLL_S = 1.0
"""How often a process is looked for where the kernel has no pidfds."""

OOM_SAMPLE_S = 5.0
"""The counter's rise is taken over one to two of these: a big process takes seconds to die."""

_REAPED_WITHIN_S = 1.0
"""How long its parent may take to reap it."""

_ASK_AGAIN_S = 0.02

_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info), its first 64 bytes
_INFO = struct.Struct("=QQ11Ii")
_INFO_EXIT = 1 << 3


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How a process ended. `exit_signal` is a name without SIG; where only "gone" is known, all is None.

    `oom_kills` is by how much the counter rose; None where it cannot be read.
    """

    exit_code: int | None = None
    exit_signal: str | None = None
    oom_kills: int | None = None


class ProcessWatch:
    """Watches one process; calls `on_end` once, in the event loop, unless it is closed before."""

    def __init__(
        self,
        process: Holder,
        on_end: Callable[[ProcessEnd], None],
        *,
        proc: Path = Path("/proc"),
    ) -> None:
        self._process = process
        self._on_end = on_end
        self._proc = proc
        self._loop = asyncio.get_running_loop()
        self._memory = Cgroup(process.pid, proc)
        sample = self._memory.oom_kills()
        self._samples = (sample, sample)  # of the kill counter: the one before, and the latest
        self._pidfd = _pidfd_of(process, proc)
        self._sampling = self._loop.call_later(OOM_SAMPLE_S, self._sample)
        self._asking: asyncio.TimerHandle | None = None  # the next question, where one is due
        if self._pidfd is None:
            self._asking = self._loop.call_later(0, self._poll)
        else:
            self._loop.add_reader(self._pidfd, self._exited)

    def close(self) -> None:
        """Stop watching."""
        self._sampling.cancel()
        if self._asking is not None:
            self._asking.cancel()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _sample(self) -> None:
        self._samples = (self._samples[1], self._memory.oom_kills())
        self._sampling = self._loop.call_later(OOM_SAMPLE_S, self._sample)

    def _poll(self) -> None:
        if started_at(self._process.pid, self._proc) == self._process.started:
            status = status_by_proc(self._process, self._proc)
            if status is None:
                self._asking = self._loop.call_later(POLL_S, self._poll)
                return
            self._end(status)
        else:
            self._end(None)

    def _exited(self) -> None:
        assert self._pidfd is not None, "a reader outlived its pidfd"
        self._loop.remove_reader(self._pidfd)
        self._ask(self._loop.time() + _REAPED_WITHIN_S)

    def _ask(self, give_up_at: float) -> None:
        """Take its status, or ask again soon: the kernel keeps it once its parent has reaped it."""
        status = None if self._pidfd is None else status_by_pidfd(self._pidfd)
        if status is None:
            status = status_by_proc(self._process, self._proc)
        gone = started_at(self._process.pid, self._proc) != self._process.started
        if status is None and not gone and self._loop.time() < give_up_at:
            self._asking = self._loop.call_later(_ASK_AGAIN_S, self._ask, give_up_at)
        elif status is None and gone and self._pidfd is not None:  # reaped between two questions
            self._end(status_by_pidfd(self._pidfd))
        else:
            self._end(status)

    def _end(self, status: int | None) -> None:
        before, now = self._samples[0], self._memory.oom_kills()
        rise = None if before is None or now is None else max(0, now - before)
        self.close()
        self._on_end(_read_status(status, rise))


def _read_status(status: int | None, oom_kills: int | None) -> ProcessEnd:
    if status is None:
        return ProcessEnd(oom_kills=oom_kills)
    number = status & 0x7F
    if number == 0:
        return ProcessEnd(exit_code=(status >> 8) & 0xFF, oom_kills=oom_kills)
    known = number in signal.valid_signals() and number in signal.Signals._value2member_map_
    name = signal.Signals(number).name.removeprefix("SIG") if known else str(number)
    return ProcessEnd(exit_signal=name, oom_kills=oom_kills)


def _pidfd_of(process: Holder, proc: Path) -> int | None:
    """A pidfd that is surely `process`'s; None where there is none to have."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return None
    if started_at(process.pid, proc) != process.started:
        os.close(pidfd)
        return None
    return pidfd


def status_by_pidfd(pidfd: int) -> int | None:
    """The wait status of a process that has been reaped (Linux 6.15 and later); None otherwise."""
    answer = bytearray(_INFO.size)
    _INFO.pack_into(answer, 0, _INFO_EXIT, *[0] * 13)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, answer)
    except OSError:
        return None
    fields = _INFO.unpack(answer)
    return int(fields[13]) if fields[0] & _INFO_EXIT else None


def status_by_proc(process: Holder, proc: Path = Path("/proc")) -> int | None:
    """The wait status of a zombie that is ours to look into; None otherwise."""
    try:
        stat = (proc / str(process.pid) / "stat").read_bytes()
        fields = stat[stat.rindex(b")") + 2 :].split()
        if fields[0] not in (b"Z", b"X") or int(fields[19]) != process.started:
            return None
        # Field 52 reads 0, which would pass for success, for those who may not trace the process.
        owner = (proc / str(process.pid)).stat().st_uid
        return int(fields[49]) if os.geteuid() in (0, owner) else None
    except (OSError, ValueError, IndexError):
        return None
