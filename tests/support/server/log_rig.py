"""A connection log over a real database, with two workspaces, two users and a clock to move.

Law: the log is the product's; rows are made and ended as the server's links and reports do it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.clock import EPOCH, HandClock
from tests.support.server.log_reader import ADMIN, LogReader
from tests.support.server.parts import parts
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Party,
    StreamEnd,
    Vantage,
)
from tether.net.derp.splice import CarrierEnding
from tether.protocol.messages.base import records_of
from tether.protocol.messages.reports import Ended, Report, ReportItem, SessionRecord
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.log import ConnectionLog
from tether.server.connlog.records import NewConnection
from tether.server.connlog.rows import ClientLeft, Event, mark_open
from tether.server.db.store import Store
from tether.server.db.tables.accounts import Role
from tether.server.identity import Identity
from tether.server.metrics import Metrics
from tether.server.workspaces import Workspaces

ALICE = Identity(kind="user", user="alice", role="member")
BOB = Identity(kind="user", user="bob", role="member")

AGENT, CLIENT, RELAY, SERVER = Vantage.AGENT, Vantage.CLIENT, Vantage.RELAY, Vantage.SERVER
JOURNAL = "journal-1"

LOGGED_IN = ev.Authenticated(vantage=AGENT, at=EPOCH, user="alice", method="publickey")
CLIENT_EOF = ev.StreamEnded(vantage=RELAY, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.EOF)
AGENT_EOF = ev.StreamEnded(vantage=RELAY, at=EPOCH, peer=Party.AGENT, how=StreamEnd.EOF)
AGENT_DIED = ev.PreviousRunDied(vantage=AGENT, at=EPOCH, party=Party.AGENT, host_rebooted=False)
EXITED = (
    LOGGED_IN,
    ev.SessionEnded(vantage=AGENT, at=EPOCH, exit_code=3, open_sessions=0),
    ev.SshDisconnected(vantage=AGENT, at=EPOCH, by=Party.CLIENT, code=11, open_sessions=0),
)


@dataclass
class LogRig:
    """The log, what it writes to, and the ids of its two workspaces: `dev` of alice, `other` of bob."""

    store: Store
    clock: HandClock
    metrics: Metrics
    workspaces: Workspaces
    log: ConnectionLog
    dev: str
    other: str
    left: list[str] = field(default_factory=list)
    """Tunnels whose client said goodbye."""
    seq: int = 0

    @property
    def read(self) -> LogReader:
        """The log as the API shows it."""
        return LogReader(self.store, self.clock)

    async def grant(self, connection_id: str, user: str = "alice", **more: Any) -> str:
        """A tunnel that nobody uses yet."""
        new: dict[str, Any] = {
            "connect_type": ConnectType.AGENT_TO_CLIENT,
            "type": ConnectionType.TUNNEL,
            "workspace_id": self.dev,
            "workspace": "dev",
            "agent": "host-1",
            "user": user,
            "client_ip": "127.0.0.1",
            "journal_id": JOURNAL,
            "connection_method": ConnectionMethod.DERP,
        }
        await self.log.grant(NewConnection(connection_id=connection_id, **{**new, **more}))
        return connection_id

    async def tunnel(self, connection_id: str, user: str = "alice", **more: Any) -> str:
        """A tunnel that its agent has reported open."""
        await self.grant(connection_id, user, **more)
        await self.opened(connection_id)
        return connection_id

    async def opened(self, connection_id: str) -> None:
        """The agent has reported it open: as its report would, and without one that is counted."""
        now = self.clock.now().wall
        opened = await self.store.write(lambda tx: mark_open(tx, connection_id, now))
        self.log.publish([opened] if opened else [])

    async def control(self, connection_id: str, **more: Any) -> str:
        """A control link, of dev's agent unless `more` says otherwise."""
        new: dict[str, Any] = {
            "connect_type": ConnectType.SERVER_TO_AGENT,
            "type": ConnectionType.CONTROL,
            "workspace_id": self.dev,
            "workspace": "dev",
        }
        await self.log.open(NewConnection(connection_id=connection_id, **{**new, **more}))
        return connection_id

    @property
    def agent(self) -> Reporter:
        return Reporter(vantage=AGENT, since=EPOCH, workspace_id=self.dev)

    def client(self, user: str = "alice") -> Reporter:
        return Reporter(vantage=CLIENT, since=EPOCH, user=user)

    async def report(
        self,
        *items: ReportItem,
        by: Reporter | None = None,
        first_seq: int | None = None,
        journal_id: str = JOURNAL,
    ) -> int:
        """Apply a report, by default the next one of dev's agent; the acknowledged number."""
        first = self.seq + 1 if first_seq is None else first_seq
        self.seq = max(self.seq, first + len(items) - 1)
        report = Report(journal_id=journal_id, first_seq=first, items=list(items))
        return await self.log.apply(by or self.agent, report)

    def log_changed(self, event: Event) -> None:
        """Note the tunnels that their clients left."""
        if isinstance(event, ClientLeft):
            self.left.append(event.row.connection_id)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.mono += seconds

    async def row(self, connection_id: str) -> dict[str, Any]:
        """One connection, explained."""
        return await self.read.explain(connection_id)

    async def ids(self, viewer: Identity = ADMIN, **filters: Any) -> list[str]:
        """The ids of the connections that match, newest first."""
        return [row["id"] for row in await self.read.connections(viewer, **filters)]

    def count(self, name: str, **labels: str) -> float:
        """The value of a metric."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def log_rig(tmp_path: Path) -> AsyncIterator[LogRig]:
    """A rig whose database is in `tmp_path`."""
    async with parts(tmp_path) as made:
        await made.accounts.bootstrap(tmp_path)
        for name in ("alice", "bob"):
            await made.accounts.create_user(name, Role.MEMBER, ADMIN)
        dev = await made.workspaces.create("dev", ALICE)
        other = await made.workspaces.create("other", BOB)
        await made.connections.start_run("run-1", booted_at=None)
        rig = LogRig(
            made.store,
            made.clock,
            made.metrics,
            made.workspaces,
            made.connections,
            dev.workspace_id,
            other.workspace_id,
        )
        made.connections.subscribe(rig.log_changed)
        yield rig


def ended(connection_id: str, *facts: Evidence, at: float = EPOCH, **more: Any) -> Ended:
    """A report of an end."""
    return Ended(connection_id=connection_id, at=at, facts=records_of(facts), **more)


def ending(*facts: Evidence, rx: int = 0, tx: int = 0) -> CarrierEnding:
    """What a relay saw of a carrier's end."""
    return CarrierEnding(facts, (), rx_bytes=rx, tx_bytes=tx)


def session(session_id: str, kind: str = "ssh", **more: Any) -> SessionRecord:
    """A report of a session over `c1`."""
    return SessionRecord(
        connection_id="c1", session_id=session_id, session_type=kind, started_at=EPOCH, **more
    )
