"""What follows the commit of a change: a log line, a metric, and whoever waits for it.

Law: once for each change that is on disk, and never before it is. "connection closed" is the server's
one line with disconnect fields.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from tether import log as logs
from tether.attribution.explain import explain
from tether.server.connlog.activity import ForwardsEnded, SessionsEnded, Tally
from tether.server.connlog.incidents import Grouped
from tether.server.connlog.rows import (
    ClientLeft,
    ClientLostAgent,
    Event,
    PathChanged,
    RowClosed,
    RowOpened,
    RowReopened,
    RowRevised,
)
from tether.server.db.tables.connections import ConnectionRow
from tether.server.metrics import Metrics

_log = logs.get_logger("connections")


class Publisher:
    """Writes changes to the log, counts them, and wakes those who wait for them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiters: list[tuple[set[str], asyncio.Event]] = []
        self._observers: list[Callable[[Event], None]] = []

    def subscribe(self, observer: Callable[[Event], None]) -> None:
        """Call `observer` with each change from now on."""
        self._observers.append(observer)

    def waiting_for(self, connection_ids: Collection[str]) -> OpenRows:
        """Begin to wait for the closing of these rows; use as a context manager."""
        return OpenRows(self._waiters, set(connection_ids))

    def publish(self, events: Iterable[Event]) -> None:
        """These changes are committed."""
        for event in events:
            self._log(event)
            for observer in self._observers:
                observer(event)
            if isinstance(event, RowClosed):
                self._wake(event.row.connection_id)

    def _log(self, event: Event) -> None:
        """Log and count one change."""
        match event:
            case RowOpened(row):
                if row.parent_id is not None:  # others are counted when they are granted
                    self._metrics.connections_open.inc()
                connect_type = str(row.connect_type)
                _log.info("connection opened", connect_type=connect_type, **_about(row))
            case RowClosed():
                self._closed(event)
                self._grouped(event.grouped)
            case RowRevised(row):
                self._grouped(event.grouped)
                self._metrics.revised()
                _log.info(
                    "connection revised",
                    connection_id=row.connection_id,
                    revision=row.revision,
                    was=event.was,
                    now=row.disconnect_cause,
                    rule=row.rule,
                )
            case RowReopened(row):
                self._metrics.connections_open.inc()
                self._metrics.revised()
                _log.warning(
                    "connection reopened", was=event.was, revision=row.revision, **_about(row)
                )
            case PathChanged():
                self._path_changed(event)
            case ClientLeft() | ClientLostAgent():
                pass  # nothing has happened to the row

    def _wake(self, connection_id: str) -> None:
        for left, done in self._waiters:
            left.discard(connection_id)
            if not left:
                done.set()

    def count(self, tallies: Iterable[Tally]) -> None:
        """These ends are committed."""
        for tally in tallies:
            match tally:
                case SessionsEnded(app=app, family=family, count=count):
                    self._metrics.sessions_ended(app, family, count)
                case ForwardsEnded(kind=kind, end=end, count=count):
                    self._metrics.forwards_ended(kind, end, count)

    def _closed(self, event: RowClosed) -> None:
        row, disconnect = event.row, event.verdict.disconnect
        assert row.connected_at is not None, "it is closed"
        assert row.disconnected_at is not None, "it is closed"
        duration_s = row.disconnected_at - row.connected_at
        self._metrics.disconnected(disconnect, duration_s)
        self._metrics.connections_open.dec()
        self.count(event.ended_with_it)
        logs.disconnected(
            _log,
            "connection closed",
            disconnect,
            **_about(row),
            duration_s=round(duration_s, 3),
            rx_bytes=row.rx_bytes,
            tx_bytes=row.tx_bytes,
            rule=event.verdict.rule,
            sentence=explain(disconnect, row.workspace or "").sentence,
        )

    def _grouped(self, grouped: Grouped | None) -> None:
        if grouped is not None and grouped.new:
            self._metrics.incident(grouped.element)
            _log.warning("incident", incident_id=grouped.incident_id, element=str(grouped.element))

    def _path_changed(self, event: PathChanged) -> None:
        row, record = event.row, event.record
        self._metrics.path_event(record.event, record.method)
        _log.info(
            "path changed",
            connection_id=row.connection_id,
            workspace=row.workspace,
            user=row.user,
            path_event=record.event[:64],
            carrier=record.carrier,
            method=record.method[:64],
            where=record.where[:255],
            peer=record.peer[:64],
            how=record.how[:64],
            errno=record.errno[:64],
            gap_s=round(record.gap_s, 3),
            resent_bytes=record.resent_bytes,
        )


def _about(row: ConnectionRow) -> dict[str, str | None]:
    """The fields of every log line about a row."""
    about = {
        "connection_id": row.connection_id,
        "type": str(row.type),
        "workspace": row.workspace,
        "user": row.user,
        "client_ip": row.client_ip,
        "connection_method": str(row.connection_method),
    }
    if row.parent_id is not None:
        about["parent_id"] = row.parent_id
    return about


class OpenRows:
    """The rows that are not closed yet."""

    def __init__(self, waiters: list[tuple[set[str], asyncio.Event]], left: set[str]) -> None:
        self.left = left
        self._done = asyncio.Event()
        self._waiters = waiters
        self._entry = (left, self._done)

    def __enter__(self) -> OpenRows:
        self._waiters.append(self._entry)
        return self

    def __exit__(self, *_: object) -> None:
        self._waiters.remove(self._entry)

    async def until_closed(self, timeout: float) -> None:
        """Wait until `left` is empty, at most `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                if self.left:
                    await self._done.wait()
        except TimeoutError:
            pass
