"""IDE sessions: which forwarded connections are one IDE at one backend, and how that ended.

Law: sans-IO. Channels, process ends, connection ends and `now` go in; commands come out. A session
is all channels of one client to one backend process, over however many SSH connections. It begins
with its first channel, and `Finished` comes exactly once, last, with a cell whose first cause won:

- the backend's process ended: that, and how, as far as the system tells;
- the client closed the last channel and did not come back within `GRACE_S`: the IDE was closed;
- the backend closed the last channel but runs on: the backend closed it;
- the SSH connection ended: whatever ended that one (`caused_by` names it): a workspace that was
  stopped, a network that failed, a laptop that sleeps.

One event shows as several, in any order: a backend that is killed resets its sockets, an SSH client
that leaves closes its channels. So the end of the last channel waits `SETTLE_S` for a better reason.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from tether.agent.process.process_end import ProcessEnd
from tether.agent.process.socket_holders import Holder
from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectionType, Party, Vantage
from tether.protocol.messages.base import records_of
from tether.protocol.messages.reports import ForwardEnd, IdeChannel, IdeSessionRecord
from tether.protocol.timestamp import Timestamp

SETTLE_S = 2.0
GRACE_S = 10.0
"""How long an IDE without a channel may take to open the next one (it does so while it starts)."""

MAX_CHANNELS = 64
"""Channels of one session that are listed; all are counted."""

MAX_GONE = 64
"""Backends that are remembered as gone: a channel that is still being looked at may come late."""

_BY_WORKSPACE = (ForwardEnd.WORKSPACE_CLOSED, ForwardEnd.WORKSPACE_RESET)

# -- whose command line is an IDE backend's -----------------------------------------------------

_MARKERS = (
    # A JVM's property, an argument of its own: not within a longer name or value.
    ("idea.vendor.name=JetBrains", r"(?<![\w./-])(?:-D)?idea\.vendor\.name=jetbrains(?![\w./-])"),
    # A class or package that is named, not a path or a jar that has it in its name: a Gradle daemon
    # that builds a plugin has those on its class path, and listens.
    ("com.jetbrains.toolbox", r"(?<![\w./:@-])(?:-D)?com\.jetbrains\.toolbox(?![\w:/-])"),
    # A program or a last path component, not a folder on the way to something else.
    (
        "remote-dev-server",
        r"(?<![\w.-])(?:-D|-{1,2})?remote-dev-server(?:64)?(?:\.sh|\.exe)?(?![\w./-])",
    ),
)
_PATTERNS = tuple((marker, re.compile(pattern, re.IGNORECASE)) for marker, pattern in _MARKERS)


def jetbrains_marker(command: Sequence[str]) -> str | None:
    """The marker in a process's arguments that makes it a JetBrains backend; None for any other."""
    for marker, pattern in _PATTERNS:
        if any(pattern.search(argument) for argument in command):
            return marker
    return None


@dataclass(frozen=True, slots=True)
class Backend:
    """A process that IDEs attach to."""

    process: Holder
    marker: str


# -- commands -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watch:
    """Tell `backend_gone` when this process ends."""

    process: Holder


@dataclass(frozen=True, slots=True)
class Unwatch:
    """Nobody is interested in this process any more."""

    process: Holder


@dataclass(frozen=True, slots=True)
class Begun:
    """An IDE session began."""

    session: IdeSession


@dataclass(frozen=True, slots=True)
class Finished:
    """An IDE session is over; its cell holds why."""

    session: IdeSession


Command = Watch | Unwatch | Begun | Finished


class _IdeState(Enum):
    OPEN = auto()  # it has channels
    QUIET = auto()  # it has none, and may open another
    FALLING = auto()  # its backend is gone, and its channels are about to close


@dataclass(slots=True)
class _Channel:
    connection_id: str
    destination: str
    started: Timestamp


@dataclass(slots=True, kw_only=True)
class IdeSession:
    """One IDE at one backend. Read it from `Begun` and `Finished`; the tracker changes it."""

    session_id: str
    client: str
    backend: Backend
    connection_id: str
    started: Timestamp
    ended: Timestamp | None = None
    caused_by: str = ""
    cell: CloseCell = field(default_factory=CloseCell)
    channels: list[IdeChannel] = field(default_factory=list)
    channels_total: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    state: _IdeState = _IdeState.OPEN
    open: dict[str, _Channel] = field(default_factory=dict)
    last: tuple[ForwardEnd, str] = (ForwardEnd.FAILED, "")
    """How the last channel to close did, and on which connection."""
    since: Timestamp | None = None
    """Since when it has been quiet, or falling."""
    leaving: tuple[str, tuple[Evidence, ...]] | None = None
    """A connection that ended just after the last channel, and why: it may explain that, too."""

    def record(self) -> IdeSessionRecord:
        """Its form for the connection log."""
        return IdeSessionRecord(
            session_id=self.session_id,
            connection_id=self.connection_id,
            session_type=ConnectionType.JETBRAINS,
            backend_pid=self.backend.process.pid,
            backend_marker=self.backend.marker,
            started_at=self.started.wall,
            ended_at=None if self.ended is None else self.ended.wall,
            caused_by=self.caused_by,
            facts=records_of(self.cell.facts),
            symptoms=records_of(self.cell.symptoms),
            channels=list(self.channels),
            channels_total=self.channels_total,
            rx_bytes=self.rx_bytes,
            tx_bytes=self.tx_bytes,
        )


class IdeTracker:
    """All IDE sessions. Perform what each method returns, then re-arm the timer from `deadline()`."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._sessions: dict[tuple[str, Holder], IdeSession] = {}  # by client and backend
        self._by_channel: dict[str, IdeSession] = {}  # by the name of an open channel
        self._gone: deque[Holder] = deque(maxlen=MAX_GONE)  # backends that have ended

    @property
    def sessions(self) -> tuple[IdeSession, ...]:
        """The IDE sessions that are not over."""
        return tuple(self._sessions.values())

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick` next; None for never."""
        dues = (_due(session) for session in self._sessions.values())
        return min((due for due in dues if due is not None), default=None)

    def opened(
        self,
        channel: str,
        *,
        client: str,
        connection_id: str,
        backend: Backend,
        destination: str,
        now: Timestamp,
    ) -> list[Command]:
        """A forwarded connection to `backend` is open.

        Args:
            channel: names it, among all channels of this agent.
            client: who it belongs to; the channels of one client to one backend are one session.
            connection_id: the SSH connection that carries it.
            backend: the process at its other end.
            destination: what the client asked for, for the record.
            now: the present.
        """
        commands: list[Command] = []
        if backend.process in self._gone:
            return []  # it was accepted by a process that is gone, and its end has been told
        session = self._sessions.get((client, backend.process))
        if session is None:
            session = IdeSession(
                session_id=self._new_id(),
                client=client,
                backend=backend,
                connection_id=connection_id,
                started=now,
            )
            if not self._watched(backend.process):
                commands.append(Watch(backend.process))
            self._sessions[client, backend.process] = session
            commands.append(Begun(session))
        session.state = _IdeState.OPEN
        session.since = None
        session.leaving = None
        session.open[channel] = _Channel(connection_id, destination, now)
        session.channels_total += 1
        self._by_channel[channel] = session
        return commands

    def closed(
        self, channel: str, end: ForwardEnd, now: Timestamp, *, rx_bytes: int = 0, tx_bytes: int = 0
    ) -> list[Command]:
        """A forwarded connection ended. Channels that are none of an IDE's are ignored."""
        session = self._by_channel.pop(channel, None)
        if session is None:
            return []
        self._close(session, channel, end, now, rx_bytes, tx_bytes)
        if session.open:
            return []
        if session.state is _IdeState.FALLING:
            return self._finish(session)
        session.state = _IdeState.QUIET
        session.since = now
        return []

    def backend_gone(self, process: Holder, end: ProcessEnd, now: Timestamp) -> list[Command]:
        """A watched process ended."""
        fact = ev.IdeBackendGone(
            vantage=Vantage.AGENT,
            at=now.wall,
            pid=process.pid,
            exit_code=end.exit_code,
            exit_signal=end.exit_signal,
            oom_kills=end.oom_kills,
        )
        self._gone.append(process)
        commands: list[Command] = []
        for session in [s for s in self.sessions if s.backend.process == process]:
            commands += self._lost_backend(session, fact, now)
        return commands

    def connection_ended(
        self, connection_id: str, facts: Iterable[Evidence], now: Timestamp
    ) -> list[Command]:
        """An SSH connection ended, because of `facts` (its cell's, in order). Call it last, after
        its channels' ends; those that are still open end with it."""
        known = tuple(fact for fact in facts if not isinstance(fact, ev.SessionEnded))
        commands: list[Command] = []
        for session in self.sessions:
            mine = [name for name, ch in session.open.items() if ch.connection_id == connection_id]
            for channel in mine:
                commands += self.closed(channel, ForwardEnd.CONNECTION_ENDED, now)
            if session.state is _IdeState.QUIET and session.last[1] == connection_id:
                commands += self._left(session, connection_id, known, now)
        return commands

    def tick(self, now: Timestamp) -> list[Command]:
        """Time has passed: sessions whose wait is over end."""
        commands: list[Command] = []
        for session in self.sessions:
            due = _due(session)
            if due is not None and now.mono >= due:
                commands += self._settle(session)
        return commands

    def finish(self, now: Timestamp) -> list[Command]:
        """Nothing more will be told: every session ends with what is known."""
        commands: list[Command] = []
        for session in self.sessions:
            for channel in list(session.open):
                self._by_channel.pop(channel, None)
                self._close(session, channel, ForwardEnd.CONNECTION_ENDED, now, 0, 0)
            if session.since is None:
                session.state = _IdeState.QUIET
                session.since = now
            commands += self._settle(session)
        return commands

    # -- how a session ends --------------------------------------------------------------------

    def _settle(self, session: IdeSession) -> list[Command]:
        if session.leaving is not None:
            return self._by_connection(session, *session.leaving)
        if session.state is _IdeState.FALLING:
            return self._finish(session)
        return self._closed_by_itself(session, backend_running=True)

    def _lost_backend(
        self, session: IdeSession, fact: ev.IdeBackendGone, now: Timestamp
    ) -> list[Command]:
        match session.state:
            case _IdeState.FALLING:
                return []
            case _IdeState.OPEN:
                session.cell.offer(fact)
                session.state = _IdeState.FALLING
                session.since = now
                session.ended = now
                return []
            case _IdeState.QUIET if session.last[0] in _BY_WORKSPACE:
                session.cell.offer(fact)  # its sockets told first
                for symptom in session.leaving[1] if session.leaving else ():
                    session.cell.note(symptom)
                return self._finish(session)
            case _IdeState.QUIET if session.last[0] is ForwardEnd.CONNECTION_ENDED:
                # The end of the connection came first, and is about to be told.
                session.cell.note(fact)
                return []
            case _IdeState.QUIET:
                commands = self._closed_by_itself(session, backend_running=False)
                session.cell.note(fact)
                return commands

    def _left(
        self, session: IdeSession, connection_id: str, facts: tuple[Evidence, ...], now: Timestamp
    ) -> list[Command]:
        """The connection of the last channel ended: before that channel, or just after it?"""
        quiet_s = 0.0 if session.since is None else now.mono - session.since.mono
        if session.last[0] is ForwardEnd.CONNECTION_ENDED:
            return self._by_connection(session, connection_id, facts)
        if quiet_s > SETTLE_S:
            return self._closed_by_itself(session, backend_running=True)
        if session.last[0] in _BY_WORKSPACE:  # a backend that died may have made the client leave
            session.leaving = (connection_id, facts)
            return []
        return self._by_connection(session, connection_id, facts)

    def _by_connection(
        self, session: IdeSession, connection_id: str, facts: tuple[Evidence, ...]
    ) -> list[Command]:
        session.caused_by = connection_id
        for fact in facts[:-1]:
            session.cell.note(fact)
        for fact in facts[-1:]:
            session.cell.offer(fact)
        return self._finish(session)

    def _closed_by_itself(self, session: IdeSession, *, backend_running: bool) -> list[Command]:
        assert session.since is not None, "a quiet session knows since when"
        if session.last[0] is not ForwardEnd.CONNECTION_ENDED:  # else nobody told why: unknown
            by = Party.AGENT if session.last[0] in _BY_WORKSPACE else Party.CLIENT
            session.cell.offer(
                ev.IdeChannelsClosed(
                    vantage=Vantage.AGENT,
                    at=session.since.wall,
                    by=by,
                    backend_running=backend_running,
                )
            )
        return self._finish(session)

    def _finish(self, session: IdeSession) -> list[Command]:
        session.ended = session.ended or session.since
        del self._sessions[session.client, session.backend.process]
        for channel in session.open:
            self._by_channel.pop(channel, None)
        process = session.backend.process
        watch: list[Command] = [] if self._watched(process) else [Unwatch(process)]
        return [*watch, Finished(session)]

    def _watched(self, process: Holder) -> bool:
        return any(session.backend.process == process for session in self.sessions)

    def _close(
        self,
        session: IdeSession,
        name: str,
        end: ForwardEnd,
        now: Timestamp,
        rx_bytes: int,
        tx_bytes: int,
    ) -> None:
        channel = session.open.pop(name)
        session.last = (end, channel.connection_id)
        session.rx_bytes += rx_bytes
        session.tx_bytes += tx_bytes
        if len(session.channels) < MAX_CHANNELS:
            session.channels.append(
                IdeChannel(
                    connection_id=channel.connection_id,
                    destination=channel.destination,
                    started_at=channel.started.wall,
                    ended_at=now.wall,
                    end=end,
                    rx_bytes=rx_bytes,
                    tx_bytes=tx_bytes,
                )
            )


def _due(session: IdeSession) -> float | None:
    if session.since is None:
        return None
    settling = session.state is _IdeState.FALLING or session.leaving is not None
    return session.since.mono + (SETTLE_S if settling else GRACE_S)
