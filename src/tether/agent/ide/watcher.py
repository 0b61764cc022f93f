"""IDE sessions as seen from the event loop: looks behind ports, watches backends, writes log lines.

Law: it decides nothing; `tracker.IdeTracker` does. A forward never waits for this: who listens behind
its port is found out while it already runs, and a failure to find out costs no more than the record.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tether.agent.ide.port_inspection import ListenersFound, PortInspector
from tether.agent.ide.tracker import (
    Backend,
    Begun,
    Command,
    Finished,
    IdeSession,
    IdeTracker,
    Unwatch,
    Watch,
    jetbrains_marker,
)
from tether.agent.process.process_end import ProcessEnd, ProcessWatch
from tether.agent.process.socket_holders import Holder
from tether.attribution.classify import classify
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType
from tether.log import disconnected, get_logger
from tether.net.clock import Clock
from tether.net.tasks import Tasks
from tether.protocol.messages.reports import ForwardEnd, IdeSessionRecord, destination_of
from tether.protocol.timestamp import Timestamp


@dataclass(slots=True)
class _Looking:
    """A channel whose process is still being looked for, and its end if that came first."""

    connection_id: str
    opened: Timestamp
    ended: tuple[ForwardEnd, Timestamp, int, int] | None = None


class IdeWatcher:
    """One for the agent. Tell it of every `direct-tcpip` channel and of every connection's end."""

    def __init__(
        self,
        inspector: PortInspector,
        *,
        clock: Clock,
        on_record: Callable[[IdeSessionRecord], None] = lambda record: None,
        on_end: Callable[[Disconnect], None] = lambda end: None,
        proc: Path = Path("/proc"),
    ) -> None:
        """`on_record` is given the record of each session at its start and at its end; `on_end` is
        told of each end beside its one log line."""
        self._inspector = inspector
        self._clock = clock
        self._on_record = on_record
        self._on_end = on_end
        self._proc = proc
        self._log = get_logger("ide")
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("ide")
        self._tracker = IdeTracker(new_id=lambda: uuid.uuid4().hex)
        self._looking: dict[str, _Looking] = {}
        self._watches: dict[Holder, ProcessWatch] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def sessions(self) -> tuple[IdeSession, ...]:
        """The IDE sessions that are not over; the gauge of `jetbrains` sessions counts these."""
        return self._tracker.sessions

    def channel_opened(
        self, channel: str, *, client: str, connection_id: str, host: str, port: int
    ) -> None:
        """A forwarded connection was established to `host`:`port` (its real peer address)."""
        self._looking[channel] = _Looking(connection_id, self._clock.now())
        self._tasks.spawn(self._look(channel, client, host, port), f"channel-{channel}")

    def channel_closed(
        self, channel: str, end: ForwardEnd, *, rx_bytes: int, tx_bytes: int
    ) -> None:
        """It ended. A second end of the same channel is ignored."""
        now = self._clock.now()
        looking = self._looking.get(channel)
        if looking is None:
            commands = self._tracker.closed(channel, end, now, rx_bytes=rx_bytes, tx_bytes=tx_bytes)
            self._perform(commands)
        elif looking.ended is None:
            looking.ended = (end, now, rx_bytes, tx_bytes)

    def connection_ended(self, connection_id: str, facts: Iterable[Evidence]) -> None:
        """An SSH connection is over, its channels' ends have been told; `facts` are its cell's."""
        for channel, looking in list(self._looking.items()):
            if looking.connection_id == connection_id:
                del self._looking[channel]  # too short to have been an IDE
        self._perform(self._tracker.connection_ended(connection_id, facts, self._clock.now()))

    async def close(self) -> None:
        """Watch nothing more; sessions that are left end with what is known. Call it after the last
        connection's end."""
        await self._tasks.cancel()
        self._perform(self._tracker.finish(self._clock.now()))
        if self._timer is not None:
            self._timer.cancel()
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()

    async def _look(self, channel: str, client: str, host: str, port: int) -> None:
        try:
            backend = await self._backend(host, port)
        finally:
            looking = self._looking.pop(channel, None)
        if looking is None or backend is None:
            return
        commands = self._tracker.opened(
            channel,
            client=client,
            connection_id=looking.connection_id,
            backend=backend,
            destination=destination_of(host, port),
            now=looking.opened,
        )
        if looking.ended is not None:
            end, at, rx_bytes, tx_bytes = looking.ended
            commands += self._tracker.closed(channel, end, at, rx_bytes=rx_bytes, tx_bytes=tx_bytes)
        self._perform(commands)

    async def _backend(self, host: str, port: int) -> Backend | None:
        found = await self._inspector.inspect(host, port)
        if not isinstance(found, ListenersFound):
            return None
        for listener in found.listeners:
            marker = jetbrains_marker(listener.command)
            if marker is not None:
                return Backend(listener.process, marker)
        return None

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Watch(process=process):
                    self._watches[process] = ProcessWatch(
                        process, partial(self._gone, process), proc=self._proc
                    )
                case Unwatch(process=process):
                    watch = self._watches.pop(process, None)
                    if watch is not None:
                        watch.close()
                case Begun(session=session):
                    self._log.info("ide session opened", **_names(session))
                    self._on_record(session.record())
                case Finished(session=session):
                    self._finished(session)
        self._arm()

    def _finished(self, session: IdeSession) -> None:
        verdict = classify(ConnectType.AGENT_TO_CLIENT, session.cell.facts)
        self._on_end(verdict.disconnect)
        ended = session.ended or self._clock.now()
        disconnected(
            self._log,
            "ide session closed",
            verdict.disconnect,
            **_names(session),
            caused_by=session.caused_by,
            channels=session.channels_total,
            rx_bytes=session.rx_bytes,
            tx_bytes=session.tx_bytes,
            duration_s=round(ended.mono - session.started.mono, 3),
        )
        self._on_record(session.record())

    def _gone(self, process: Holder, end: ProcessEnd) -> None:
        self._watches.pop(process, None)
        self._perform(self._tracker.backend_gone(process, end, self._clock.now()))

    def _tick(self) -> None:
        self._perform(self._tracker.tick(self._clock.now()))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._tracker.deadline()
        if deadline is not None:
            wait = max(0.0, deadline - self._clock.now().mono)
            self._timer = self._loop.call_later(wait, self._tick)


def _names(session: IdeSession) -> dict[str, object]:
    return {
        "session_id": session.session_id,
        "connection_id": session.connection_id,
        "client": session.client,
        "backend_pid": session.backend.process.pid,
        "backend_marker": session.backend.marker,
    }
