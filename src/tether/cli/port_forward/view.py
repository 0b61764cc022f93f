"""What `tether port-forward` shows: a live table, plain lines, or a JSON object a line.

Law: shows and decides nothing. The table is for a person at a terminal; everything a script needs is in
the lines of `--json`, whose keys are stable.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import click

from tether.cli.output import clean, size
from tether.cli.port_forward.forwarding import Happened, Traffic
from tether.client.status_line import over
from tether.protocol.carriers.commands import Carried, Stalled, Status

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live


class ForwardView(Protocol):
    """Told everything; `refresh` twice a second."""

    def happened(self, what: Happened) -> None: ...

    def path(self, status: Status) -> None: ...

    def refresh(self, traffic: Sequence[Traffic]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One object a line: `event` says which."""

    def __init__(self, write: Callable[[str], None] = click.echo) -> None:
        self._write = write
        self._totals: list[tuple[int, int]] = []

    def happened(self, what: Happened) -> None:
        forward = what.forward
        row: dict[str, Any] = {
            "event": what.event,
            "protocol": forward.protocol,
            "local": forward.local,
            "remote": forward.remote,
        }
        if what.peer:
            row["peer"] = what.peer
        if what.error:
            row["error"] = what.error
        if what.event == "closed":
            row |= {
                "sent_bytes": what.sent,
                "received_bytes": what.received,
                "duration_s": what.duration_s,
            }
        self._write(json.dumps(row))

    def path(self, status: Status) -> None:
        match status:
            case Carried():
                row = {
                    "event": "path",
                    "method": str(status.method),
                    "where": status.where,
                    "gap_s": round(status.gap_s, 3),
                }
            case Stalled():
                row = {"event": "waiting", "reason": status.reason}
        self._write(json.dumps(row))

    def refresh(self, traffic: Sequence[Traffic]) -> None:
        totals = [(t.sent, t.received) for t in traffic]
        if totals == self._totals:
            return
        self._totals = totals
        for one in traffic:
            row = {
                "event": "traffic",
                "protocol": one.forward.protocol,
                "local": one.forward.local,
                "remote": one.forward.remote,
                "open": one.open,
                "total": one.total,
                "failed": one.failed,
                "sent_bytes": one.sent,
                "received_bytes": one.received,
            }
            self._write(json.dumps(row))

    def close(self) -> None:
        pass


class PlainLines:
    """For logs: what listens, and what went wrong."""

    def __init__(self, write: Callable[[str], None] = click.echo) -> None:
        self._write = write

    def happened(self, what: Happened) -> None:
        forward = what.forward
        if what.event == "listening":
            self._write(f"{forward.protocol} {forward.local} leads to {forward.remote}")
        elif what.event == "failed":
            self._write(f"{forward.protocol} {forward.local}: {clean(what.error)}")

    def path(self, status: Status) -> None:
        pass  # the line on stderr tells

    def refresh(self, traffic: Sequence[Traffic]) -> None:
        pass

    def close(self) -> None:
        pass


class LiveTable:
    """For a person at a terminal."""

    def __init__(self, workspace: str, now: Callable[[], float]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._workspace = workspace
        self._now = now
        self._path = "connecting…"
        self._before: dict[int, tuple[float, int, int]] = {}
        self._live: Live = Live(
            console=Console(file=sys.stdout), auto_refresh=False, transient=False
        )
        self._live.start()

    def happened(self, what: Happened) -> None:
        pass  # the table shows it

    def path(self, status: Status) -> None:
        match status:
            case Carried():
                self._path = over(status)
            case Stalled():
                reason = f": {status.reason}" if status.reason else ""
                self._path = f"connection lost{reason}; reconnecting…"

    def refresh(self, traffic: Sequence[Traffic]) -> None:
        self._live.update(self._drawn(traffic), refresh=True)

    def close(self) -> None:
        self._live.stop()

    def _drawn(self, traffic: Sequence[Traffic]) -> Group:
        from rich.console import Group
        from rich.text import Text

        from tether.cli.output import add_row, table

        drawn = table("LOCAL", "", "REMOTE", "OPEN", "TOTAL", "SENT", "RECEIVED", "NOW", "")
        now = self._now()
        for number, one in enumerate(traffic):
            at, sent, received = self._before.get(number, (now, one.sent, one.received))
            passed = max(now - at, 1e-9)
            rate = (one.sent - sent + one.received - received) / passed if now > at else 0.0
            self._before[number] = (now, one.sent, one.received)
            forward = one.forward
            add_row(
                *(drawn, forward.local, forward.protocol, forward.remote, one.open, one.total),
                *(size(one.sent), size(one.received), f"{size(rate)}/s" if rate else "", one.error),
            )
        head = Text(f"{clean(self._workspace)}, {clean(self._path)}. Ctrl-C ends.")
        return Group(head, drawn)
