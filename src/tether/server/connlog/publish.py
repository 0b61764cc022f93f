"""What follows the commit of a change: a log line, a number, and those who wait for it.

Law: told once for each change that is on disk, and never before it is. "connection closed" is the
server's one line with disconnect fields.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from tether import log as logs
from tether.attribution.explain import explain
from tether.server.connlog import rows
from tether.server.connlog.activity import ForwardsEnded, SessionsEnded, Tally
from tether.server.connlog.incidents import Grouped
from tether.server.metrics import Metrics

_log = logs.get_logger("connections")


class Announcer:
    """Tells the log, the metrics, and whoever waits."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiters: list[tuple[set[str], asyncio.Event]] = []
        self.on_opened: Callable[[str], None] = lambda _connection_id: None
        self.on_closed: Callable[[str], None] = lambda _connection_id: None

    def waiting_for(self, connection_ids: Collection[str]) -> OpenRows:
        """Begin to wait for the closing of these rows; use as a context manager."""
        return OpenRows(self._waiters, set(connection_ids))

    def announce(self, events: Iterable[rows.Event]) -> None:
        """These changes are committed."""
        for event in events:
            row = event.row
            about = {
                "connection_id": row["connection_id"],
                "type": row["type"],
                "workspace": row["workspace"],
                "user": row["user"],
                "client_ip": row["client_ip"],
                "connection_method": row["connection_method"],
            }
            if row["parent_id"] is not None:
                about["parent_id"] = row["parent_id"]
            match event:
                case rows.RowOpened():
                    if row["parent_id"] is not None:  # others are counted when they are granted
                        self._metrics.connections_open.inc()
                    _log.info("connection opened", connect_type=row["connect_type"], **about)
                    self.on_opened(row["connection_id"])
                case rows.RowClosed(judgement=judgement, cut=cut):
                    disconnect = judgement.verdict.disconnect
                    duration_s = row["disconnected_at"] - row["connected_at"]
                    self._metrics.disconnected(disconnect, duration_s)
                    self._metrics.connections_open.dec()
                    self.count(cut)
                    logs.disconnected(
                        _log,
                        "connection closed",
                        disconnect,
                        **about,
                        duration_s=round(duration_s, 3),
                        rx_bytes=row["rx_bytes"],
                        tx_bytes=row["tx_bytes"],
                        rule=judgement.verdict.rule,
                        sentence=explain(disconnect, row["workspace"] or "").sentence,
                    )
                    self._settled(row["connection_id"])
                    self._grouped(event.grouped)
                case rows.PathChanged():
                    self._path_changed(event)
                case rows.Revised(was=was):
                    self._grouped(event.grouped)
                    self._metrics.revised()
                    _log.info(
                        "connection revised",
                        connection_id=row["connection_id"],
                        revision=row["revision"],
                        was=was,
                        now=row["disconnect_cause"],
                        rule=row["rule"],
                    )

    def _grouped(self, grouped: Grouped | None) -> None:
        if grouped is not None and grouped.new:
            self._metrics.incident(grouped.element)
            _log.warning("incident", incident_id=grouped.incident_id, element=str(grouped.element))

    def _path_changed(self, event: rows.PathChanged) -> None:
        what = event.what
        self._metrics.path_event(what.event, what.method)
        _log.info(
            "path changed",
            connection_id=event.row["connection_id"],
            workspace=event.row["workspace"],
            user=event.row["user"],
            path_event=what.event[:64],
            carrier=what.carrier,
            method=what.method[:64],
            where=what.where[:255],
            peer=what.peer[:64],
            how=what.how[:64],
            errno=what.errno[:64],
            gap_s=round(what.gap_s, 3),
            resent_bytes=what.resent_bytes,
        )

    def count(self, tallies: Iterable[Tally]) -> None:
        """These ends are committed."""
        for tally in tallies:
            match tally:
                case SessionsEnded(app=app, family=family, count=count):
                    self._metrics.sessions_ended(app, family, count)
                case ForwardsEnded(kind=kind, end=end, count=count):
                    self._metrics.forwards_ended(kind, end, count)

    def _settled(self, connection_id: str) -> None:
        self.on_closed(connection_id)
        for left, done in self._waiters:
            left.discard(connection_id)
            if not left:
                done.set()


class OpenRows:
    """The rows that are not closed yet."""

    def __init__(self, waiters: list[tuple[set[str], asyncio.Event]], left: set[str]) -> None:
        self.left, self._done = left, asyncio.Event()
        self._waiters, self._entry = waiters, (left, self._done)

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
