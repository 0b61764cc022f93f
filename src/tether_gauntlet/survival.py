"""What a session lives through: a shell that ticks and a large rsync, across everything that may happen.

Law: the product is a black box. A tick that is lost, doubled or out of order is a failure, a file that
differs is one, and so is a row of the log that ended where nothing did. The gap is the longest time
without a tick, less what the tick itself takes.

    python -m tether_gauntlet.survival --megabytes 1000 --markdown docs/survival.md
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.capabilities import probe
from tether_gauntlet.lab.fault import Fault
from tether_gauntlet.lab.program import Program, children
from tether_gauntlet.lab.shell import LabError, wait_for
from tether_gauntlet.lab.stack import LabStack, Row, kill_server
from tether_gauntlet.lab.topology import Topology, internet

TICK_S = 0.05
_TICKER = "i=0; while :; do echo t-$i-; i=$((i+1)); sleep 0.05; done"
_TICK = re.compile(rb"t-(\d+)-\r?\n")
CALM_S = 2.0
"""How long it ticks before the disturbance."""
AFTER_S = 6.0
"""How long it ticks after it."""
PATIENCE_S = 120.0


@dataclass
class World:
    """What a disturbance is given."""

    lab: Lab
    stack: LabStack
    clients: list[Program] = field(default_factory=list)

    def freeze(self, seconds: float) -> None:
        """Stop every `ssh` of the client and what it started."""
        pids = [p for client in self.clients for p in (*children(client.pid), client.pid)]
        for pid in pids:
            _send(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in reversed(pids):
            _send(pid, signal.SIGCONT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """Something that happens to a living session."""

    name: str
    what: str
    happen: Callable[[World], None]
    topology: Callable[[], Topology] = internet
    relays: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _hidden() -> Topology:
    return internet(agents_reachable=False)


def _lasting(fault: Callable[[World], Fault], seconds: float) -> Callable[[World], None]:
    def happen(world: World) -> None:
        with fault(world):
            time.sleep(seconds)

    return happen


def _restart(world: World) -> None:
    world.stack.server.stop()
    world.stack.start_server()


def _crash(world: World) -> None:
    kill_server(world.stack)
    world.stack.start_server()


def _relay_killed(world: World) -> None:
    world.stack.relays["relay-a"].send_signal(signal.SIGKILL)
    time.sleep(4)
    world.stack.start_relay("relay-a")
    world.stack.relays["relay-b"].send_signal(signal.SIGKILL)


def _relay_restarted(world: World) -> None:
    world.stack.relays["relay-a"].stop()
    world.stack.start_relay("relay-a")
    world.stack.relays["relay-b"].stop()
    world.stack.start_relay("relay-b")


def _kept(fault: Callable[[World], Fault]) -> Callable[[World], None]:
    def happen(world: World) -> None:
        fault(world)
        time.sleep(4)

    return happen


TWO_RELAYS = ("relay-a", "relay-b")
NO_EMBEDDED = ("--no-embedded-relay",)
DISTURBANCES: tuple[Disturbance, ...] = (
    Disturbance(
        name="address-change",
        what="the client gets another address",
        happen=_kept(lambda world: faults.change_address(world.lab, "client")),
    ),
    Disturbance(
        name="nat-rebinding",
        what="the NAT forgets, and gives other ports",
        happen=_kept(lambda world: faults.rebind_nat(world.lab)),
        needs=frozenset({"nft-nat", "conntrack"}),
    ),
    Disturbance(
        name="blackhole-60s",
        what="60 s without a network",
        happen=_lasting(lambda world: faults.blackhole(world.lab, "client"), 60),
    ),
    Disturbance(
        name="client-frozen-60s",
        what="the client's programs stand still for 60 s",
        happen=lambda world: world.freeze(60),
    ),
    Disturbance(
        name="relay-killed",
        what="each of two relays is killed in turn (SIGKILL)",
        happen=_relay_killed,
        topology=_hidden,
        relays=TWO_RELAYS,
        server=NO_EMBEDDED,
    ),
    Disturbance(
        name="relay-restarted",
        what="each of two relays is restarted in turn (SIGTERM)",
        happen=_relay_restarted,
        topology=_hidden,
        relays=TWO_RELAYS,
        server=NO_EMBEDDED,
    ),
    Disturbance(name="server-restarted", what="the server is restarted", happen=_restart),
    Disturbance(name="server-killed", what="the server is killed and started", happen=_crash),
    Disturbance(
        name="server-restarted-relaying",
        what="the server is restarted, and all goes through its relay",
        happen=_restart,
        topology=_hidden,
    ),
    Disturbance(
        name="server-killed-relaying",
        what="the server is killed and started, and all goes through its relay",
        happen=_crash,
        topology=_hidden,
    ),
    Disturbance(
        name="direct-path-cut",
        what="the direct way is cut for 20 s, then heals",
        happen=_lasting(lambda world: faults.blackhole(world.lab, "client", peer="agent1"), 20),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """How one disturbance went."""

    name: str
    what: str
    gap_s: float = 0.0
    ticks: int = 0
    rsync_s: float = 0.0
    paths: tuple[str, ...] = ()
    """The path events of the shell's row, as the log has them."""
    ended: tuple[str, ...] = ()
    """Rows of people's connections that the log has ended meanwhile: there must be none."""
    failed: str = ""
    skipped: str = ""


class Ticks:
    """Reads a ticking shell, and remembers the longest time between two ticks."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._rest = b""  # what came after the last whole line
        self._read = 0
        self.next = 0  # the number of the tick that has to come
        self.longest_s = 0.0  # between two ticks
        self.last_at = time.monotonic()
        self.wrong = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ticks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def calm(self) -> None:
        """Forget the longest gap: the disturbance comes now."""
        self.longest_s = 0.0

    def until(self, number: int) -> None:
        """Wait until so many ticks were read.

        Raises:
            LabError: they did not come, or in the wrong order.
        """
        wait_for(
            f"tick {number} (at {self.next})",
            lambda: self.next >= number or bool(self.wrong),
            PATIENCE_S,
            shown=self._program.tail,
        )
        if self.wrong:
            raise LabError(self.wrong)

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            output = self._program.output()
            fresh, self._read = output[self._read :], len(output)
            if not fresh:
                continue
            self._rest += fresh
            for found in _TICK.finditer(self._rest):
                self._tick(int(found[1]))
            self._rest = self._rest[self._rest.rfind(b"\n") + 1 :]

    def _tick(self, number: int) -> None:
        now = time.monotonic()
        if number != self.next and not self.wrong:
            self.wrong = f"tick {number} where {self.next} should have come"
        self.next = number + 1
        self.longest_s = max(self.longest_s, now - self.last_at - TICK_S)
        self.last_at = now


def survive(disturbance: Disturbance, *, megabytes: int) -> Survived:
    """Let one disturbance happen to a ticking shell and an rsync of `megabytes` (0: no rsync)."""
    found = probe()
    lacking = [name for name in sorted(disturbance.needs) if not found[name].present]
    if lacking:
        why = "; ".join(f"{name} ({found[name].reason})" for name in lacking)
        return Survived(name=disturbance.name, what=disturbance.what, skipped=why)
    try:
        with Lab(disturbance.topology()) as lab, _stack(lab, disturbance) as stack:
            return _survive(disturbance, World(lab, stack), megabytes)
    except (LabError, OSError) as wrong:
        said = (str(wrong).strip().splitlines() or [type(wrong).__name__])[0]
        return Survived(name=disturbance.name, what=disturbance.what, failed=said[:300])


def _survive(disturbance: Disturbance, world: World, megabytes: int) -> Survived:
    lab, stack = world.lab, world.stack
    before = stack.ids()
    shell = stack.start_ssh("sh", "-c", f"'{_TICKER}'")
    world.clients.append(shell)
    ticks = Ticks(shell)
    try:
        ticks.until(int(CALM_S / TICK_S))
        row = stack.wait_row(before, lambda row: row["connect_type"] == "agent_to_client")
        copy = Copy(world, megabytes) if megabytes else None
        if copy is not None:
            world.clients.append(copy.start())
        ticks.calm()
        disturbance.happen(world)
        if copy is not None:
            copy.finish()
        ticks.until(ticks.next + int(AFTER_S / TICK_S))
        wrong = copy.wrong if copy is not None else ""
        return Survived(
            name=disturbance.name,
            what=disturbance.what,
            gap_s=round(max(0.0, ticks.longest_s), 2),
            ticks=ticks.next,
            rsync_s=round(copy.seconds, 1) if copy is not None else 0.0,
            paths=tuple(_paths(stack.explain(row["id"]))),
            ended=tuple(_ended(stack.new_rows(before), ours=copy is not None)),
            failed=wrong,
        )
    finally:
        lab.heal()
        ticks.stop()


class Copy:
    """An rsync to the workspace, and the proof that it arrived."""

    def __init__(self, world: World, megabytes: int) -> None:
        self._stack = world.stack
        self._lab = world.lab
        self._source = world.lab["client"].directory / "large"
        self._target = world.lab["agent1"].directory / "large"
        self._size = megabytes * 1_000_000
        self._began = self.seconds = 0.0
        self._program: Program | None = None
        self.wrong = ""
        with self._source.open("wb") as file, open("/dev/urandom", "rb") as random:
            for _ in range(megabytes):
                file.write(random.read(1_000_000))

    def start(self) -> Program:
        """Begin, and wait until some of it has arrived."""
        self._began = time.monotonic()
        transport = f"ssh -F {self._stack.ssh_config()}"
        argv = [
            "rsync",
            "--inplace",
            "-e",
            transport,
            str(self._source),
            f"dev.tether:{self._target}",
        ]
        self._program = self._lab["client"].start("rsync", argv)
        wait_for(
            "the first bytes of an rsync",
            lambda: self._target.exists() and self._target.stat().st_size > 0,
            30.0,
            shown=self._program.tail,
        )
        return self._program

    def finish(self) -> None:
        """Wait for its end; `wrong` says what is not right."""
        assert self._program is not None, "started"
        code = self._program.exit_code(PATIENCE_S)
        self.seconds = time.monotonic() - self._began
        if code != 0:
            self.wrong = f"rsync ended with {code}: {self._program.errors().strip()[-200:]}"
        elif _digest(self._source) != _digest(self._target):
            self.wrong = "the file that arrived is not the one that was sent"


@contextlib.contextmanager
def _stack(lab: Lab, disturbance: Disturbance) -> Iterator[LabStack]:
    with LabStack(lab, server_options=disturbance.server) as stack:
        for host in disturbance.relays:
            stack.start_relay(host)
        stack.create_workspace("dev")
        stack.start_agent("dev")
        stack.log_in("client")
        stack.configure_ssh("client")
        yield stack


def _paths(explained: Row) -> Iterator[str]:
    for event in explained["path_events"]:
        gap = f" after {event['gap_s']:.1f} s" if event.get("gap_s") else ""
        how = f" ({event['how']})" if event.get("how") else ""
        yield f"{event['event']} {event['method']}{how}{gap}"


def _ended(rows: Sequence[Row], *, ours: bool) -> Iterator[str]:
    """The people's connections that ended. An rsync that is done ends, too, and does not count."""
    for row in rows:
        through = ours and row["disconnect_cause"] == "session.exit" and row["exit_code"] == 0
        if row["connect_type"] == "agent_to_client" and row["disconnected_at"] and not through:
            yield f"{row['disconnect_cause']} ({row['disconnect_detail']})"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_markdown(results: Sequence[Survived], megabytes: int) -> str:
    """The table of `docs/survival.md`."""
    head = "| what happens | gap, s | ticks | rsync, s | the log | |\n" + "| --- " * 6 + "|"
    lines = []
    for one in results:
        if one.skipped:
            lines.append(f"| {one.what} | | | | **skipped: {one.skipped}** | |")
            continue
        verdict = one.failed or "; ".join(one.ended) or "lived on"
        told = "; ".join(one.paths) or "nothing"
        lines.append(
            f"| {one.what} | {one.gap_s:.2f} | {one.ticks} | {one.rsync_s or '–'} | {told} | {verdict} |"
        )
    return f"rsync: {megabytes} MB each time, equal SHA-256.\n\n" + "\n".join([head, *lines])


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 0 if everything lived."""
    parser = argparse.ArgumentParser(prog="tether_gauntlet.survival", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--markdown", type=Path, metavar="OUT")
    asked = parser.parse_args(arguments)
    results = []
    for disturbance in DISTURBANCES:
        if asked.only and disturbance.name not in asked.only:
            continue
        result = survive(disturbance, megabytes=asked.megabytes)
        print(result, flush=True)
        results.append(result)
    table = as_markdown(results, asked.megabytes)
    print(table)
    if asked.markdown is not None:
        asked.markdown.write_text(table + "\n")
    return int(not results or any(one.failed or one.ended for one in results))


if __name__ == "__main__":
    sys.exit(main())
