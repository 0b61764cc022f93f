"""Which process holds a socket: inode -> (pid, descriptor), remembered and verified.

Law: reads /proc and nothing else. What is remembered is believed only after one readlink shows that
the descriptor still is that socket. A search goes in steps of one process, so that its caller can give
the event loop its turn: in a thread, its thousands of short system calls would each compete for the
interpreter with a busy loop (measured: 30 times slower). It looks first where an answer is likely: at
processes that were not met before, then at those that opened or closed files since, then at the rest,
newest first. What may not be read is told apart from what is not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_REMEMBERED = 4096
_COUNTED_A_STEP = 32


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, by an identity that is never used twice: `started` is in clock ticks after boot."""

    pid: int
    started: int


class SocketHolders:
    """Remembers holders: ask `known` first, and run a `HolderSearch` for what is not known."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        self._remembered: dict[int, tuple[int, str]] = {}  # inode: pid and descriptor
        self._met: dict[int, int] = {}  # pid: how many descriptors it had open

    def known(self, inode: int) -> int | None:
        """The pid that holds socket `inode`, if it is remembered and still true."""
        remembered = self._remembered.get(inode)
        if remembered is None:
            return None
        pid, descriptor = remembered
        try:
            if os.readlink(f"{self._proc}/{pid}/fd/{descriptor}") == f"socket:[{inode}]":
                return pid
        except OSError:
            pass
        self._remembered.pop(inode, None)
        return None

    def search(self, wanted: Iterable[int], also: Iterable[int] = ()) -> HolderSearch:
        """A search for every `wanted` inode. Where none is wanted it goes through everything, to
        remember the holders of `also`."""
        return HolderSearch(self, set(wanted), also)

    def look_into(self, pid: int, interesting: dict[str, int]) -> list[int]:
        """The interesting inodes that `pid` holds, remembered.

        Raises:
            PermissionError: its descriptors are not ours to see.
        """
        found = []
        try:
            for descriptor, inode in self._sockets_of(pid, interesting):
                while len(self._remembered) >= MAX_REMEMBERED:
                    self._remembered.pop(next(iter(self._remembered)))
                self._remembered[inode] = (pid, descriptor)
                found.append(inode)
        except PermissionError:
            raise
        except OSError:
            pass  # it ended while we looked, or we have no free descriptor
        return found

    def likely_first(self) -> Iterator[int | None]:
        """Every pid once, and None where a step did not lead to one. What is yielded counts as met."""
        try:
            names = os.listdir(self._proc)
        except OSError:  # no free descriptor, or no /proc: nothing can be met
            return
        pids = sorted((int(name) for name in names if name.isdigit()), reverse=True)
        met, self._met = self._met, {}
        self._met = {pid: met[pid] for pid in pids if pid in met}
        for pid in pids:
            if pid not in met:
                self._met[pid] = self._open_files(pid)
                yield pid
        unchanged = []
        for number, pid in enumerate(pid for pid in pids if pid in met):
            count = self._open_files(pid)
            if count != met[pid]:
                self._met[pid] = count
                yield pid
            else:
                unchanged.append(pid)
                if number % _COUNTED_A_STEP == 0:
                    yield None
        yield from unchanged

    def _open_files(self, pid: int) -> int:
        """How many descriptors are open (Linux 6.2 and later; 0 before, which costs only order)."""
        try:
            return os.stat(f"{self._proc}/{pid}/fd").st_size
        except OSError:
            return -1

    def _sockets_of(self, pid: int, interesting: dict[str, int]) -> Iterator[tuple[str, int]]:
        directory = os.open(f"{self._proc}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for descriptor in os.listdir(directory):
                try:
                    inode = interesting.get(os.readlink(descriptor, dir_fd=directory))
                except FileNotFoundError:
                    continue  # closed while we looked
                if inode is not None:
                    yield descriptor, inode
        finally:
            os.close(directory)


class HolderSearch:
    """One look through /proc. Iterate until it ends; each step looks into one process."""

    def __init__(self, holders: SocketHolders, wanted: set[int], also: Iterable[int]) -> None:
        self._holders = holders
        self._missing = wanted
        self._whole = not wanted  # go through everything
        self._interesting = {f"socket:[{inode}]": inode for inode in {*wanted, *also}}
        self.found: dict[int, int] = {}
        self.hidden = 0
        """How many processes could not be looked into."""

    def __iter__(self) -> Iterator[None]:
        for pid in self._holders.likely_first():
            if not self._missing and not self._whole:
                return
            if pid is None:
                yield
                continue
            try:
                for inode in self._holders.look_into(pid, self._interesting):
                    if inode in self._missing:
                        self._missing.discard(inode)
                        self.found[inode] = pid
            except PermissionError:
                self.hidden += 1
            yield


def started_at(pid: int, proc: Path = Path("/proc")) -> int | None:
    """When `pid` started, in clock ticks after boot; None where there is no such process."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
        return int(stat[stat.rindex(b")") + 2 :].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def command_line(pid: int, proc: Path = Path("/proc")) -> tuple[str, ...]:
    """The arguments of `pid`; () where they cannot be read."""
    try:
        with open(proc / str(pid) / "cmdline", "rb") as file:
            raw = file.read(256 << 10)
    except OSError:
        return ()
    return tuple(word.decode("utf-8", "replace") for word in raw.rstrip(b"\0").split(b"\0") if raw)
