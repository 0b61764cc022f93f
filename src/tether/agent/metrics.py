"""What Prometheus reads at an agent: its sessions, forwards, terminals, and how connections ended.

Law: it counts and decides nothing. Each agent has a registry of its own, never the global one. Every
label takes its values from a closed set, so that no client can make series. A disconnect is counted
where its one log line is written; gauges are read when somebody asks for them.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector

from tether.agent.commands.session_type import SessionType
from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import ConnectionMethod, ConnectionType
from tether.net.unexpected_metric import UnexpectedExceptions
from tether.protocol.apps import FAMILIES
from tether.protocol.messages.reports import ForwardEnd, ForwardItem, ForwardKind, ForwardRecord

CONTENT_TYPE = CONTENT_TYPE_LATEST

OTHER = "other"
"""The app of sessions whose client names one that no family has: such a name is free text."""


class Layer(StrEnum):
    """What ended."""

    CONTROL_LINK = "control_link"
    CONNECTION = "connection"
    IDE = "ide"
    TERMINAL = "terminal"
    ATTACH = "attach"


class SessionError(StrEnum):
    """What went wrong with a session."""

    START_COMMAND = "start_command"
    """Its program could not be started: exit code 229."""

    TERMINAL = "terminal"
    """It asked for a terminal and there is none."""

    BLOCKED = "blocked"
    """Policy refused it: exit code 65."""


class X11Error(StrEnum):
    """Why a session got no display, or lost it."""

    LISTENER = "listener"
    XAUTHORITY = "xauthority"
    EVICTED = "evicted"


class AgentMetrics:
    """One agent's numbers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions_open: Tally[str] = Tally()
        """SSH sessions now, by app; sftp, scp and rsync count under the app that they serve."""
        self._sessions = self._counter("sessions", "SSH sessions that ended.", "app", "type", "pty")
        self._session_errors = self._counter(
            "session_errors", "Sessions that went wrong.", "type", "pty", "error_type"
        )
        self._failed = self._counter(
            "ssh_failed_connections", "SSH connections that ended before anybody was let in."
        )
        self._sftp = self._counter("sftp_sessions", "sftp sessions that ended.")
        self._sftp_errors = self._counter(
            "sftp_errors", "sftp sessions whose server ended with an error."
        )
        self._x11_errors = self._counter(
            "x11_errors", "Displays that were not to be had, or were taken away.", "error_type"
        )
        self._forwards = self._counter(
            "forwards", "Forwarded connections that ended or never began.", "kind", "outcome"
        )
        self._disconnects = self._counter(
            "disconnects",
            "Ends, by what happened, who began it, and whether it was expected.",
            *("layer", "connect_type", "reason", "initiator", "expected"),
        )
        self._open = self._gauge(
            "sessions_open", "Sessions now, by the app that they serve.", "app"
        )
        self._connections = self._gauge(
            "connections_open", "SSH connections now, by what carries them.", "method"
        )
        self._ides = self._gauge("ide_sessions_open", "IDEs at a backend in this workspace now.")
        self._terminals = self._gauge("terminals_open", "Terminals of `tether attach` now.")
        ProcessCollector(registry=self.registry)
        self.registry.register(UnexpectedExceptions())
        self._start_at_zero()

    # -- counted where it happens ----------------------------------------------------------

    def session_began(self, kind: SessionType) -> None:
        """A session started."""
        self.sessions_open[_app(kind)] += 1

    def session_recognized(self, was: SessionType, now: SessionType) -> None:
        """A running session turned out to be another app's."""
        self.sessions_open[_app(was)] -= 1
        self.sessions_open[_app(now)] += 1

    def session_ended(self, kind: SessionType, type_: ConnectionType, *, pty: bool) -> None:
        """A session is over: `type_` is the connection log's word for it."""
        self.sessions_open[_app(kind)] -= 1
        app = kind.app if kind.recognized and kind.app in FAMILIES else OTHER
        if type_ is ConnectionType.RECONNECTING_PTY:
            app = str(type_)
        self._sessions.labels(app, str(type_), _word(pty)).inc()

    def session_failed(self, error: SessionError, type_: ConnectionType, *, pty: bool) -> None:
        """Something went wrong with it."""
        self._session_errors.labels(str(type_), _word(pty), str(error)).inc()

    def sftp_ended(self, *, failed: bool) -> None:
        """An sftp session is over."""
        self._sftp.inc()
        self._sftp_errors.inc(failed)

    def x11_failed(self, error: X11Error) -> None:
        """A display is not to be had, or was taken away."""
        self._x11_errors.labels(str(error)).inc()

    def connection_failed(self) -> None:
        """An SSH connection ended before anybody was let in."""
        self._failed.inc()

    def disconnected(self, layer: Layer, end: Disconnect) -> None:
        """Something ended. Call it beside `log.disconnected`."""
        self._disconnects.labels(
            str(layer),
            str(end.connect_type),
            str(end.reason),
            str(end.initiator),
            _word(end.expected),
        ).inc()

    def forwarded(self, item: ForwardItem) -> None:
        """A record of forwarded connections, as it is reported."""
        if not isinstance(item, ForwardRecord):
            for end, count in item.ends.items():
                self._forwards.labels(str(item.kind), end).inc(count)
        elif item.end:
            self._forwards.labels(str(item.kind), item.end).inc()

    # -- asked for -------------------------------------------------------------------------

    def watch(
        self,
        *,
        connections: Callable[[], Mapping[str, int]],
        ides: Callable[[], int],
        terminals: Callable[[], int],
    ) -> None:
        """Where the gauges are read: connections by their carrier's method, IDEs, terminals."""
        for method in ConnectionMethod:
            self._connections.labels(str(method)).set_function(
                partial(_count, connections, str(method))
            )
        for app in (*FAMILIES, str(ConnectionType.RECONNECTING_PTY), OTHER):
            self._open.labels(app).set_function(partial(_count, lambda: self.sessions_open, app))
        self._ides.set_function(ides)
        self._terminals.set_function(terminals)

    def render(self) -> bytes:
        """Everything, in the text format of Prometheus."""
        return generate_latest(self.registry)

    # -- making ----------------------------------------------------------------------------

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"tether_agent_{name}_total", told, labels, registry=self.registry)

    def _gauge(self, name: str, told: str, *labels: str) -> Gauge:
        return Gauge(f"tether_agent_{name}", told, labels, registry=self.registry)

    def _start_at_zero(self) -> None:
        for type_ in (ConnectionType.SSH, ConnectionType.SFTP):
            for pty in (True, False):
                self._sessions.labels("ssh", str(type_), _word(pty))
                for error in SessionError:
                    self._session_errors.labels(str(type_), _word(pty), str(error))
        for x11 in X11Error:
            self._x11_errors.labels(str(x11))
        for kind in ForwardKind:
            for end in ForwardEnd:
                self._forwards.labels(str(kind), str(end))


def _app(kind: SessionType) -> str:
    return kind.app if kind.recognized else OTHER


def _count(counts: Callable[[], Mapping[str, int]], word: str) -> int:
    return counts().get(word, 0)


def _word(value: bool) -> str:
    return "true" if value else "false"
