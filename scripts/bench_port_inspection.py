"""How long it takes from a forwarded port to the process behind it.

    python scripts/bench_port_inspection.py [PROCESSES …]

Each process listens on one port (every fourth one on ::1) and holds 20 more descriptors. Reported in
milliseconds: the answer from memory, a search after `warm` for a process that is new and for one that
opened its port later, a first search without `warm`, and the longest gap in the event loop meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from tether.agent.ide.port_inspection import ListenersFound, PortInspector
from tether.net.clock import SystemClock
from tether.net.host.sock_diag import listening_on, listening_on_by_proc

ROUNDS = 9
TICK_S = 0.0005


def spawn(late: bool, number: int = 0) -> tuple[int, int]:
    """A child that listens: (pid, port). A late one opens its port only when SIGUSR1 tells it to."""
    family, host = (socket.AF_INET6, "::1") if number % 4 == 0 else (socket.AF_INET, "127.0.0.1")
    server = socket.socket(family)
    server.bind((host, 0))
    port: int = server.getsockname()[1]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    pid = os.fork()
    if pid == 0:
        os.closerange(server.fileno() + 1, 256)
        _held = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
        if late:
            server.close()
            signal.sigwait({signal.SIGUSR1})
            server = socket.socket(family)
            server.bind((host, port))
        server.listen(5)
        signal.pause()
        os._exit(0)
    server.close()
    return pid, port


async def wait_listening(port: int) -> None:
    while not listening_on(port):  # noqa: ASYNC110  (a child's doing: nothing of ours can tell)
        await asyncio.sleep(0.002)


async def measure(step: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Milliseconds that `step` took, and the longest that the loop stood still meanwhile."""
    loop = asyncio.get_running_loop()
    worst, last = 0.0, loop.time()

    def tick() -> None:
        nonlocal worst, last, timer
        now = loop.time()
        worst, last = max(worst, now - last - TICK_S), now
        timer = loop.call_later(TICK_S, tick)

    timer = loop.call_later(TICK_S, tick)
    start = time.perf_counter()
    await step()
    took = time.perf_counter() - start
    tick()
    timer.cancel()
    return took * 1e3, max(worst, 0.0) * 1e3


def show(name: str, samples: list[tuple[float, float]]) -> None:
    took = [sample[0] for sample in samples]
    gap = max(sample[1] for sample in samples)
    print(
        f"  {name:46s} median {statistics.median(took):7.2f}  max {max(took):7.2f}"
        f"  loop gap {gap:6.2f}"
    )


async def run(processes: int) -> None:
    children: list[int] = []
    clock = SystemClock()
    try:
        started = [spawn(late=False, number=number) for number in range(processes)]
        late = [spawn(late=True, number=1) for _ in range(ROUNDS)]
        children += [pid for pid, _ in started + late]
        for _, port in started:
            await wait_listening(port)
        pid, port = started[len(started) // 2]
        alive = sum(1 for name in os.listdir("/proc") if name.isdigit())
        print(f"{processes} listening processes, {alive} in /proc")

        async def ask(inspector: PortInspector, port: int, pid: int) -> None:
            found = await inspector.inspect("localhost", port)
            assert isinstance(found, ListenersFound), found
            assert found.listeners[0].process.pid == pid, (found, pid)

        first = []
        for _ in range(ROUNDS):
            cold = PortInspector(clock=clock)
            first.append(await measure(lambda cold=cold: ask(cold, port, pid)))  # type: ignore[misc]
            cold.close()
        inspector = PortInspector(clock=clock)
        warm = [await measure(inspector.warm)]
        memory = [await measure(lambda: ask(inspector, port, pid)) for _ in range(ROUNDS)]
        new, later = [], []
        for late_pid, late_port in late:
            new_pid, new_port = spawn(late=False, number=1)
            children.append(new_pid)
            await wait_listening(new_port)
            new.append(await measure(lambda p=new_port, i=new_pid: ask(inspector, p, i)))  # type: ignore[misc]
            os.kill(late_pid, signal.SIGUSR1)
            await wait_listening(late_port)
            later.append(
                await measure(lambda p=late_port, i=late_pid: ask(inspector, p, i))  # type: ignore[misc]
            )
        inspector.close()
        show("remembered", memory)
        show("after warm: a process that is new", new)
        show("after warm: an old process with a new port", later)
        show("first search, without warm", first)
        show("warm itself", warm)
        for name, function in (("netlink", listening_on), ("/proc/net/tcp", listening_on_by_proc)):
            took = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                function(port)
                took.append(((time.perf_counter() - start) * 1e3, 0.0))
            show(f"of it, the socket by {name}", took)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)  # noqa: ASYNC222  (they were killed)


def main() -> None:
    for processes in [int(word) for word in sys.argv[1:]] or [50, 500]:
        asyncio.run(run(processes))


if __name__ == "__main__":
    main()
