"""The connection log on a real database: lives of rows, reports applied once, and what is shown."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.clock import EPOCH
from tests.support.server.log_reader import ADMIN
from tests.support.server.log_rig import (
    AGENT,
    AGENT_DIED,
    AGENT_EOF,
    ALICE,
    BOB,
    CLIENT,
    CLIENT_EOF,
    EXITED,
    JOURNAL,
    LOGGED_IN,
    RELAY,
    SERVER,
    LogRig,
    ended,
    ending,
    session,
)
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    ConnectionType,
    ConnectType,
    Initiator,
    Party,
    Reason,
    StreamEnd,
    Vantage,
)
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
from tether.server.connlog import testimonies
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.log import PENDING_LIFE_S
from tether.server.connlog.testimonies import MAX_FACTS, MAX_TESTIMONIES
from tether.server.db.tables.connections import ConnectionStatus
from tether.server.errors import Ambiguous, NotFound

pytestmark = pytest.mark.anyio

C1 = CarrierId("c1")


# -- the life of a row --------------------------------------------------------------------------


async def test_a_grant_is_no_connection_yet(rig: LogRig) -> None:
    await rig.grant("c1")
    assert await rig.ids() == []
    assert await rig.ids(status=ConnectionStatus.PENDING) == ["c1"]


async def test_a_tunnel_lives_from_its_joining_to_the_agents_report(rig: LogRig) -> None:
    await rig.grant("c1")
    rig.move(2)
    await rig.opened("c1")
    rig.move(10)
    assert await rig.report(ended("c1", *EXITED, at=EPOCH + 12, rx_bytes=5, tx_bytes=7)) == 1
    (row,) = await rig.read.connections()
    assert row == {
        "id": "c1",
        "connection_id": "c1",
        "parent_id": None,
        "status": "closed",
        "connect_type": "agent_to_client",
        "type": "tunnel",
        "app": "",
        "workspace_id": rig.dev,
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


async def test_an_ongoing_row_has_no_disconnect(rig: LogRig) -> None:
    await rig.tunnel("c1")
    rig.move(3)
    row = await rig.row("c1")
    fields = {name: value for name, value in row.items() if name.startswith("disconnect")}
    assert set(fields.values()) == {None}
    assert (row["status"], row["duration_s"], row["revision"]) == ("ongoing", 3.0, 0)
    assert row["sentence"] == "The connection is open: there is no disconnect to explain."


async def test_a_relay_that_has_joined_two_legs_opens_no_row(rig: LogRig) -> None:
    await rig.grant("c1")
    await rig.log.carrier_joined(C1)
    assert await rig.ids(status=ConnectionStatus.PENDING) == ["c1"]


async def test_an_agent_that_says_it_twice_opens_the_row_once(rig: LogRig) -> None:
    await rig.grant("c1")
    await rig.report(Opened(connection_id="c1", at=EPOCH - 500))
    rig.move(1)
    with capture_logs() as lines:
        await rig.opened("c1")
    assert (await rig.row("c1"))["connected_at"] == "2027-01-15T08:00:00.000Z"
    assert lines == []


async def test_each_change_is_logged_once_and_only_the_close_has_disconnect_fields(
    rig: LogRig,
) -> None:
    with capture_logs() as lines:
        await rig.tunnel("c1")
        await rig.log.carrier_ended(C1, ending(AGENT_EOF))
        await rig.log.close_tunnel("c1", ())
        await rig.report(ended("c1", AGENT_DIED))
        await rig.report(ended("c1", AGENT_DIED))
    events = [line["event"] for line in lines]
    assert events == ["connection opened", "connection closed", "connection revised"]
    told = [sorted(name for name in line if name.startswith("disconnect_")) for line in lines]
    assert [len(names) for names in told] == [0, 7, 0]
    revised = lines[2]
    assert (revised["was"], revised["now"]) == ("agent.vanished", "agent.crashed")


async def test_a_grant_that_nobody_used_is_forgotten(rig: LogRig) -> None:
    await rig.grant("c1")
    rig.move(PENDING_LIFE_S)
    await rig.grant("c2")
    assert await rig.log.forget_unused(lambda _id: False) == 0
    rig.move(1)
    assert await rig.log.forget_unused(lambda tunnel: tunnel.connection_id == "c1") == 0
    assert await rig.log.forget_unused(lambda _id: False) == 1
    assert await rig.ids(status=ConnectionStatus.PENDING) == ["c2"]


async def test_a_control_row_is_closed_by_the_links_own_cell(rig: LogRig) -> None:
    await rig.control("c1")
    said = ev.GoodbyeSaid(vantage=SERVER, at=EPOCH, by=Party.AGENT, cause="agent.shutdown")
    await rig.log.close_control("c1", (said,), (AGENT_EOF,))
    row = await rig.row("c1")
    assert (row["disconnect_cause"], row["agent"]) == ("agent.shutdown", "main")
    assert [fact["kind"] for fact in row["evidence"]] == ["goodbye_said"]
    assert [fact["kind"] for fact in row["symptoms"]] == ["stream_ended"]


# -- reports ------------------------------------------------------------------------------------


async def test_a_report_that_is_sent_again_changes_nothing(rig: LogRig) -> None:
    await rig.tunnel("c1")
    items = (Opened(connection_id="c1", at=EPOCH), ended("c1", *EXITED))
    assert await rig.report(*items) == 2
    before = await rig.row("c1")
    with capture_logs() as lines:
        assert await rig.report(*items, first_seq=1) == 2
    assert (await rig.row("c1"), lines) == (before, [])
    assert rig.count("tether_reports_total", outcome="applied") == 2
    assert rig.count("tether_reports_total", outcome="repeated") == 2


async def test_only_the_new_part_of_an_overlapping_report_is_applied(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.tunnel("c2")
    first, second = ended("c1", *EXITED), ended("c2", CLIENT_EOF)
    assert await rig.report(first) == 1
    assert await rig.report(first, second, first_seq=1) == 2
    assert len((await rig.row("c1"))["evidence"]) == len(EXITED)
    assert (await rig.row("c2"))["disconnect_cause"] == "client.vanished"


async def test_an_older_report_does_not_move_the_cursor_back(rig: LogRig) -> None:
    await rig.tunnel("c1")
    assert await rig.report(ended("c1", *EXITED), first_seq=10) == 10
    assert await rig.report(Opened(connection_id="c1", at=EPOCH), first_seq=3) == 10


async def test_journals_and_reporters_have_cursors_of_their_own(rig: LogRig) -> None:
    await rig.tunnel("c1")
    elsewhere = Reporter(vantage=AGENT, since=EPOCH, workspace_id=rig.other)
    assert await rig.report(Opened(connection_id="c1", at=EPOCH), by=elsewhere) == 1
    assert await rig.report(ended("c1", *EXITED), first_seq=1) == 1
    assert (await rig.row("c1"))["status"] == "closed"


async def test_what_was_not_granted_to_an_agent_is_refused_and_acknowledged(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    stranger = Reporter(vantage=AGENT, since=EPOCH, workspace_id=rig.other)
    with capture_logs() as lines:
        acked = await rig.report(
            ended("c1", *EXITED),
            ended("no-such", *EXITED),
            SessionRecord(
                connection_id="c1", session_id="s1", session_type="ssh", started_at=EPOCH
            ),
            by=stranger,
        )
    assert acked == 3
    row = await rig.row("c1")
    assert (row["status"], row["evidence"], row["sessions"]) == ("ongoing", [], [])
    assert rig.count("tether_reports_total", outcome="refused") == 3
    assert [line["event"] for line in lines] == ["report items refused"]


async def test_a_client_reports_about_its_own_connections_and_closes_none(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    heard = ev.StreamEnded(vantage=CLIENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.RESET)
    forged = ev.GoodbyeSaid(vantage=AGENT, at=EPOCH, by=Party.AGENT, cause="agent.shutdown")
    item = ended("c1", forged, heard)
    assert await rig.report(item, by=rig.client("bob"), journal_id="b") == 1
    assert await rig.report(item, by=rig.client(), journal_id="a", first_seq=1) == 1
    row = await rig.row("c1")
    assert row["status"] == "ongoing"
    assert [(one["vantage"], one["kind"], one["hearsay"]) for one in row["evidence"]] == [
        ("client", "stream_ended", False),
        ("agent", "goodbye_said", True),
    ]


EVICTED = ev.GoodbyeSaid(
    vantage=AGENT, at=EPOCH, by=Party.SERVER, cause="workspace.evicted", actor="admin:root"
)
"""What an agent may claim that the server told it."""


async def test_an_agent_that_invents_an_administrators_order_is_not_believed(rig: LogRig) -> None:
    await rig.tunnel("c1")
    seen = ev.StreamEnded(vantage=AGENT, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.EOF)
    await rig.report(ended("c1", EVICTED, seen))
    row = await rig.row("c1")
    assert (row["disconnect_cause"], row["disconnect_actor"]) == ("client.vanished", "")
    assert [one["kind"] for one in row["evidence"] if one["hearsay"]] == ["goodbye_said"]


async def test_what_an_agent_repeats_is_the_servers_word_with_the_servers_actor(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    own = replace(EVICTED, vantage=SERVER, actor="admin:bob")
    await rig.log.announce(["c1"], own)
    assert (await rig.row("c1"))["status"] == "ongoing"
    await rig.report(ended("c1", EVICTED))
    row = await rig.row("c1")
    told = (row["disconnect_cause"], row["disconnect_actor"], row["disconnect_basis"])
    assert told == ("workspace.evicted", "admin:bob", "declared")


async def test_a_client_may_not_open_or_fill_a_row(rig: LogRig) -> None:
    await rig.grant("c1")
    session = SessionRecord(
        connection_id="c1", session_id="s1", session_type="ssh", started_at=EPOCH
    )
    await rig.report(Opened(connection_id="c1", at=EPOCH), session, by=rig.client())
    assert await rig.ids(status=ConnectionStatus.PENDING) == ["c1"]


async def test_an_agents_report_about_its_own_link_is_joined_and_does_not_close_it(
    rig: LogRig,
) -> None:
    await rig.control("c1")
    seen = ev.StreamEnded(vantage=AGENT, at=EPOCH, peer=Party.SERVER, how=StreamEnd.EOF)
    await rig.report(ended("c1", seen))
    assert (await rig.row("c1"))["status"] == "ongoing"
    dead = ev.StreamEnded(vantage=SERVER, at=EPOCH, peer=Party.AGENT, how=StreamEnd.SILENT)
    await rig.log.close_control("c1", (dead,), ())
    row = await rig.row("c1")
    assert row["disconnect_cause"] == "agent.unreachable"
    assert [one["reporter"] for one in row["evidence"]] == ["agent", "server"]


async def test_an_agent_killed_with_its_link_is_known_when_it_returns(rig: LogRig) -> None:
    await rig.control("c1")
    gone = ev.StreamEnded(vantage=SERVER, at=EPOCH, peer=Party.AGENT, how=StreamEnd.EOF)
    await rig.log.close_control("c1", (gone,), ())
    assert (await rig.row("c1"))["disconnect_cause"] == "agent.vanished"
    await rig.report(ended("c1", AGENT_DIED))
    row = await rig.row("c1")
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
async def test_a_report_without_sense_is_garbage(rig: LogRig, report: Report) -> None:
    with pytest.raises(Garbage):
        await rig.log.apply(rig.agent, report)


async def test_an_item_with_values_that_cannot_be_stored_does_not_stop_the_journal(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
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
    assert await rig.report(*bad) == 4
    row = await rig.row("c1")
    assert row["disconnect_cause"] == "session.exit"
    assert row["sessions"] == []
    assert len(row["evidence"]) == len(EXITED) + 1  # what was too long is cut
    assert (row["rx_bytes"], row["tx_bytes"]) == (0, (1 << 63) - 1)


async def test_an_item_of_a_newer_agent_is_acknowledged_and_warned_of_once(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    with capture_logs() as lines:
        for _ in range(2):
            await rig.report(UnknownItem(connection_id="c1"), ended("c1", *EXITED))
    warned = [(line["event"], line.get("kind")) for line in lines]
    assert warned.count(("report items not kept", "UnknownItem")) == 1
    assert (await rig.row("c1"))["disconnect_cause"] == "session.exit"


async def test_what_a_reporter_may_store_of_one_connection_is_bounded(rig: LogRig) -> None:
    await rig.tunnel("c1")
    many = [LOGGED_IN] * 500
    for _ in range(MAX_TESTIMONIES + 5):
        await rig.report(ended("c1", *many, CLIENT_EOF))
    row = await rig.row("c1")
    assert len(row["evidence"]) == MAX_FACTS * MAX_TESTIMONIES
    assert row["disconnect_cause"] == "client.vanished"


async def test_facts_of_a_newer_agent_are_kept(rig: LogRig) -> None:
    await rig.tunnel("c1")
    news = FactRecord(kind="quantum_flip", vantage="agent", at=EPOCH, values={"qubits": 3})
    await rig.report(Ended(connection_id="c1", at=EPOCH, facts=[news]))
    (kept,) = (await rig.row("c1"))["evidence"]
    assert (kept["kind"], kept["values"]) == ("quantum_flip", {"qubits": 3})


# -- sessions -----------------------------------------------------------------------------------


async def test_the_first_session_says_what_the_connection_is(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(session("s1", "sftp"), session("s2", "ssh"))
    assert (await rig.row("c1"))["type"] == "sftp"


async def test_a_sessions_end_completes_its_start(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(session("s1", pty=True))
    await rig.report(session("s1", pty=True, ended_at=EPOCH + 5, exit_code=2))
    await rig.report(session("s1", pty=True))
    (kept,) = (await rig.row("c1"))["sessions"]
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


async def test_a_session_type_of_a_newer_agent_is_taken_for_ssh(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(session("s1", "holodeck"))
    assert (await rig.row("c1"))["type"] == "ssh"


# -- times and bytes ----------------------------------------------------------------------------


async def test_a_live_report_ends_now_whatever_the_agents_clock_says(rig: LogRig) -> None:
    await rig.tunnel("c1")
    rig.move(20)
    await rig.report(ended("c1", *EXITED, at=EPOCH + 5000))
    assert (await rig.row("c1"))["duration_s"] == 20.0


@pytest.mark.parametrize(
    ("said", "duration"), [(EPOCH + 7, 7.0), (EPOCH - 100, 0.0)], ids=["between", "before"]
)
async def test_a_report_from_the_journal_ends_when_the_agent_says_within_reason(
    rig: LogRig, said: float, duration: float
) -> None:
    await rig.tunnel("c1")
    rig.move(100)
    back = Reporter(vantage=AGENT, since=EPOCH + 99, workspace_id=rig.dev)
    await rig.report(ended("c1", *EXITED, at=said), by=back)
    assert (await rig.row("c1"))["duration_s"] == duration


async def test_where_our_relay_saw_the_end_its_clock_counts(rig: LogRig) -> None:
    await rig.tunnel("c1")
    rig.move(30)
    await rig.log.carrier_ended(C1, ending(AGENT_EOF))
    rig.move(5)
    back = Reporter(vantage=AGENT, since=EPOCH + 34, workspace_id=rig.dev)
    await rig.report(ended("c1", AGENT_DIED, at=EPOCH + 2), by=back)
    assert (await rig.row("c1"))["duration_s"] == 30.0


async def test_the_relays_bytes_stand_until_the_agent_counts_them(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.log.carrier_ended(C1, ending(CLIENT_EOF, rx=10, tx=20))
    row = await rig.row("c1")
    assert (row["rx_bytes"], row["tx_bytes"]) == (10, 20)
    await rig.report(ended("c1", CLIENT_EOF, rx_bytes=8, tx_bytes=18))
    row = await rig.row("c1")
    assert (row["rx_bytes"], row["tx_bytes"]) == (8, 18)


async def test_a_post_mortem_without_bytes_keeps_the_relays(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(ended("c1", AGENT_DIED))
    await rig.log.carrier_ended(C1, ending(AGENT_EOF, rx=10, tx=20))
    row = await rig.row("c1")
    assert (row["rx_bytes"], row["tx_bytes"]) == (10, 20)


# -- closing without the agent, and revisions ---------------------------------------------------


async def test_the_end_of_a_carrier_ends_no_tunnel(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.log.carrier_ended(C1, ending(AGENT_EOF))
    assert (await rig.row("c1"))["status"] == "ongoing"


async def test_a_row_that_nobody_reports_is_closed_with_what_is_on_file(rig: LogRig) -> None:
    await rig.tunnel("c1")
    rig.move(60)
    await rig.log.carrier_ended(C1, ending(AGENT_EOF))
    rig.move(15)
    gone = ev.NeverReturned(vantage=SERVER, at=EPOCH, party=Party.AGENT, waited_s=15.0)
    await rig.log.close_tunnel("c1", (gone,))
    row = await rig.row("c1")
    assert (row["disconnect_cause"], row["duration_s"]) == ("agent.vanished", 60.0)
    assert [one["kind"] for one in row["evidence"]] == ["stream_ended", "never_returned"]


async def test_a_closed_row_is_not_closed_again(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(ended("c1", *EXITED))
    before = await rig.row("c1")
    gone = ev.NeverReturned(vantage=SERVER, at=EPOCH, party=Party.AGENT, waited_s=15.0)
    await rig.log.close_tunnel("c1", (gone,))
    assert await rig.row("c1") == before


async def test_later_evidence_revises_the_row_and_keeps_what_it_said(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.log.carrier_ended(C1, ending(AGENT_EOF))
    await rig.log.close_tunnel("c1", ())
    rig.move(50)
    await rig.report(ended("c1", AGENT_DIED))
    row = await rig.row("c1")
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
    assert rig.count(disconnects, **labels) == 1
    assert rig.count("tether_attribution_revisions_total") == 1


async def test_an_end_that_nobody_can_explain_is_counted_by_what_it_joined(rig: LogRig) -> None:
    kinds = [str(kind) for kind in ConnectType]
    unknown = "tether_attribution_unknown_total"
    series = [
        rig.metrics.registry.get_sample_value(unknown, {"connect_type": kind}) for kind in kinds
    ]
    assert series == [0.0] * len(kinds)
    await rig.tunnel("c1")
    await rig.tunnel("c2")
    await rig.control("k1")
    await rig.log.close_tunnel("c1", ())
    await rig.log.close_tunnel("c2", (CLIENT_EOF,))
    await rig.log.close_control("k1", (), ())
    assert {kind: rig.count(unknown, connect_type=kind) for kind in kinds} == {
        "agent_to_client": 1,
        "server_to_agent": 1,
        "client_to_server": 0,
    }
    labels = {"reason": "unknown", "initiator": "", "expected": "false"}
    ends = rig.count("tether_disconnects_total", connect_type="agent_to_client", **labels)
    assert ends == 1


async def test_an_unknown_end_that_is_explained_later_was_counted_all_the_same(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    await rig.log.close_tunnel("c1", ())
    await rig.report(ended("c1", *EXITED))
    assert (await rig.row("c1"))["disconnect_cause"] == "session.exit"
    assert rig.count("tether_attribution_unknown_total", connect_type="agent_to_client") == 1
    assert rig.count("tether_attribution_revisions_total") == 1


async def test_more_evidence_for_the_same_end_is_no_revision(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(ended("c1", *EXITED))
    with capture_logs() as lines:
        await rig.log.carrier_ended(C1, ending(CLIENT_EOF))
        closed = ev.LocalSideClosed(vantage=CLIENT, at=EPOCH)
        await rig.report(ended("c1", closed), by=rig.client(), journal_id="x", first_seq=1)
    row = await rig.row("c1")
    assert (row["revision"], len(row["evidence"]), lines) == (1, len(EXITED) + 2, [])
    assert rig.left == []


async def test_an_agent_that_is_back_without_its_journal_closes_what_it_forgot(
    rig: LogRig,
) -> None:
    for connection_id in ("c1", "c2", "c3"):
        await rig.tunnel(connection_id)
    await rig.tunnel("c4", journal_id="another")
    await rig.grant("c5")
    await rig.log.reconcile(rig.dev, JOURNAL, {"c1"}, lambda c: c == "c2")
    status = {row["id"]: row["status"] for row in await rig.read.connections()}
    assert status == {"c1": "ongoing", "c2": "ongoing", "c3": "closed", "c4": "ongoing"}
    (fact,) = (await rig.row("c3"))["evidence"]
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
    rig: LogRig, bye: ev.Evidence
) -> None:
    await rig.tunnel("c1")
    await rig.report(ended("c1", bye), by=rig.client(), journal_id="x", first_seq=1)
    assert rig.left == ["c1"]
    assert (await rig.row("c1"))["status"] == "ongoing"


async def test_who_left_is_known_with_the_cause_they_gave_whether_the_row_is_closed_or_not(
    rig: LogRig,
) -> None:
    bye = ev.GoodbyeSaid(vantage=CLIENT, at=EPOCH, by=Party.CLIENT, cause="client.killed")
    words: dict[str, Evidence] = {
        "c1": bye,
        "c2": ev.LocalSideClosed(vantage=CLIENT, at=EPOCH),
        "c3": ev.StreamEnded(vantage=CLIENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.RESET),
    }
    for number, (connection_id, word) in enumerate(words.items(), 1):
        await rig.tunnel(connection_id)
        reported = ended(connection_id, word)
        await rig.report(reported, by=rig.client(), journal_id="x", first_seq=number)
    await rig.tunnel("c4")
    await rig.log.close_tunnel("c1", ())
    left = await rig.log.left_by_clients(["c1", "c2", "c3", "c4", "never heard of"])
    assert {row.connection_id: cause for row, cause in left} == {
        "c1": "client.killed",
        "c2": "client.closed",
    }


async def test_a_post_mortem_of_a_client_says_that_it_left_and_why(rig: LogRig) -> None:
    await rig.tunnel("c1")
    died = ev.PreviousRunDied(vantage=CLIENT, at=EPOCH, party=Party.CLIENT, host_rebooted=True)
    await rig.report(ended("c1", died), by=rig.client(), journal_id="x", first_seq=1)
    assert rig.left == ["c1"]
    ((row, cause),) = await rig.log.left_by_clients(["c1"])
    assert (row.connection_id, cause) == ("c1", "client.host_rebooted")


# -- an agent that was only away ------------------------------------------------------------------

NEVER = ev.NeverReturned(vantage=SERVER, at=EPOCH, party=Party.AGENT, waited_s=15.0)


async def returns(rig: LogRig, *serving: str, run: str = "run-1") -> dict[str, Any]:
    """The agent's run comes back and serves these; the row then."""
    await rig.log.reopen(JOURNAL, run, serving)
    return await rig.row("c1")


async def test_a_tunnel_that_was_taken_for_lost_with_its_agent_goes_on_when_it_comes_back(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1", agent_instance="run-1")
    await rig.log.close_tunnel("c1", (NEVER,))
    assert rig.count("tether_connections_open") == 0
    rig.move(20)
    row = await returns(rig, "c1")
    assert (row["status"], row["disconnect_cause"], row["disconnected_at"]) == (
        "ongoing",
        None,
        None,
    )
    assert [(one["rule"], one["disconnect_cause"]) for one in row["revisions"]] == [
        ("agent-never-returned", "agent.vanished"),
        ("reopened", "agent.vanished"),
    ]
    assert rig.count("tether_connections_open") == 1
    await rig.report(ended("c1", *EXITED))
    row = await rig.row("c1")
    assert (row["status"], row["disconnect_cause"]) == ("closed", "session.exit")
    assert row["revision"] == 3


async def test_what_was_concluded_from_an_absence_does_not_explain_a_later_end(rig: LogRig) -> None:
    await rig.tunnel("c1", agent_instance="run-1")
    await rig.log.close_tunnel("c1", (NEVER,))
    await returns(rig, "c1")
    await rig.report(ended("c1", LOGGED_IN, CLIENT_EOF))
    other = await rig.tunnel("c2")
    await rig.report(ended(other, LOGGED_IN, CLIENT_EOF))
    assert (await rig.row("c1"))["disconnect_cause"] == (await rig.row(other))["disconnect_cause"]


@pytest.mark.parametrize(
    ("serving", "run"),
    [((), "run-1"), (("c1",), "run-2"), (("c2", "never heard of"), "run-1")],
    ids=["not served", "another run", "others"],
)
async def test_a_tunnel_that_the_run_does_not_serve_stays_closed(
    serving: tuple[str, ...], run: str, rig: LogRig
) -> None:
    await rig.tunnel("c1", agent_instance="run-1")
    await rig.log.close_tunnel("c1", (NEVER,))
    assert (await returns(rig, *serving, run=run))["status"] == "closed"


async def test_an_end_that_somebody_reported_or_decided_is_not_withdrawn(rig: LogRig) -> None:
    stop = ev.GoodbyeSaid(
        vantage=SERVER, at=EPOCH, by=Party.SERVER, cause="workspace.stopped", actor="user:bob"
    )
    await rig.tunnel("c1", agent_instance="run-1")
    await rig.log.close_tunnel("c1", (stop,))
    await rig.tunnel("c2", agent_instance="run-1")
    await rig.report(ended("c2", *EXITED))
    await rig.tunnel("c3", agent_instance="run-1")
    bye = ev.LocalSideClosed(vantage=CLIENT, at=EPOCH)
    await rig.report(ended("c3", bye), by=rig.client(), journal_id="x", first_seq=1)
    await rig.log.close_tunnel("c3", (NEVER,))
    await rig.tunnel("c4", agent_instance="run-1")  # its client gave its agent up, and is gone
    silence = ev.StreamEnded(vantage=CLIENT, at=EPOCH, peer=Party.AGENT, how=StreamEnd.SILENT)
    await rig.report(ended("c4", silence), by=rig.client(), journal_id="x", first_seq=2)
    await rig.log.close_tunnel("c4", (NEVER,))
    await returns(rig, "c1", "c2", "c3", "c4")
    assert {row["status"] for row in await rig.read.connections()} == {"closed"}


async def test_a_client_that_was_merely_cut_off_has_not_left(rig: LogRig) -> None:
    await rig.tunnel("c1")
    cut = ev.StreamEnded(vantage=CLIENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.RESET)
    await rig.report(ended("c1", cut), by=rig.client(), journal_id="x", first_seq=1)
    assert rig.left == []


# -- carriers and the way -----------------------------------------------------------------------


def path(event: str, carrier: int = 1, at: float = EPOCH, **more: Any) -> PathRecord:
    kept = {"method": "derp", "where": "fra", **more}
    return PathRecord(connection_id="c1", at=at, event=event, carrier=carrier, **kept)


async def the_way(rig: LogRig) -> tuple[Any, ...]:
    row = await rig.row("c1")
    return row["status"], row["connection_method"], row["detached_since"], row["sentence"][:11]


async def test_a_detached_tunnel_is_ongoing_and_says_since_when(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(path("used"))
    rig.move(7)
    await rig.report(path("detached", peer="client", how="silent"))
    assert await the_way(rig) == ("ongoing", "derp", "2027-01-15T08:00:07.000Z", "No way betw")
    rig.move(5)
    await rig.report(
        path("resumed", 2, method="direct", where="10.0.0.1:7", gap_s=5.0, resent_bytes=9)
    )
    assert await the_way(rig) == ("ongoing", "direct", None, "The connect")
    row = await rig.row("c1")
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


async def test_a_lost_standby_changes_nothing_but_the_history(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(path("used", 2, method="direct"), path("lost", 1, how="eof"))
    assert await the_way(rig) == ("ongoing", "direct", None, "The connect")


async def test_the_end_of_the_carrier_in_use_is_a_detachment_before_the_agent_says_so(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    rig.move(3)
    await rig.log.carrier_ended(C1, ending(AGENT_EOF))
    assert await the_way(rig) == ("ongoing", "derp", "2027-01-15T08:00:03.000Z", "No way betw")


async def test_the_end_of_a_carrier_that_was_left_is_no_detachment(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(path("used", 2))
    await rig.log.carrier_ended(C1, ending(CLIENT_EOF))
    assert (await the_way(rig))[2] is None


async def test_words_of_a_newer_agent_are_kept_and_change_nothing(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(path("teleported", method="wormhole"), path("used", 2, method="wormhole"))
    assert await the_way(rig) == ("ongoing", "derp", None, "The connect")
    assert [one["event"] for one in (await rig.row("c1"))["path_events"]] == [
        "teleported",
        "used",
    ]


@pytest.mark.parametrize("wrong", [{"carrier": 0}, {"carrier": 1 << 40}, {"gap_s": -1.0}])
async def test_a_path_event_that_makes_no_sense_is_refused(
    rig: LogRig, wrong: dict[str, Any]
) -> None:
    await rig.tunnel("c1")
    await rig.report(path("used", **wrong))
    assert (await rig.row("c1"))["path_events"] == []


async def test_the_history_of_a_way_is_bounded_and_counted(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(*(path("used", number) for number in range(1, 301)))
    row = await rig.row("c1")
    kept = [one["carrier"] for one in row["path_events"]]
    assert kept == [*range(1, 21), *range(121, 301)]
    assert row["path_events_total"] == 300


async def test_a_tunnel_is_not_judged_by_carriers_that_it_outlived(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.log.carrier_ended(C1, ending(AGENT_EOF))
    await rig.report(path("detached"), path("resumed", 2, gap_s=1.0))
    await rig.log.carrier_ended(CarrierId("c1", 2), ending(CLIENT_EOF))
    await rig.log.close_tunnel("c1", ())
    row = await rig.row("c1")
    assert row["disconnect_cause"] == "client.vanished"
    told = [(one["values"]["peer"], one["outlived"]) for one in row["evidence"]]
    assert told == [("agent", True), ("client", False)]


async def test_a_relay_that_left_as_planned_is_not_why_an_agent_never_came_back(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    left = ev.GoodbyeSaid(vantage=RELAY, at=EPOCH, by=Party.RELAY, cause="relay.shutdown")
    await rig.log.carrier_ended(C1, ending(left))
    gone = ev.NeverReturned(vantage=SERVER, at=EPOCH, party=Party.AGENT, waited_s=15.0)
    await rig.log.close_tunnel("c1", (gone,))
    row = await rig.row("c1")
    assert row["disconnect_cause"] == "agent.vanished"
    assert [one["kind"] for one in row["evidence"]] == ["goodbye_said", "never_returned"]


async def test_a_relay_that_left_as_planned_is_said_where_nothing_else_is_known(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    left = ev.GoodbyeSaid(vantage=RELAY, at=EPOCH, by=Party.RELAY, cause="relay.shutdown")
    await rig.log.carrier_ended(C1, ending(left))
    await rig.log.close_tunnel("c1", ())
    assert (await rig.row("c1"))["disconnect_cause"] == "relay.shutdown"


async def test_an_agent_that_died_may_have_gone_over_to_a_later_carrier(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(path("used"))
    await rig.log.carrier_ended(CarrierId("c1", 2), ending(AGENT_EOF))
    await rig.log.close_tunnel("c1", ())
    assert (await rig.row("c1"))["disconnect_cause"] == "agent.vanished"


async def test_of_many_carriers_the_last_ones_stay_on_file(rig: LogRig) -> None:
    await rig.tunnel("c1")
    for number in range(1, MAX_TESTIMONIES + 5):
        await rig.log.carrier_ended(CarrierId("c1", number), ending(CLIENT_EOF))
    await rig.report(path("used", MAX_TESTIMONIES + 5))
    last = ev.StreamEnded(vantage=RELAY, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.RESET)
    await rig.log.carrier_ended(CarrierId("c1", MAX_TESTIMONIES + 5), ending(last))
    evidence = (await rig.row("c1"))["evidence"]
    assert len(evidence) == MAX_TESTIMONIES
    assert evidence[-1]["values"]["how"] == "reset"


async def test_a_relay_that_says_it_again_is_heard_once(rig: LogRig) -> None:
    await rig.tunnel("c1")
    for _ in range(2):
        await rig.log.carrier_ended(C1, ending(CLIENT_EOF, rx=10, tx=20))
    row = await rig.row("c1")
    assert (len(row["evidence"]), row["rx_bytes"], row["tx_bytes"]) == (1, 10, 20)


async def test_the_bytes_of_carriers_add_up_until_the_agent_counts_them(rig: LogRig) -> None:
    await rig.tunnel("c1")
    for number in (1, 2):
        await rig.log.carrier_ended(CarrierId("c1", number), ending(CLIENT_EOF, rx=10, tx=20))
    row = await rig.row("c1")
    assert (row["rx_bytes"], row["tx_bytes"]) == (20, 40)


# -- runs of the server -------------------------------------------------------------------------


async def test_a_server_that_died_says_so_of_its_links_and_waits_for_the_agents(
    rig: LogRig,
) -> None:
    await rig.control("c1")
    await rig.tunnel("c2")
    rig.move(5)
    await rig.log.beat("run-1")
    rig.move(100)
    previous = await rig.log.start_run("run-2", booted_at=EPOCH - 1000)
    assert (previous.died, previous.last_alive_at) == (True, EPOCH + 5)
    assert [tunnel.connection_id for tunnel in previous.tunnels] == ["c2"]
    control, tunnel = await rig.row("c1"), await rig.row("c2")
    assert (control["disconnect_cause"], control["duration_s"]) == ("server.crashed", 5.0)
    assert (tunnel["status"], tunnel["evidence"]) == ("ongoing", [])
    (death,) = previous.death
    assert isinstance(death, ev.PreviousRunDied)
    assert death.host_rebooted is False


async def test_agents_that_had_fallen_silent_before_a_restart_are_known(rig: LogRig) -> None:
    for journal_id, how in (("asleep", StreamEnd.SILENT), ("dead", StreamEnd.EOF)):
        await rig.tunnel(f"c-{journal_id}", journal_id=journal_id)
        await rig.control(f"l-{journal_id}", journal_id=journal_id)
        lost = ev.StreamEnded(vantage=SERVER, at=EPOCH, peer=Party.AGENT, how=how)
        await rig.log.close_control(f"l-{journal_id}", (lost,), ())
    assert (await rig.log.start_run("run-2", booted_at=None)).silent == {"asleep"}


async def test_a_row_that_began_after_the_last_beat_lasts_no_less_than_nothing(
    rig: LogRig,
) -> None:
    rig.move(3)
    await rig.control("c1")
    await rig.log.start_run("run-2", booted_at=EPOCH + 50)
    row = await rig.row("c1")
    assert row["duration_s"] == 0.0
    assert row["evidence"][0]["values"]["host_rebooted"] is True


async def test_after_a_clean_stop_nobody_died(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.control("c2")
    await rig.log.end_run("run-1")
    previous = await rig.log.start_run("run-2", booted_at=None)
    assert (previous.died, [one.connection_id for one in previous.tunnels]) == (False, ["c1"])
    assert (await rig.row("c1"))["evidence"] == []
    assert (await rig.row("c2"))["disconnect_cause"] == "unknown"


async def test_a_tunnel_of_a_dead_server_is_told_by_its_agent(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.log.start_run("run-2", booted_at=None)
    lost = ev.StreamEnded(vantage=AGENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.EOF)
    await rig.report(ended("c1", LOGGED_IN, lost))
    row = await rig.row("c1")
    assert (row["disconnect_cause"], row["revision"]) == ("relay.crashed", 1)


# -- looking ------------------------------------------------------------------------------------


async def test_the_list_is_newest_first_and_limited(rig: LogRig) -> None:
    for number in range(4):
        await rig.tunnel(f"c{number}")
    assert await rig.ids(limit=3) == ["c3", "c2", "c1"]


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
        ({"lived_until": EPOCH + 5}, ["c1"]),
        ({"lived_since": EPOCH + 15}, ["c3", "c2"]),
        ({"lived_since": EPOCH + 3, "lived_until": EPOCH + 15}, ["c2"]),
    ],
    ids=str,
)
async def test_each_filter_selects(
    rig: LogRig, filters: dict[str, Any], expected: list[str]
) -> None:
    await rig.tunnel("c1")
    await rig.report(session("s1", "sftp"), ended("c1", *EXITED, at=EPOCH + 2))
    rig.move(10)
    await rig.tunnel("c2", "bob", workspace_id=rig.other, workspace="other")
    rig.move(10)
    elsewhere = Reporter(vantage=AGENT, since=EPOCH, workspace_id=rig.other)
    await rig.report(ended("c2", CLIENT_EOF), by=elsewhere)
    await rig.tunnel("c3")
    assert await rig.ids(**filters) == expected


async def test_members_see_their_workspaces_and_their_own_connections(rig: LogRig) -> None:
    await rig.tunnel("c1", "alice")
    await rig.tunnel("c2", "bob", workspace_id=rig.other, workspace="other")
    await rig.tunnel("c3", "alice", workspace_id=rig.other, workspace="other")
    await rig.control("c4")
    assert await rig.ids(ALICE) == ["c4", "c3", "c1"]
    assert await rig.ids(BOB) == ["c3", "c2"]
    assert await rig.ids(ADMIN) == ["c4", "c3", "c2", "c1"]
    with pytest.raises(NotFound):
        await rig.read.explain("c1", BOB)


async def test_a_unique_prefix_is_enough(rig: LogRig) -> None:
    first, second = "ab" + "0" * 30, "ac" + "0" * 30
    await rig.tunnel(first)
    await rig.tunnel(second)
    assert (await rig.row("ab"))["id"] == first
    with pytest.raises(Ambiguous):
        await rig.row("a")
    for nothing in ("ad", "", "a%", "x' OR 1=1", "a" * 33, "ab" + "0" * 30 + "0"):
        with pytest.raises(NotFound):
            await rig.row(nothing)


async def test_a_prefix_is_ambiguous_only_among_what_the_viewer_sees(rig: LogRig) -> None:
    await rig.tunnel("ab", "alice")
    await rig.tunnel("ac", "bob", workspace_id=rig.other, workspace="other")
    assert (await rig.read.explain("a", ALICE))["id"] == "ab"


async def test_an_explained_row_has_words_and_its_evidence(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(
        ended("c1", *EXITED, symptoms=records_of((CLIENT_EOF,))),
    )
    row = await rig.row("c1")
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
        "hearsay": False,
    }
    assert [one["kind"] for one in row["symptoms"]] == ["stream_ended"]


async def test_how_an_agent_left_is_remembered_in_one_sentence(rig: LogRig) -> None:
    assert await rig.log.last_agent_end(rig.dev) == ""
    await rig.control("c1")
    said = ev.GoodbyeSaid(
        vantage=SERVER, at=EPOCH, by=Party.AGENT, cause="agent.shutdown", actor="signal:15"
    )
    await rig.log.close_control("c1", (said,), ())
    assert await rig.log.last_agent_end(rig.dev) == (
        "The workspace's agent was asked to stop (signal 15) and ended its sessions in order."
    )


# -- waiting ------------------------------------------------------------------------------------


async def test_waiting_ends_with_the_last_close(rig: LogRig) -> None:
    for connection_id in ("c1", "c2"):
        await rig.tunnel(connection_id)
    waiting = asyncio.get_running_loop().create_task(
        rig.log.wait_closed(["c1", "c2", "no-such"], 5.0)
    )
    await rig.report(ended("c1", *EXITED))
    assert not waiting.done()
    await rig.report(ended("c2", *EXITED))
    assert await waiting == set()


async def test_waiting_for_what_is_closed_returns_at_once(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(ended("c1", *EXITED))
    assert await rig.log.wait_closed(["c1"], 0.0) == set()
    assert await rig.log.wait_closed([], 0.0) == set()


async def test_waiting_has_an_end_and_says_what_is_left(rig: LogRig) -> None:
    await rig.tunnel("c1")
    assert await rig.log.wait_closed(["c1"], 0.01) == {"c1"}


async def test_the_number_of_open_connections_is_kept(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.control("c2")
    await rig.grant("c3")
    assert rig.count("tether_connections_open") == 3
    await rig.report(ended("c1", *EXITED))
    rig.move(PENDING_LIFE_S + 1)
    await rig.log.forget_unused(lambda _id: False)
    assert rig.count("tether_connections_open") == 1
    await rig.log.start_run("run-2", booted_at=None)
    assert rig.count("tether_connections_open") == 0


async def test_what_is_learned_of_a_link_that_is_over_revises_its_end(rig: LogRig) -> None:
    await rig.control("aa")
    reset = ev.StreamEnded(
        vantage=Vantage.SERVER, at=EPOCH, peer=Party.AGENT, how=StreamEnd.RESET, idle_s=12.2
    )
    await rig.log.close_control("aa", (reset,), ())
    first = (await rig.row("aa"))["disconnect_cause"]
    again = ev.CutWhenIdle(vantage=Vantage.SERVER, at=EPOCH, party=Party.AGENT, cuts=2, idle_s=12.2)
    await rig.log.learned("aa", again)
    assert (first, (await rig.row("aa"))["disconnect_cause"]) == (
        "agent.vanished",
        "network.idle_timeout",
    )


async def test_large_packets_that_were_lost_are_told_by_the_counters_of_both_ends(
    rig: LogRig,
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
    await rig.control("aa")
    at_server = ev.StreamEnded(vantage=Vantage.SERVER, peer=Party.AGENT, **silent)
    at_agent = ev.StreamEnded(vantage=Vantage.AGENT, peer=Party.SERVER, **silent)
    await rig.log.close_control("aa", (stuck, at_server), ())
    await rig.report(ended("aa", waiting, at_agent))
    assert (await rig.row("aa"))["disconnect_cause"] == "network.mtu_black_hole"


def test_a_goodbye_with_a_long_detail_is_cut_and_not_dropped() -> None:
    said = ev.GoodbyeSaid(
        vantage=Vantage.SERVER,
        at=EPOCH,
        by=Party.SERVER,
        cause="auth.user_revoked",
        detail="x" * 9000,
    )
    (kept,) = testimonies._storable([said])
    assert (kept["kind"], kept["values"]["cause"]) == ("goodbye_said", "auth.user_revoked")
    assert kept["values"]["detail"] == "x" * 2048
