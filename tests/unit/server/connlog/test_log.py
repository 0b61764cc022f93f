"""The connection log on a real database: lives of rows, reports applied once, and what is shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.clock import EPOCH
from tests.support.server.parts import Parts, parts
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Initiator,
    Party,
    Reason,
    StreamEnd,
    Vantage,
)
from tether.net.derp.splice import CarrierEnding
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.base import FactRecord, Garbage, records_of
from tether.protocol.messages.reports import (
    Ended,
    Opened,
    PathRecord,
    Report,
    ReportItem,
    SessionRecord,
    UnknownItem,
)
from tether.server.api.ports import ConnectionFilter
from tether.server.connlog import rows
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.log import PENDING_LIFE_S, ConnectionLog
from tether.server.connlog.records import NewConnection
from tether.server.connlog.rows import MAX_FACTS, MAX_TESTIMONIES
from tether.server.db.tables.accounts import Role
from tether.server.db.tables.connections import ConnectionStatus
from tether.server.errors import Ambiguous, NotFound
from tether.server.identity import Identity

pytestmark = pytest.mark.anyio

ADMIN = Identity(kind="user", user="admin", role="admin")
ALICE = Identity(kind="user", user="alice", role="member")
BOB = Identity(kind="user", user="bob", role="member")

AGENT, CLIENT, RELAY, SERVER = Vantage.AGENT, Vantage.CLIENT, Vantage.RELAY, Vantage.SERVER
JOURNAL = "journal-1"
C1 = CarrierId("c1")

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
class Record:
    """A connection log over a real database, with two workspaces and a clock to move."""

    parts: Parts
    log: ConnectionLog
    dev: str
    other: str
    left: list[str] = field(default_factory=list)
    """Tunnels whose client said goodbye."""
    seq: int = 0

    async def grant(self, connection_id: str, user: str = "alice", **more: Any) -> str:
        new: dict[str, Any] = {
            "connect_type": ConnectType.AGENT_TO_CLIENT,
            "type": ConnectionType.TUNNEL,
            "workspace_id": self.dev,
            "workspace": "dev",
            "agent": "host-1",
            "user": user,
            "client_ip": "127.0.0.1",
            "journal_id": JOURNAL,
            "method": ConnectionMethod.DERP,
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
        now = self.parts.clock.now().wall
        opened = await self.parts.store.write(lambda tx: rows.mark_open(tx, connection_id, now))
        self.log._announce([opened] if opened else [])

    async def control(self, connection_id: str, **more: Any) -> str:
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
        first = self.seq + 1 if first_seq is None else first_seq
        self.seq = max(self.seq, first + len(items) - 1)
        report = Report(journal_id=journal_id, first_seq=first, items=list(items))
        return await self.log.apply(by or self.agent, report)

    def move(self, seconds: float) -> None:
        self.parts.clock.mono += seconds

    async def row(self, connection_id: str) -> dict[str, Any]:
        return await self.log.explain(connection_id, ADMIN)

    async def ids(self, viewer: Identity = ADMIN, **filters: Any) -> list[str]:
        found = await self.log.list(ConnectionFilter(**filters), viewer)
        return [row["id"] for row in found]

    def count(self, name: str, **labels: str) -> float:
        return self.parts.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with parts(tmp_path) as made:
        await made.accounts.bootstrap(tmp_path)
        for name in ("alice", "bob"):
            await made.accounts.create_user(name, Role.MEMBER, ADMIN)
        dev = await made.workspaces.create("dev", ALICE)
        other = await made.workspaces.create("other", BOB)
        log = ConnectionLog(made.store, made.clock, made.metrics)
        await log.start_run("run-1", booted_at=None)
        made_record = Record(made, log, dev.workspace_id, other.workspace_id)
        log.on_client_left = made_record.left.append
        yield made_record


def ended(connection_id: str, *facts: Evidence, at: float = EPOCH, **more: Any) -> Ended:
    return Ended(connection_id=connection_id, at=at, facts=records_of(facts), **more)


def ending(*facts: Evidence, rx: int = 0, tx: int = 0) -> CarrierEnding:
    return CarrierEnding(facts, (), rx_bytes=rx, tx_bytes=tx)


# -- the life of a row --------------------------------------------------------------------------


async def test_a_grant_is_no_connection_yet(record: Record) -> None:
    await record.grant("c1")
    assert await record.ids() == []
    assert await record.ids(status=ConnectionStatus.PENDING) == ["c1"]


async def test_a_tunnel_lives_from_its_joining_to_the_agents_report(record: Record) -> None:
    await record.grant("c1")
    record.move(2)
    await record.opened("c1")
    record.move(10)
    assert await record.report(ended("c1", *EXITED, at=EPOCH + 12, rx_bytes=5, tx_bytes=7)) == 1
    (row,) = await record.log.list(ConnectionFilter(), ADMIN)
    assert row == {
        "id": "c1",
        "connection_id": "c1",
        "parent_id": None,
        "status": "closed",
        "connect_type": "agent_to_client",
        "type": "tunnel",
        "app": "",
        "workspace_id": record.dev,
        "workspace": "dev",
        "agent": "main",
        "user": "alice",
        "client_ip": "127.0.0.1",
        "connection_method": "derp",
        "client_session_id": None,
        "created_at": "2027-01-15T08:00:00.000Z",
        "connected_at": "2027-01-15T08:00:02.000Z",
        "disconnected_at": "2027-01-15T08:00:12.000Z",
        "detached_since": None,
        "duration_s": 10.0,
        "rx_bytes": 5,
        "tx_bytes": 7,
        "disconnect_reason": "graceful",
        "disconnect_expected": True,
        "disconnect_initiator": "client",
        "disconnect_detail": "The last session's process ended with an exit status, then the client"
        " disconnected.",
        "disconnect_cause": "session.exit",
        "disconnect_basis": "observed",
        "disconnect_actor": "",
        "coarse_reason": "graceful",
        "exit_code": 3,
        "exit_signal": None,
        "rule": "session-exited",
        "confidence": "high",
        "proximate_cause": "",
        "root_event_id": None,
        "incident_id": None,
        "revision": 1,
    }


async def test_an_ongoing_row_has_no_disconnect(record: Record) -> None:
    await record.tunnel("c1")
    record.move(3)
    row = await record.row("c1")
    fields = {name: value for name, value in row.items() if name.startswith("disconnect")}
    assert set(fields.values()) == {None}
    assert (row["status"], row["duration_s"], row["revision"]) == ("ongoing", 3.0, 0)
    assert row["sentence"] == "The connection is open: there is no disconnect to explain."


async def test_a_relay_that_has_joined_two_legs_opens_no_row(record: Record) -> None:
    await record.grant("c1")
    await record.log.carrier_joined(C1)
    assert await record.ids(status=ConnectionStatus.PENDING) == ["c1"]


async def test_an_agent_that_says_it_twice_opens_the_row_once(record: Record) -> None:
    await record.grant("c1")
    await record.report(Opened(connection_id="c1", at=EPOCH - 500))
    record.move(1)
    with capture_logs() as lines:
        await record.opened("c1")
    assert (await record.row("c1"))["connected_at"] == "2027-01-15T08:00:00.000Z"
    assert lines == []


async def test_each_change_is_logged_once_and_only_the_close_has_disconnect_fields(
    record: Record,
) -> None:
    with capture_logs() as lines:
        await record.tunnel("c1")
        await record.log.carrier_ended(C1, ending(AGENT_EOF))
        await record.log.close_tunnel("c1", ())
        await record.report(ended("c1", AGENT_DIED))
        await record.report(ended("c1", AGENT_DIED))
    events = [line["event"] for line in lines]
    assert events == ["connection opened", "connection closed", "connection revised"]
    told = [sorted(name for name in line if name.startswith("disconnect_")) for line in lines]
    assert [len(names) for names in told] == [0, 7, 0]
    revised = lines[2]
    assert (revised["was"], revised["now"]) == ("agent.vanished", "agent.crashed")


async def test_a_grant_that_nobody_used_is_forgotten(record: Record) -> None:
    await record.grant("c1")
    record.move(PENDING_LIFE_S)
    await record.grant("c2")
    assert await record.log.forget_unused(lambda _id: False) == 0
    record.move(1)
    assert await record.log.forget_unused(lambda tunnel: tunnel.connection_id == "c1") == 0
    assert await record.log.forget_unused(lambda _id: False) == 1
    assert await record.ids(status=ConnectionStatus.PENDING) == ["c2"]


async def test_a_control_row_is_closed_by_the_links_own_cell(record: Record) -> None:
    await record.control("c1")
    said = ev.GoodbyeSaid(vantage=SERVER, at=EPOCH, by=Party.AGENT, cause="agent.shutdown")
    await record.log.close_control("c1", (said,), (AGENT_EOF,))
    row = await record.row("c1")
    assert (row["disconnect_cause"], row["agent"]) == ("agent.shutdown", "main")
    assert [fact["kind"] for fact in row["evidence"]] == ["goodbye_said"]
    assert [fact["kind"] for fact in row["symptoms"]] == ["stream_ended"]


# -- reports ------------------------------------------------------------------------------------


async def test_a_report_that_is_sent_again_changes_nothing(record: Record) -> None:
    await record.tunnel("c1")
    items = (Opened(connection_id="c1", at=EPOCH), ended("c1", *EXITED))
    assert await record.report(*items) == 2
    before = await record.row("c1")
    with capture_logs() as lines:
        assert await record.report(*items, first_seq=1) == 2
    assert (await record.row("c1"), lines) == (before, [])
    assert record.count("tether_reports_total", outcome="applied") == 2
    assert record.count("tether_reports_total", outcome="repeated") == 2


async def test_only_the_new_part_of_an_overlapping_report_is_applied(record: Record) -> None:
    await record.tunnel("c1")
    await record.tunnel("c2")
    first, second = ended("c1", *EXITED), ended("c2", CLIENT_EOF)
    assert await record.report(first) == 1
    assert await record.report(first, second, first_seq=1) == 2
    assert len((await record.row("c1"))["evidence"]) == len(EXITED)
    assert (await record.row("c2"))["disconnect_cause"] == "client.vanished"


async def test_an_older_report_does_not_move_the_cursor_back(record: Record) -> None:
    await record.tunnel("c1")
    assert await record.report(ended("c1", *EXITED), first_seq=10) == 10
    assert await record.report(Opened(connection_id="c1", at=EPOCH), first_seq=3) == 10


async def test_journals_and_reporters_have_cursors_of_their_own(record: Record) -> None:
    await record.tunnel("c1")
    elsewhere = Reporter(vantage=AGENT, since=EPOCH, workspace_id=record.other)
    assert await record.report(Opened(connection_id="c1", at=EPOCH), by=elsewhere) == 1
    assert await record.report(ended("c1", *EXITED), first_seq=1) == 1
    assert (await record.row("c1"))["status"] == "closed"


async def test_what_was_not_granted_to_an_agent_is_refused_and_acknowledged(
    record: Record,
) -> None:
    await record.tunnel("c1")
    stranger = Reporter(vantage=AGENT, since=EPOCH, workspace_id=record.other)
    with capture_logs() as lines:
        acked = await record.report(
            ended("c1", *EXITED),
            ended("no-such", *EXITED),
            SessionRecord(
                connection_id="c1", session_id="s1", session_type="ssh", started_at=EPOCH
            ),
            by=stranger,
        )
    assert acked == 3
    row = await record.row("c1")
    assert (row["status"], row["evidence"], row["sessions"]) == ("ongoing", [], [])
    assert record.count("tether_reports_total", outcome="refused") == 3
    assert [line["event"] for line in lines] == ["report items refused"]


async def test_a_client_reports_about_its_own_connections_and_closes_none(
    record: Record,
) -> None:
    await record.tunnel("c1")
    heard = ev.StreamEnded(vantage=CLIENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.RESET)
    forged = ev.GoodbyeSaid(vantage=AGENT, at=EPOCH, by=Party.AGENT, cause="agent.shutdown")
    item = ended("c1", forged, heard)
    assert await record.report(item, by=record.client("bob"), journal_id="b") == 1
    assert await record.report(item, by=record.client(), journal_id="a", first_seq=1) == 1
    row = await record.row("c1")
    assert row["status"] == "ongoing"
    assert [(one["vantage"], one["kind"]) for one in row["evidence"]] == [
        ("client", "stream_ended")
    ]


async def test_a_client_may_not_open_or_fill_a_row(record: Record) -> None:
    await record.grant("c1")
    session = SessionRecord(
        connection_id="c1", session_id="s1", session_type="ssh", started_at=EPOCH
    )
    await record.report(Opened(connection_id="c1", at=EPOCH), session, by=record.client())
    assert await record.ids(status=ConnectionStatus.PENDING) == ["c1"]


async def test_an_agents_report_about_its_own_link_is_joined_and_does_not_close_it(
    record: Record,
) -> None:
    await record.control("c1")
    seen = ev.StreamEnded(vantage=AGENT, at=EPOCH, peer=Party.SERVER, how=StreamEnd.EOF)
    await record.report(ended("c1", seen))
    assert (await record.row("c1"))["status"] == "ongoing"
    dead = ev.StreamEnded(vantage=SERVER, at=EPOCH, peer=Party.AGENT, how=StreamEnd.SILENT)
    await record.log.close_control("c1", (dead,), ())
    row = await record.row("c1")
    assert row["disconnect_cause"] == "agent.unreachable"
    assert [one["reporter"] for one in row["evidence"]] == ["agent", "server"]


async def test_an_agent_killed_with_its_link_is_known_when_it_returns(record: Record) -> None:
    await record.control("c1")
    gone = ev.StreamEnded(vantage=SERVER, at=EPOCH, peer=Party.AGENT, how=StreamEnd.EOF)
    await record.log.close_control("c1", (gone,), ())
    assert (await record.row("c1"))["disconnect_cause"] == "agent.vanished"
    await record.report(ended("c1", AGENT_DIED))
    row = await record.row("c1")
    assert (row["disconnect_cause"], row["revision"]) == ("agent.crashed", 2)


@pytest.mark.parametrize(
    "report",
    [
        Report(journal_id="", first_seq=1, items=[]),
        Report(journal_id="j" * 65, first_seq=1, items=[]),
        Report(journal_id="j", first_seq=0, items=[]),
        Report(journal_id="j", first_seq=1 << 53, items=[Opened(connection_id="c1", at=0)]),
    ],
    ids=["no journal", "long journal", "no number", "huge number"],
)
async def test_a_report_without_sense_is_garbage(record: Record, report: Report) -> None:
    with pytest.raises(Garbage):
        await record.log.apply(record.agent, report)


async def test_an_item_with_values_that_cannot_be_stored_does_not_stop_the_journal(
    record: Record,
) -> None:
    await record.tunnel("c1")
    bad: list[ReportItem] = [
        SessionRecord(
            connection_id="c1", session_id="s1", session_type="ssh", started_at=float("nan")
        ),
        SessionRecord(connection_id="c1", session_id="", session_type="ssh", started_at=EPOCH),
        SessionRecord(
            connection_id="c1",
            session_id="s2",
            session_type="ssh",
            started_at=EPOCH,
            exit_code=1 << 62,
        ),
        Ended(
            connection_id="c1",
            at=float("inf"),
            facts=[
                FactRecord(kind="stream_ended", vantage="agent", at=float("nan")),
                FactRecord(kind="stream_ended", vantage="nobody", at=1.0),
                FactRecord(kind="news", vantage="agent", at=1e300, values={"x": 1}),
                FactRecord(kind="news", vantage="agent", at=1.0, values={"x": "y" * 5000}),
                *records_of(EXITED),
            ],
            rx_bytes=-5,
            tx_bytes=(1 << 64) - 1,
        ),
    ]
    assert await record.report(*bad) == 4
    row = await record.row("c1")
    assert row["disconnect_cause"] == "session.exit"
    assert row["sessions"] == []
    assert len(row["evidence"]) == len(EXITED)
    assert (row["rx_bytes"], row["tx_bytes"]) == (0, (1 << 63) - 1)


async def test_an_item_of_a_newer_agent_is_acknowledged_and_warned_of_once(
    record: Record,
) -> None:
    await record.tunnel("c1")
    with capture_logs() as lines:
        for _ in range(2):
            await record.report(UnknownItem(connection_id="c1"), ended("c1", *EXITED))
    warned = [(line["event"], line.get("kind")) for line in lines]
    assert warned.count(("report items not kept", "UnknownItem")) == 1
    assert (await record.row("c1"))["disconnect_cause"] == "session.exit"


async def test_what_a_reporter_may_store_of_one_connection_is_bounded(record: Record) -> None:
    await record.tunnel("c1")
    many = [LOGGED_IN] * 500
    for _ in range(MAX_TESTIMONIES + 5):
        await record.report(ended("c1", *many, CLIENT_EOF))
    row = await record.row("c1")
    assert len(row["evidence"]) == MAX_FACTS * MAX_TESTIMONIES
    assert row["disconnect_cause"] == "client.vanished"


async def test_facts_of_a_newer_agent_are_kept(record: Record) -> None:
    await record.tunnel("c1")
    news = FactRecord(kind="quantum_flip", vantage="agent", at=EPOCH, values={"qubits": 3})
    await record.report(Ended(connection_id="c1", at=EPOCH, facts=[news]))
    (kept,) = (await record.row("c1"))["evidence"]
    assert (kept["kind"], kept["values"]) == ("quantum_flip", {"qubits": 3})


# -- sessions -----------------------------------------------------------------------------------


def session(name: str, kind: str = "ssh", **more: Any) -> SessionRecord:
    return SessionRecord(
        connection_id="c1", session_id=name, session_type=kind, started_at=EPOCH, **more
    )


async def test_the_first_session_says_what_the_connection_is(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(session("s1", "sftp"), session("s2", "ssh"))
    assert (await record.row("c1"))["type"] == "sftp"


async def test_a_sessions_end_completes_its_start(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(session("s1", pty=True))
    await record.report(session("s1", pty=True, ended_at=EPOCH + 5, exit_code=2))
    await record.report(session("s1", pty=True))
    (kept,) = (await record.row("c1"))["sessions"]
    assert kept == {
        "session_id": "s1",
        "session_type": "ssh",
        "app": "",
        "pty": True,
        "subsystem": "",
        "started_at": "2027-01-15T08:00:00.000Z",
        "ended_at": "2027-01-15T08:00:05.000Z",
        "process_ended_at": None,
        "exit_code": 2,
        "exit_signal": None,
    }


async def test_a_session_type_of_a_newer_agent_is_taken_for_ssh(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(session("s1", "holodeck"))
    assert (await record.row("c1"))["type"] == "ssh"


# -- times and bytes ----------------------------------------------------------------------------


async def test_a_live_report_ends_now_whatever_the_agents_clock_says(record: Record) -> None:
    await record.tunnel("c1")
    record.move(20)
    await record.report(ended("c1", *EXITED, at=EPOCH + 5000))
    assert (await record.row("c1"))["duration_s"] == 20.0


@pytest.mark.parametrize(
    ("said", "duration"), [(EPOCH + 7, 7.0), (EPOCH - 100, 0.0)], ids=["between", "before"]
)
async def test_a_report_from_the_journal_ends_when_the_agent_says_within_reason(
    record: Record, said: float, duration: float
) -> None:
    await record.tunnel("c1")
    record.move(100)
    back = Reporter(vantage=AGENT, since=EPOCH + 99, workspace_id=record.dev)
    await record.report(ended("c1", *EXITED, at=said), by=back)
    assert (await record.row("c1"))["duration_s"] == duration


async def test_where_our_relay_saw_the_end_its_clock_counts(record: Record) -> None:
    await record.tunnel("c1")
    record.move(30)
    await record.log.carrier_ended(C1, ending(AGENT_EOF))
    record.move(5)
    back = Reporter(vantage=AGENT, since=EPOCH + 34, workspace_id=record.dev)
    await record.report(ended("c1", AGENT_DIED, at=EPOCH + 2), by=back)
    assert (await record.row("c1"))["duration_s"] == 30.0


async def test_the_relays_bytes_stand_until_the_agent_counts_them(record: Record) -> None:
    await record.tunnel("c1")
    await record.log.carrier_ended(C1, ending(CLIENT_EOF, rx=10, tx=20))
    row = await record.row("c1")
    assert (row["rx_bytes"], row["tx_bytes"]) == (10, 20)
    await record.report(ended("c1", CLIENT_EOF, rx_bytes=8, tx_bytes=18))
    row = await record.row("c1")
    assert (row["rx_bytes"], row["tx_bytes"]) == (8, 18)


async def test_a_post_mortem_without_bytes_keeps_the_relays(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(ended("c1", AGENT_DIED))
    await record.log.carrier_ended(C1, ending(AGENT_EOF, rx=10, tx=20))
    row = await record.row("c1")
    assert (row["rx_bytes"], row["tx_bytes"]) == (10, 20)


# -- closing without the agent, and revisions ---------------------------------------------------


async def test_the_end_of_a_carrier_ends_no_tunnel(record: Record) -> None:
    await record.tunnel("c1")
    await record.log.carrier_ended(C1, ending(AGENT_EOF))
    assert (await record.row("c1"))["status"] == "ongoing"


async def test_a_row_that_nobody_reports_is_closed_with_what_is_on_file(record: Record) -> None:
    await record.tunnel("c1")
    record.move(60)
    await record.log.carrier_ended(C1, ending(AGENT_EOF))
    record.move(15)
    gone = ev.NeverReturned(vantage=SERVER, at=EPOCH, party=Party.AGENT, waited_s=15.0)
    await record.log.close_tunnel("c1", (gone,))
    row = await record.row("c1")
    assert (row["disconnect_cause"], row["duration_s"]) == ("agent.vanished", 60.0)
    assert [one["kind"] for one in row["evidence"]] == ["stream_ended", "never_returned"]


async def test_a_closed_row_is_not_closed_again(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(ended("c1", *EXITED))
    before = await record.row("c1")
    gone = ev.NeverReturned(vantage=SERVER, at=EPOCH, party=Party.AGENT, waited_s=15.0)
    await record.log.close_tunnel("c1", (gone,))
    assert await record.row("c1") == before


async def test_later_evidence_revises_the_row_and_keeps_what_it_said(record: Record) -> None:
    await record.tunnel("c1")
    await record.log.carrier_ended(C1, ending(AGENT_EOF))
    await record.log.close_tunnel("c1", ())
    record.move(50)
    await record.report(ended("c1", AGENT_DIED))
    row = await record.row("c1")
    assert (row["disconnect_cause"], row["revision"]) == ("agent.crashed", 2)
    assert row["because"] == "The agent's next run, on the same boot, found no clean stop."
    assert [(one["revision"], one["disconnect_cause"], one["at"]) for one in row["revisions"]] == [
        (1, "agent.vanished", "2027-01-15T08:00:00.000Z"),
        (2, "agent.crashed", "2027-01-15T08:00:50.000Z"),
    ]
    disconnects = "tether_disconnects_total"
    labels = {
        "connect_type": "agent_to_client",
        "reason": "process_crashed",
        "initiator": "agent",
        "expected": "false",
    }
    assert record.count(disconnects, **labels) == 1
    assert record.count("tether_attribution_revisions_total") == 1


async def test_an_end_that_nobody_can_explain_is_counted_by_what_it_joined(record: Record) -> None:
    kinds = [str(kind) for kind in ConnectType]
    unknown = "tether_attribution_unknown_total"
    series = [
        record.parts.metrics.registry.get_sample_value(unknown, {"connect_type": kind})
        for kind in kinds
    ]
    assert series == [0.0] * len(kinds)
    await record.tunnel("c1")
    await record.tunnel("c2")
    await record.control("k1")
    await record.log.close_tunnel("c1", ())
    await record.log.close_tunnel("c2", (CLIENT_EOF,))
    await record.log.close_control("k1", (), ())
    assert {kind: record.count(unknown, connect_type=kind) for kind in kinds} == {
        "agent_to_client": 1,
        "server_to_agent": 1,
        "client_to_server": 0,
    }
    labels = {"reason": "unknown", "initiator": "", "expected": "false"}
    ends = record.count("tether_disconnects_total", connect_type="agent_to_client", **labels)
    assert ends == 1


async def test_an_unknown_end_that_is_explained_later_was_counted_all_the_same(
    record: Record,
) -> None:
    await record.tunnel("c1")
    await record.log.close_tunnel("c1", ())
    await record.report(ended("c1", *EXITED))
    assert (await record.row("c1"))["disconnect_cause"] == "session.exit"
    assert record.count("tether_attribution_unknown_total", connect_type="agent_to_client") == 1
    assert record.count("tether_attribution_revisions_total") == 1


async def test_more_evidence_for_the_same_end_is_no_revision(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(ended("c1", *EXITED))
    with capture_logs() as lines:
        await record.log.carrier_ended(C1, ending(CLIENT_EOF))
        closed = ev.LocalSideClosed(vantage=CLIENT, at=EPOCH)
        await record.report(ended("c1", closed), by=record.client(), journal_id="x", first_seq=1)
    row = await record.row("c1")
    assert (row["revision"], len(row["evidence"]), lines) == (1, len(EXITED) + 2, [])
    assert record.left == []


async def test_an_agent_that_is_back_without_its_journal_closes_what_it_forgot(
    record: Record,
) -> None:
    for connection_id in ("c1", "c2", "c3"):
        await record.tunnel(connection_id)
    await record.tunnel("c4", journal_id="another")
    await record.grant("c5")
    await record.log.reconcile(record.dev, JOURNAL, {"c1"}, lambda c: c == "c2")
    status = {row["id"]: row["status"] for row in await record.log.list(ConnectionFilter(), ADMIN)}
    assert status == {"c1": "ongoing", "c2": "ongoing", "c3": "closed", "c4": "ongoing"}
    (fact,) = (await record.row("c3"))["evidence"]
    assert (fact["kind"], fact["vantage"]) == ("report_missing", "server")


@pytest.mark.parametrize(
    "bye",
    [
        ev.GoodbyeSaid(vantage=CLIENT, at=EPOCH, by=Party.CLIENT, cause="client.closed"),
        ev.GoodbyeSaid(vantage=CLIENT, at=EPOCH, by=Party.AGENT, cause="agent.shutdown"),
        ev.LocalSideClosed(vantage=CLIENT, at=EPOCH),
    ],
)
async def test_a_clients_word_that_it_is_over_closes_nothing_and_is_told_to_who_waits(
    record: Record, bye: ev.Evidence
) -> None:
    await record.tunnel("c1")
    await record.report(ended("c1", bye), by=record.client(), journal_id="x", first_seq=1)
    assert record.left == ["c1"]
    assert (await record.row("c1"))["status"] == "ongoing"


async def test_who_left_is_known_with_the_cause_they_gave_whether_the_row_is_closed_or_not(
    record: Record,
) -> None:
    bye = ev.GoodbyeSaid(vantage=CLIENT, at=EPOCH, by=Party.CLIENT, cause="client.killed")
    words: dict[str, Evidence] = {
        "c1": bye,
        "c2": ev.LocalSideClosed(vantage=CLIENT, at=EPOCH),
        "c3": ev.StreamEnded(vantage=CLIENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.RESET),
    }
    for number, (connection_id, word) in enumerate(words.items(), 1):
        await record.tunnel(connection_id)
        reported = ended(connection_id, word)
        await record.report(reported, by=record.client(), journal_id="x", first_seq=number)
    await record.tunnel("c4")
    await record.log.close_tunnel("c1", ())
    left = await record.log.left_by_clients(["c1", "c2", "c3", "c4", "never heard of"])
    assert {row["connection_id"]: cause for row, cause in left} == {
        "c1": "client.killed",
        "c2": "client.closed",
    }


async def test_a_client_that_was_merely_cut_off_has_not_left(record: Record) -> None:
    await record.tunnel("c1")
    cut = ev.StreamEnded(vantage=CLIENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.RESET)
    await record.report(ended("c1", cut), by=record.client(), journal_id="x", first_seq=1)
    assert record.left == []


# -- carriers and the way -----------------------------------------------------------------------


def path(event: str, carrier: int = 1, at: float = EPOCH, **more: Any) -> PathRecord:
    kept = {"method": "derp", "where": "fra", **more}
    return PathRecord(connection_id="c1", at=at, event=event, carrier=carrier, **kept)


async def the_way(record: Record) -> tuple[Any, ...]:
    row = await record.row("c1")
    return row["status"], row["connection_method"], row["detached_since"], row["sentence"][:11]


async def test_a_detached_tunnel_is_ongoing_and_says_since_when(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(path("used"))
    record.move(7)
    await record.report(path("detached", peer="client", how="silent"))
    assert await the_way(record) == ("ongoing", "derp", "2027-01-15T08:00:07.000Z", "No way betw")
    record.move(5)
    await record.report(
        path("resumed", 2, method="direct", where="10.0.0.1:7", gap_s=5.0, resent_bytes=9)
    )
    assert await the_way(record) == ("ongoing", "direct", None, "The connect")
    row = await record.row("c1")
    assert row["path_events_total"] == 3
    assert row["path_events"][2] == {
        "at": "2027-01-15T08:00:00.000Z",
        "event": "resumed",
        "carrier": 2,
        "method": "direct",
        "where": "10.0.0.1:7",
        "peer": "",
        "how": "",
        "errno": "",
        "gap_s": 5.0,
        "resent_bytes": 9,
    }


async def test_a_lost_standby_changes_nothing_but_the_history(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(path("used", 2, method="direct"), path("lost", 1, how="eof"))
    assert await the_way(record) == ("ongoing", "direct", None, "The connect")


async def test_the_end_of_the_carrier_in_use_is_a_detachment_before_the_agent_says_so(
    record: Record,
) -> None:
    await record.tunnel("c1")
    record.move(3)
    await record.log.carrier_ended(C1, ending(AGENT_EOF))
    assert await the_way(record) == ("ongoing", "derp", "2027-01-15T08:00:03.000Z", "No way betw")


async def test_the_end_of_a_carrier_that_was_left_is_no_detachment(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(path("used", 2))
    await record.log.carrier_ended(C1, ending(CLIENT_EOF))
    assert (await the_way(record))[2] is None


async def test_words_of_a_newer_agent_are_kept_and_change_nothing(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(path("teleported", method="wormhole"), path("used", 2, method="wormhole"))
    assert await the_way(record) == ("ongoing", "derp", None, "The connect")
    assert [one["event"] for one in (await record.row("c1"))["path_events"]] == [
        "teleported",
        "used",
    ]


@pytest.mark.parametrize("wrong", [{"carrier": 0}, {"carrier": 1 << 40}, {"gap_s": -1.0}])
async def test_a_path_event_that_makes_no_sense_is_refused(
    record: Record, wrong: dict[str, Any]
) -> None:
    await record.tunnel("c1")
    await record.report(path("used", **wrong))
    assert (await record.row("c1"))["path_events"] == []


async def test_the_history_of_a_way_is_bounded_and_counted(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(*(path("used", number) for number in range(1, 301)))
    row = await record.row("c1")
    kept = [one["carrier"] for one in row["path_events"]]
    assert kept == [*range(1, 21), *range(121, 301)]
    assert row["path_events_total"] == 300


async def test_a_tunnel_is_not_judged_by_carriers_that_it_outlived(record: Record) -> None:
    await record.tunnel("c1")
    await record.log.carrier_ended(C1, ending(AGENT_EOF))
    await record.report(path("detached"), path("resumed", 2, gap_s=1.0))
    await record.log.carrier_ended(CarrierId("c1", 2), ending(CLIENT_EOF))
    await record.log.close_tunnel("c1", ())
    row = await record.row("c1")
    assert row["disconnect_cause"] == "client.vanished"
    told = [(one["values"]["peer"], one["outlived"]) for one in row["evidence"]]
    assert told == [("agent", True), ("client", False)]


async def test_a_relay_that_left_as_planned_is_not_why_an_agent_never_came_back(
    record: Record,
) -> None:
    await record.tunnel("c1")
    left = ev.GoodbyeSaid(vantage=RELAY, at=EPOCH, by=Party.RELAY, cause="relay.shutdown")
    await record.log.carrier_ended(C1, ending(left))
    gone = ev.NeverReturned(vantage=SERVER, at=EPOCH, party=Party.AGENT, waited_s=15.0)
    await record.log.close_tunnel("c1", (gone,))
    row = await record.row("c1")
    assert row["disconnect_cause"] == "agent.vanished"
    assert [one["kind"] for one in row["evidence"]] == ["goodbye_said", "never_returned"]


async def test_a_relay_that_left_as_planned_is_said_where_nothing_else_is_known(
    record: Record,
) -> None:
    await record.tunnel("c1")
    left = ev.GoodbyeSaid(vantage=RELAY, at=EPOCH, by=Party.RELAY, cause="relay.shutdown")
    await record.log.carrier_ended(C1, ending(left))
    await record.log.close_tunnel("c1", ())
    assert (await record.row("c1"))["disconnect_cause"] == "relay.shutdown"


async def test_an_agent_that_died_may_have_gone_over_to_a_later_carrier(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(path("used"))
    await record.log.carrier_ended(CarrierId("c1", 2), ending(AGENT_EOF))
    await record.log.close_tunnel("c1", ())
    assert (await record.row("c1"))["disconnect_cause"] == "agent.vanished"


async def test_of_many_carriers_the_last_ones_stay_on_file(record: Record) -> None:
    await record.tunnel("c1")
    for number in range(1, MAX_TESTIMONIES + 5):
        await record.log.carrier_ended(CarrierId("c1", number), ending(CLIENT_EOF))
    await record.report(path("used", MAX_TESTIMONIES + 5))
    last = ev.StreamEnded(vantage=RELAY, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.RESET)
    await record.log.carrier_ended(CarrierId("c1", MAX_TESTIMONIES + 5), ending(last))
    evidence = (await record.row("c1"))["evidence"]
    assert len(evidence) == MAX_TESTIMONIES
    assert evidence[-1]["values"]["how"] == "reset"


async def test_a_relay_that_says_it_again_is_heard_once(record: Record) -> None:
    await record.tunnel("c1")
    for _ in range(2):
        await record.log.carrier_ended(C1, ending(CLIENT_EOF, rx=10, tx=20))
    row = await record.row("c1")
    assert (len(row["evidence"]), row["rx_bytes"], row["tx_bytes"]) == (1, 10, 20)


async def test_the_bytes_of_carriers_add_up_until_the_agent_counts_them(record: Record) -> None:
    await record.tunnel("c1")
    for number in (1, 2):
        await record.log.carrier_ended(CarrierId("c1", number), ending(CLIENT_EOF, rx=10, tx=20))
    row = await record.row("c1")
    assert (row["rx_bytes"], row["tx_bytes"]) == (20, 40)


# -- runs of the server -------------------------------------------------------------------------


async def test_a_server_that_died_says_so_of_its_links_and_waits_for_the_agents(
    record: Record,
) -> None:
    await record.control("c1")
    await record.tunnel("c2")
    record.move(5)
    await record.log.beat("run-1")
    record.move(100)
    previous = await record.log.start_run("run-2", booted_at=EPOCH - 1000)
    assert (previous.died, previous.last_alive_at) == (True, EPOCH + 5)
    assert [tunnel.connection_id for tunnel in previous.tunnels] == ["c2"]
    control, tunnel = await record.row("c1"), await record.row("c2")
    assert (control["disconnect_cause"], control["duration_s"]) == ("server.crashed", 5.0)
    assert (tunnel["status"], tunnel["evidence"]) == ("ongoing", [])
    (death,) = previous.death
    assert isinstance(death, ev.PreviousRunDied)
    assert death.host_rebooted is False


async def test_agents_that_had_fallen_silent_before_a_restart_are_known(record: Record) -> None:
    for journal_id, how in (("asleep", StreamEnd.SILENT), ("dead", StreamEnd.EOF)):
        await record.tunnel(f"c-{journal_id}", journal_id=journal_id)
        await record.control(f"l-{journal_id}", journal_id=journal_id)
        lost = ev.StreamEnded(vantage=SERVER, at=EPOCH, peer=Party.AGENT, how=how)
        await record.log.close_control(f"l-{journal_id}", (lost,), ())
    assert (await record.log.start_run("run-2", booted_at=None)).silent == {"asleep"}


async def test_a_row_that_began_after_the_last_beat_lasts_no_less_than_nothing(
    record: Record,
) -> None:
    record.move(3)
    await record.control("c1")
    await record.log.start_run("run-2", booted_at=EPOCH + 50)
    row = await record.row("c1")
    assert row["duration_s"] == 0.0
    assert row["evidence"][0]["values"]["host_rebooted"] is True


async def test_after_a_clean_stop_nobody_died(record: Record) -> None:
    await record.tunnel("c1")
    await record.control("c2")
    await record.log.end_run("run-1")
    previous = await record.log.start_run("run-2", booted_at=None)
    assert (previous.died, [one.connection_id for one in previous.tunnels]) == (False, ["c1"])
    assert (await record.row("c1"))["evidence"] == []
    assert (await record.row("c2"))["disconnect_cause"] == "unknown"


async def test_a_tunnel_of_a_dead_server_is_told_by_its_agent(record: Record) -> None:
    await record.tunnel("c1")
    await record.log.start_run("run-2", booted_at=None)
    lost = ev.StreamEnded(vantage=AGENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.EOF)
    await record.report(ended("c1", LOGGED_IN, lost))
    row = await record.row("c1")
    assert (row["disconnect_cause"], row["revision"]) == ("relay.crashed", 1)


# -- looking ------------------------------------------------------------------------------------


async def test_the_list_is_newest_first_and_limited(record: Record) -> None:
    for number in range(4):
        await record.tunnel(f"c{number}")
    assert await record.ids(limit=3) == ["c3", "c2", "c1"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"workspace": "dev"}, ["c3", "c1"]),
        ({"workspace": "nope"}, []),
        ({"user": "bob"}, ["c2"]),
        ({"type": ConnectionType.SFTP}, ["c1"]),
        ({"reason": Reason.GRACEFUL}, ["c1"]),
        ({"cause": "client.vanished"}, ["c2"]),
        ({"initiator": Initiator.CLIENT}, ["c2", "c1"]),
        ({"expected": True}, ["c1"]),
        ({"expected": False}, ["c2"]),
        ({"status": ConnectionStatus.ONGOING}, ["c3"]),
        ({"status": ConnectionStatus.CLOSED}, ["c2", "c1"]),
        ({"until": EPOCH + 5}, ["c1"]),
        ({"since": EPOCH + 15}, ["c3", "c2"]),
        ({"since": EPOCH + 3, "until": EPOCH + 15}, ["c2"]),
    ],
    ids=str,
)
async def test_each_filter_selects(
    record: Record, filters: dict[str, Any], expected: list[str]
) -> None:
    await record.tunnel("c1")
    await record.report(session("s1", "sftp"), ended("c1", *EXITED, at=EPOCH + 2))
    record.move(10)
    await record.tunnel("c2", "bob", workspace_id=record.other, workspace="other")
    record.move(10)
    elsewhere = Reporter(vantage=AGENT, since=EPOCH, workspace_id=record.other)
    await record.report(ended("c2", CLIENT_EOF), by=elsewhere)
    await record.tunnel("c3")
    assert await record.ids(**filters) == expected


async def test_members_see_their_workspaces_and_their_own_connections(record: Record) -> None:
    await record.tunnel("c1", "alice")
    await record.tunnel("c2", "bob", workspace_id=record.other, workspace="other")
    await record.tunnel("c3", "alice", workspace_id=record.other, workspace="other")
    await record.control("c4")
    assert await record.ids(ALICE) == ["c4", "c3", "c1"]
    assert await record.ids(BOB) == ["c3", "c2"]
    assert await record.ids(ADMIN) == ["c4", "c3", "c2", "c1"]
    with pytest.raises(NotFound):
        await record.log.explain("c1", BOB)


async def test_a_unique_prefix_is_enough(record: Record) -> None:
    first, second = "ab" + "0" * 30, "ac" + "0" * 30
    await record.tunnel(first)
    await record.tunnel(second)
    assert (await record.log.explain("ab", ADMIN))["id"] == first
    with pytest.raises(Ambiguous):
        await record.log.explain("a", ADMIN)
    for nothing in ("ad", "", "a%", "x' OR 1=1", "a" * 33, "ab" + "0" * 30 + "0"):
        with pytest.raises(NotFound):
            await record.log.explain(nothing, ADMIN)


async def test_a_prefix_is_ambiguous_only_among_what_the_viewer_sees(record: Record) -> None:
    await record.tunnel("ab", "alice")
    await record.tunnel("ac", "bob", workspace_id=record.other, workspace="other")
    assert (await record.log.explain("a", ALICE))["id"] == "ab"


async def test_an_explained_row_has_words_and_its_evidence(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(
        ended("c1", *EXITED, symptoms=records_of((CLIENT_EOF,))),
    )
    row = await record.row("c1")
    assert row["title"] == "The command or shell ended"
    assert row["sentence"] == "The command or shell ended with exit code 3."
    assert row["advice"] == "Nothing needs to be done."
    assert row["evidence"][1] == {
        "vantage": "agent",
        "reporter": "agent",
        "time": "2027-01-15T08:00:00.000Z",
        "at": "2027-01-15T08:00:00.000Z",
        "received_at": "2027-01-15T08:00:00.000Z",
        "kind": "session_ended",
        "values": {
            "exit_code": 3,
            "exit_signal": None,
            "open_sessions": 0,
            "cause": "",
            "actor": "",
        },
        "outlived": False,
    }
    assert [one["kind"] for one in row["symptoms"]] == ["stream_ended"]


async def test_how_an_agent_left_is_remembered_in_one_sentence(record: Record) -> None:
    assert await record.log.last_agent_end(record.dev) == ""
    await record.control("c1")
    said = ev.GoodbyeSaid(
        vantage=SERVER, at=EPOCH, by=Party.AGENT, cause="agent.shutdown", actor="signal:15"
    )
    await record.log.close_control("c1", (said,), ())
    assert await record.log.last_agent_end(record.dev) == (
        "The workspace's agent was asked to stop (signal 15) and ended its sessions in order."
    )


# -- waiting ------------------------------------------------------------------------------------


async def test_waiting_ends_with_the_last_close(record: Record) -> None:
    for connection_id in ("c1", "c2"):
        await record.tunnel(connection_id)
    waiting = asyncio.get_running_loop().create_task(
        record.log.wait_closed(["c1", "c2", "no-such"], 5.0)
    )
    await record.report(ended("c1", *EXITED))
    assert not waiting.done()
    await record.report(ended("c2", *EXITED))
    assert await waiting == set()


async def test_waiting_for_what_is_closed_returns_at_once(record: Record) -> None:
    await record.tunnel("c1")
    await record.report(ended("c1", *EXITED))
    assert await record.log.wait_closed(["c1"], 0.0) == set()
    assert await record.log.wait_closed([], 0.0) == set()


async def test_waiting_has_an_end_and_says_what_is_left(record: Record) -> None:
    await record.tunnel("c1")
    assert await record.log.wait_closed(["c1"], 0.01) == {"c1"}


async def test_the_number_of_open_connections_is_kept(record: Record) -> None:
    await record.tunnel("c1")
    await record.control("c2")
    await record.grant("c3")
    assert record.count("tether_connections_open") == 3
    await record.report(ended("c1", *EXITED))
    record.move(PENDING_LIFE_S + 1)
    await record.log.forget_unused(lambda _id: False)
    assert record.count("tether_connections_open") == 1
    await record.log.start_run("run-2", booted_at=None)
    assert record.count("tether_connections_open") == 0


async def test_what_is_learned_of_a_link_that_is_over_revises_its_end(record: Record) -> None:
    await record.control("aa")
    reset = ev.StreamEnded(
        vantage=Vantage.SERVER, at=EPOCH, peer=Party.AGENT, how=StreamEnd.RESET, idle_s=12.2
    )
    await record.log.close_control("aa", (reset,), ())
    first = (await record.row("aa"))["disconnect_cause"]
    again = ev.CutWhenIdle(vantage=Vantage.SERVER, at=EPOCH, party=Party.AGENT, cuts=2, idle_s=12.2)
    await record.log.learned("aa", again)
    assert (first, (await record.row("aa"))["disconnect_cause"]) == (
        "agent.vanished",
        "network.idle_timeout",
    )


async def test_large_packets_that_were_lost_are_told_by_the_counters_of_both_ends(
    record: Record,
) -> None:
    """As counted where a path carried 1200 bytes and nobody said so: the server had much to send."""
    counted: dict[str, Any] = {"probes": 0, "pmtu": 1500, "rtt_us": 600, "snd_mss": 1448}
    silent: dict[str, Any] = {"at": EPOCH, "how": StreamEnd.SILENT, "silence_s": 6.0}
    stuck = ev.TcpCounters(
        vantage=Vantage.SERVER,
        at=EPOCH,
        peer=Party.AGENT,
        retransmits=5,
        unacked=4,
        lost=4,
        total_retrans=15,
        last_data_recv_ms=6000,
        last_ack_recv_ms=1100,
        **counted,
    )
    waiting = ev.TcpCounters(
        vantage=Vantage.AGENT,
        at=EPOCH,
        peer=Party.SERVER,
        retransmits=0,
        unacked=0,
        total_retrans=0,
        last_data_recv_ms=6000,
        last_ack_recv_ms=1900,
        **counted,
    )
    await record.control("aa")
    at_server = ev.StreamEnded(vantage=Vantage.SERVER, peer=Party.AGENT, **silent)
    at_agent = ev.StreamEnded(vantage=Vantage.AGENT, peer=Party.SERVER, **silent)
    await record.log.close_control("aa", (stuck, at_server), ())
    await record.report(ended("aa", waiting, at_agent))
    assert (await record.row("aa"))["disconnect_cause"] == "network.mtu_black_hole"
