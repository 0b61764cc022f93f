"""From the destination of a forwarded connection to the process that listens there.

Law: only a LISTEN socket that would accept a connection to that very address counts: an exact bind
before a wildcard one; IPv4, IPv6, v4-mapped and dual-stack alike; an address of another machine never.
Every answer is a type: what was found, that there is nothing, that we may not see it, that we cannot
look here at all. Nothing here ever fails a forward: the caller goes on with any answer.

The kernel names the socket in 0.2 ms (`net.host.sock_diag`). Its process is remembered, or searched for
in slices of a millisecond, one search at a time (`agent.process.socket_holders`). Call `warm` when a
connection comes up, and later searches meet only what is new. A command line is read in a thread,
because the kernel may make its reader wait for a process that is stuck.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from tether.agent.process.socket_holders import (
    Holder,
    HolderSearch,
    SocketHolders,
    command_line,
    started_at,
)
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.host.sock_diag import (
    DiagUnavailable,
    IPAddress,
    ListenSocket,
    listening_inodes,
    listening_on,
    listening_on_by_proc,
)

FORGET_HIDDEN_S = 30.0
"""How long a socket whose process could not be seen is not searched for again."""

WARM_S = 300.0
STUCK_AFTER_S = 2.0
"""How long a command line is waited for."""

MAX_COMMANDS = 128
"""Command lines that are remembered; an IDE's may be tens of kilobytes long."""

_SLICE_S = 0.001

_LOOPBACKS: tuple[IPAddress, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True)
class ListeningProcess:
    """A process that listens on the destination."""

    process: Holder
    command: tuple[str, ...]
    address: IPAddress
    port: int
    uid: int


@dataclass(frozen=True, slots=True)
class ListenersFound:
    """The processes behind the destination; several where they share the port."""

    listeners: tuple[ListeningProcess, ...]


@dataclass(frozen=True, slots=True)
class NothingListens:
    """No process of this machine accepts connections there."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The destination is another machine."""


@dataclass(frozen=True, slots=True)
class CannotSee:
    """Something listens, but its process is not ours to see: another user's, another container's."""

    uid: int


@dataclass(frozen=True, slots=True)
class CannotInspect:
    """This system cannot be asked. `why` is one line for people."""

    why: str


Inspection = ListenersFound | NothingListens | Elsewhere | CannotSee | CannotInspect


class PortInspector:
    """One for the agent; `close` ends its threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        proc: Path = Path("/proc"),
        platform: str = sys.platform,
        diagnose: Callable[[int], list[ListenSocket]] = listening_on,
    ) -> None:
        """`diagnose` asks the kernel; where it cannot, `proc` is read instead."""
        self._clock = clock
        self._proc = proc
        self._platform = platform
        self._diagnose = diagnose
        self._log = get_logger("port_inspection")
        self._holders = SocketHolders(proc)
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="port-inspection")
        self._searching = asyncio.Lock()  # one search at a time
        self._hidden: dict[int, float] = {}  # inodes that are not searched for until then
        self._commands: dict[tuple[Holder, int], tuple[str, ...]] = {}  # by process and inode
        self._warm_until = float("-inf")  # monotonic seconds
        self._netlink = True  # the kernel can be asked
        self._warned = False  # that ports cannot be inspected

    def close(self) -> None:
        """Read nothing more. What is being read ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def inspect(self, host: str, port: int) -> Inspection:
        """What listens on `host`:`port`; best the address that was really connected to."""
        if not self._platform.startswith("linux"):
            return self._cannot(f"ports cannot be inspected on {self._platform}")
        addresses = await _addresses(host)
        if not any(map(_is_local, addresses)):
            return Elsewhere()
        try:
            sockets = _nearest(await self._listening_on(port), addresses)
        except DiagUnavailable as wrong:
            return self._cannot(str(wrong))
        if not sockets:
            return NothingListens()
        pids = await self._holders_of([listening.inode for listening in sockets])
        listeners = [await self._listener(listening, pids) for listening in sockets]
        found = tuple(listener for listener in listeners if listener is not None)
        return ListenersFound(found) if found else CannotSee(sockets[0].uid)

    async def warm(self) -> None:
        """Meet every process now, so that later searches find an answer among what is new. Called
        again soon after, it does nothing."""
        now = self._clock.now().mono
        if not self._platform.startswith("linux") or now < self._warm_until:
            return
        self._warm_until = now + WARM_S
        async with self._searching:
            with contextlib.suppress(DiagUnavailable):  # `inspect` reports it
                await _in_slices(self._holders.search((), also=listening_inodes()))

    async def _listening_on(self, port: int) -> list[ListenSocket]:
        if self._netlink:
            try:
                return self._diagnose(port)
            except DiagUnavailable as wrong:
                if wrong.permanent:
                    self._netlink = False
                    self._log.info("netlink unavailable, reading /proc/net/tcp", detail=str(wrong))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, listening_on_by_proc, port, self._proc)

    async def _holders_of(self, inodes: list[int]) -> dict[int, int]:
        pids, missing = self._known(inodes)
        if not missing:
            return pids
        async with self._searching:  # the search before ours may have met what we miss
            pids, missing = self._known(inodes)
            if not missing:
                return pids
            search = self._holders.search(missing)
            await _in_slices(search)
        now = self._clock.now().mono
        self._hidden = {inode: until for inode, until in self._hidden.items() if until > now}
        self._hidden |= dict.fromkeys(missing - search.found.keys(), now + FORGET_HIDDEN_S)
        return pids | search.found

    def _known(self, inodes: Iterable[int]) -> tuple[dict[int, int], set[int]]:
        now = self._clock.now().mono
        pids: dict[int, int] = {}
        missing: set[int] = set()
        for inode in inodes:
            pid = self._holders.known(inode)
            if pid is not None:
                pids[inode] = pid
            elif self._hidden.get(inode, now) <= now:
                missing.add(inode)
        return pids, missing

    async def _listener(
        self, listening: ListenSocket, pids: dict[int, int]
    ) -> ListeningProcess | None:
        pid = pids.get(listening.inode)
        started = None if pid is None else started_at(pid, self._proc)
        if pid is None or started is None:
            return None
        process = Holder(pid, started)
        command = await self._command(process, listening.inode)
        return ListeningProcess(process, command, listening.address, listening.port, listening.uid)

    async def _command(self, process: Holder, inode: int) -> tuple[str, ...]:
        """The arguments of the process, read once for each socket that it listens on."""
        command = self._commands.get((process, inode))
        if command is not None:
            return command
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(self._threads, command_line, process.pid, self._proc)
        try:
            command = await asyncio.wait_for(reading, STUCK_AFTER_S)
        except TimeoutError:
            return ()
        while len(self._commands) >= MAX_COMMANDS:
            self._commands.pop(next(iter(self._commands)))
        self._commands[process, inode] = command
        return command

    def _cannot(self, why: str) -> CannotInspect:
        if not self._warned:
            self._warned = True
            self._log.warning("ports cannot be inspected", detail=why)
        return CannotInspect(why)


async def _in_slices(search: HolderSearch) -> None:
    loop = asyncio.get_running_loop()
    breathe_at = loop.time() + _SLICE_S
    for _ in search:
        if loop.time() >= breathe_at:
            await asyncio.sleep(0)
            breathe_at = loop.time() + _SLICE_S


def _nearest(sockets: list[ListenSocket], addresses: list[IPAddress]) -> list[ListenSocket]:
    """The sockets that the kernel would choose among: exact binds, else same family, else any."""

    def rank(listening: ListenSocket, destination: IPAddress) -> int:
        if not listening.address.is_unspecified:
            return 0
        return 1 if listening.address.version == destination.version else 2

    ranked = [
        (rank(listening, destination), listening)
        for listening in sockets
        for destination in addresses
        if listening.accepts(destination)
    ]
    best = min((found for found, _ in ranked), default=0)
    return list(dict.fromkeys(listening for found, listening in ranked if found == best))


async def _addresses(host: str) -> list[IPAddress]:
    """What `host` stands for: an address, this machine, or what the resolver says."""
    bare = host.strip("[]").partition("%")[0]
    if bare in ("", "localhost", "*"):
        return list(_LOOPBACKS)
    try:
        return [ip_address(bare)]
    except ValueError:
        pass
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ip_address(str(info[4][0]).partition("%")[0]) for info in infos]


def _is_local(address: IPAddress) -> bool:
    """Whether a connection to `address` stays on this machine: one can bind to its own addresses."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
