"""What ran over a connection: IDE sessions, forwarded connections and file operations, on file once."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.clock import EPOCH
from tests.support.server.log_rig import (
    AGENT_DIED,
    AGENT_EOF,
    ALICE,
    BOB,
    CLIENT_EOF,
    EXITED,
    LOGGED_IN,
    LogRig,
    ended,
    ending,
    session,
)
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, Vantage
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.base import records_of
from tether.protocol.messages.reports import (
    FileOperation,
    FileOperations,
    ForwardRecord,
    ForwardRollup,
    IdeChannel,
    IdeSessionRecord,
)
from tether.server.connlog import activity, ide_rows
from tether.server.connlog.ingest import Reporter
from tether.server.errors import NotFound

pytestmark = pytest.mark.anyio

IDE, OTHER_IDE = "1d" * 16, "2d" * 16
RUN = {"agent_instance": "run-a"}
CLOSED = ev.IdeChannelsClosed(
    vantage=Vantage.AGENT, at=EPOCH, by=Party.CLIENT, backend_running=True
)
KILLED = ev.IdeBackendGone(vantage=Vantage.AGENT, at=EPOCH, pid=77, exit_signal="KILL")


def ide(*facts: Evidence, lasted: float | None = None, **more: Any) -> IdeSessionRecord:
    given: dict[str, Any] = {
        "session_id": IDE,
        "connection_id": "c1",
        "session_type": "jetbrains",
        "backend_pid": 77,
        "backend_marker": "remote-dev-server",
        "started_at": EPOCH,
        "ended_at": None if lasted is None else EPOCH + lasted,
        "facts": records_of(facts),
    }
    return IdeSessionRecord(**{**given, **more})


def forward(number: int = 1, *, over: str = "", **more: Any) -> ForwardRecord:
    given: dict[str, Any] = {
        "connection_id": "c1",
        "forward_id": number,
        "kind": "direct_tcpip",
        "destination": "127.0.0.1:8080",
        "started_at": EPOCH,
        "ended_at": EPOCH + 2 if over else None,
        "duration_s": 2.0 if over else 0.0,
        "end": over,
    }
    return ForwardRecord(**{**given, **more})


def rollup(destination: str = "127.0.0.1:80", **more: Any) -> ForwardRollup:
    given: dict[str, Any] = {
        "connection_id": "c1",
        "kind": "direct_tcpip",
        "destination": destination,
        "since": EPOCH,
        "until": EPOCH + 60,
        "started": 5,
        "ended": 4,
        "ends": {"client_closed": 3, "workspace_reset": 1},
        "rx_bytes": 10,
        "tx_bytes": 20,
        "longest_s": 1.5,
    }
    return ForwardRollup(**{**given, **more})


def files(*paths: str, **more: Any) -> FileOperations:
    given: dict[str, Any] = {
        "connection_id": "c1",
        "session_id": "s1",
        "program": "sftp",
        "operations": [FileOperation(act="create", path=path, first_at=EPOCH) for path in paths],
    }
    return FileOperations(**{**given, **more})


# -- IDE sessions -------------------------------------------------------------------------------


async def test_an_ide_session_is_a_row_of_its_own_under_its_connection(rig: LogRig) -> None:
    await rig.tunnel("c1", **RUN)
    rig.move(5)
    assert await rig.report(ide()) == 1
    row = await rig.row(IDE)
    assert (row["status"], row["type"], row["parent_id"]) == ("ongoing", "jetbrains", "c1")
    told = {"connect_type", "workspace", "user", "client_ip", "connection_method"}
    parent = await rig.row("c1")
    assert {name: row[name] for name in told} == {name: parent[name] for name in told}
    assert row["connected_at"] == "2027-01-15T08:00:05.000Z"
    assert [child["connection_id"] for child in parent["children"]] == [IDE]
    assert await rig.ids() == [IDE, "c1"]


async def test_the_end_of_an_ide_session_is_judged_from_its_own_facts_and_logged_once(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    channel = IdeChannel(
        connection_id="c1",
        destination="127.0.0.1:5990",
        started_at=EPOCH,
        ended_at=EPOCH + 9,
        end="workspace_reset",
        rx_bytes=3,
        tx_bytes=4,
    )
    over = ide(KILLED, lasted=9.0, channels=[channel], channels_total=2, rx_bytes=3, tx_bytes=4)
    with capture_logs() as lines:
        await rig.report(ide())
        rig.move(30)
        await rig.report(over)
    assert [line["event"] for line in lines] == ["connection opened", "connection closed"]
    assert {line["parent_id"] for line in lines} == {"c1"}
    row = await rig.row(IDE)
    assert (row["disconnect_cause"], row["exit_signal"]) == ("ide.backend_killed", "KILL")
    assert (row["duration_s"], row["rx_bytes"], row["tx_bytes"]) == (9.0, 3, 4)
    assert row["ide"] == {
        "backend_pid": 77,
        "backend_marker": "remote-dev-server",
        "caused_by": None,
        "channels": [
            {
                "connection_id": "c1",
                "destination": "127.0.0.1:5990",
                "started_at": "2027-01-15T08:00:00.000Z",
                "ended_at": "2027-01-15T08:00:09.000Z",
                "end": "workspace_reset",
                "rx_bytes": 3,
                "tx_bytes": 4,
            }
        ],
        "channels_total": 2,
    }
    assert (await rig.row("c1"))["status"] == "ongoing"


async def test_an_ide_session_that_is_sent_again_changes_nothing(rig: LogRig) -> None:
    await rig.tunnel("c1")
    items = (ide(), ide(CLOSED, lasted=1.0))
    await rig.report(*items)
    before = await rig.row(IDE)
    with capture_logs() as lines:
        await rig.report(*items, first_seq=1)
    assert (await rig.row(IDE), lines) == (before, [])


async def test_an_ide_session_that_is_only_reported_at_its_end_is_opened_and_closed(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    rig.move(20)
    with capture_logs() as lines:
        await rig.report(ide(CLOSED, lasted=8.0))
    assert [line["event"] for line in lines] == ["connection opened", "connection closed"]
    row = await rig.row(IDE)
    assert (row["disconnect_cause"], row["duration_s"]) == ("ide.closed", 8.0)
    assert row["disconnected_at"] == "2027-01-15T08:00:20.000Z"


async def test_the_gauge_of_open_connections_counts_ide_sessions(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(ide())
    assert rig.count("tether_connections_open") == 2
    await rig.report(ide(CLOSED, lasted=1.0))
    assert rig.count("tether_connections_open") == 1


@pytest.mark.parametrize(
    "item",
    [
        ide(session_id="no-uuid"),
        ide(session_id="C1" * 16),
        ide(started_at=float("nan")),
        ide(started_at=1e300),
        ide(backend_pid=-1),
        ide(caused_by="x" * 65),
        ide(connection_id="c2"),
        ide(connection_id=OTHER_IDE),
        ide(
            channels=[
                IdeChannel(
                    connection_id="c1", destination="x", started_at=-1.0, ended_at=1e99, end="x"
                )
            ]
        ),
    ],
)
async def test_an_ide_session_without_sense_is_refused_and_leaves_no_trace(
    rig: LogRig, item: IdeSessionRecord
) -> None:
    await rig.tunnel("c1")
    await rig.grant("c2")
    await rig.report(ide(session_id=OTHER_IDE))
    assert await rig.report(item) == 2
    assert rig.count("tether_reports_total", outcome="refused") == 1
    assert await rig.ids() == [OTHER_IDE, "c1"]


async def test_nobody_writes_over_another_row_by_naming_it_an_ide_session(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.tunnel("c2")
    await rig.tunnel("a" * 32, "bob")
    await rig.report(ide())
    await rig.report(
        ide(CLOSED, lasted=1.0, connection_id="c2"),
        ide(CLOSED, lasted=1.0, session_id="a" * 32),
    )
    assert rig.count("tether_reports_total", outcome="refused") == 2
    assert (await rig.row(IDE))["status"] == "ongoing"
    assert (await rig.row("a" * 32))["status"] == "ongoing"


async def test_what_was_not_granted_to_an_agent_gets_no_contents(rig: LogRig) -> None:
    await rig.tunnel("c1")
    stranger = Reporter(vantage=Vantage.AGENT, since=EPOCH, workspace_id=rig.other)
    items = (ide(), forward(), rollup(), files("/a"))
    await rig.report(*items, by=stranger)
    await rig.report(*items, by=rig.client(), journal_id="laptop", first_seq=1)
    assert rig.count("tether_reports_total", outcome="refused") == 8
    row = await rig.row("c1")
    assert (row["children"], row["forwards"], row["file_operations"]) == ([], [], [])


async def test_nothing_runs_over_an_ide_session(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(ide())
    await rig.report(forward(connection_id=IDE), ide(connection_id=IDE, session_id=OTHER_IDE))
    assert rig.count("tether_reports_total", outcome="refused") == 2


async def test_an_ide_session_may_outlive_the_connection_that_it_began_on(rig: LogRig) -> None:
    await rig.tunnel("c1", **RUN)
    await rig.tunnel("c2", **RUN)
    await rig.report(ide(), ended("c1", *EXITED))
    rig.move(ide_rows.ORPHAN_AFTER_S + 1)
    await rig.log.close_orphans()
    assert (await rig.row(IDE))["status"] == "ongoing"
    await rig.report(ide(CLOSED, lasted=61.0))
    assert (await rig.row(IDE))["disconnect_cause"] == "ide.closed"


async def test_a_session_whose_end_nobody_reports_ends_with_its_connection(rig: LogRig) -> None:
    await rig.tunnel("c1", **RUN)
    await rig.report(ide(), ended("c1", LOGGED_IN, CLIENT_EOF))
    await rig.log.close_orphans()
    assert (await rig.row(IDE))["status"] == "ongoing"
    rig.move(ide_rows.ORPHAN_AFTER_S)
    await rig.log.close_orphans()
    row, parent = await rig.row(IDE), await rig.row("c1")
    assert row["disconnect_cause"] == parent["disconnect_cause"] == "client.vanished"
    assert row["disconnected_at"] == parent["disconnected_at"]
    assert row["ide"]["caused_by"] == "c1"


async def test_the_exit_status_of_a_session_is_not_that_of_an_ide(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(ide(), ended("c1", *EXITED))
    rig.move(ide_rows.ORPHAN_AFTER_S)
    await rig.log.close_orphans()
    row = await rig.row(IDE)
    assert (row["disconnect_cause"], row["exit_code"]) == ("client.closed", None)


async def test_the_sessions_of_an_agent_that_died_end_with_its_post_mortem(rig: LogRig) -> None:
    await rig.tunnel("c1", **RUN)
    await rig.tunnel("c2", **RUN)
    await rig.report(ide())
    await rig.tunnel("c3", agent_instance="run-b")
    await rig.report(ended("c1", AGENT_DIED))
    assert (await rig.row(IDE))["status"] == "ongoing"  # c2 may still have carried it
    await rig.report(ended("c2", AGENT_DIED))
    assert (await rig.row(IDE))["disconnect_cause"] == "agent.crashed"


async def test_the_sessions_of_an_agent_that_never_returns_end_with_their_connection(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1", **RUN)
    await rig.report(ide())
    await rig.log.carrier_ended(CarrierId("c1"), ending(AGENT_EOF))
    await rig.log.close_tunnel("c1", ())
    assert (await rig.row(IDE))["disconnect_cause"] == "agent.vanished"


async def test_the_report_of_an_orphans_end_revises_it(rig: LogRig) -> None:
    await rig.tunnel("c1", **RUN)
    await rig.report(ide())
    await rig.log.carrier_ended(CarrierId("c1"), ending(AGENT_EOF))
    await rig.log.close_tunnel("c1", ())
    with capture_logs() as lines:
        await rig.report(ide(KILLED, lasted=1.0))
    assert [line["event"] for line in lines] == ["connection revised"]
    assert (await rig.row(IDE))["disconnect_cause"] == "ide.backend_killed"


async def test_a_forgetful_agents_sessions_end_with_their_connections(rig: LogRig) -> None:
    await rig.tunnel("c1", **RUN)
    await rig.report(ide())
    await rig.log.reconcile(rig.dev, "journal-1", (), lambda _id: False)
    assert (await rig.row("c1"))["status"] == (await rig.row(IDE))["status"] == "closed"


async def test_a_new_run_of_the_server_counts_the_sessions_it_inherits(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(ide())
    found = await rig.log.start_run("run-2", booted_at=None)
    assert [tunnel.connection_id for tunnel in found.tunnels] == ["c1"]
    assert found.children == 1
    assert rig.count("tether_connections_open") == 2
    assert [one.connection_id for one in await rig.log.open_tunnels()] == ["c1"]


async def test_how_many_sessions_a_connection_may_have_is_bounded(
    rig: LogRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ide_rows, "MAX_SESSIONS", 1)
    await rig.tunnel("c1")
    await rig.report(ide(), ide(session_id=OTHER_IDE))
    assert await rig.ids() == [IDE, "c1"]


# -- what a connection is for -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "type_"),
    [
        (["ssh", "sftp"], "ssh"),
        (["sftp"], "sftp"),
        (["ssh", "vscode"], "vscode"),
        (["vscode", "ssh"], "vscode"),
        (["jetbrains", "vscode"], "jetbrains"),
    ],
)
async def test_the_most_telling_session_says_what_a_connection_is(
    rig: LogRig, kinds: list[str], type_: str
) -> None:
    await rig.tunnel("c1")
    await rig.report(*(session(f"s{i}", kind) for i, kind in enumerate(kinds)))
    assert (await rig.row("c1"))["type"] == type_


async def test_a_session_that_is_recognised_late_names_the_connection(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(session("s1"))
    await rig.report(session("s1", "vscode", app="cursor", ended_at=EPOCH + 1))
    row = await rig.row("c1")
    assert (row["type"], row["app"]) == ("vscode", "cursor")
    assert [(one["session_type"], one["app"]) for one in row["sessions"]] == [("vscode", "cursor")]
    assert rig.count("tether_sessions_total", app="cursor", family="vscode") == 1


async def test_a_connection_that_only_forwards_is_a_port_forward_until_a_session_comes(
    rig: LogRig,
) -> None:
    await rig.tunnel("c1")
    await rig.report(forward(1, over="refused"), forward(2, kind="agent"))
    assert (await rig.row("c1"))["type"] == "tunnel"
    await rig.report(forward(3))
    assert (await rig.row("c1"))["type"] == "port_forward"
    await rig.report(session("s1"))
    assert (await rig.row("c1"))["type"] == "ssh"


async def test_sessions_are_counted_once_by_a_closed_set_of_names(rig: LogRig) -> None:
    await rig.tunnel("c1")
    end: dict[str, Any] = {"ended_at": EPOCH + 1}
    await rig.report(
        session("s1", "vscode", app="cursor"),
        session("s1", "vscode", app="cursor", **end),
        session("s2", app="made-up", **end),
        session("s3", "vscode", app="vscode"),
        ended("c1", *EXITED),
        session("s3", "vscode", app="vscode", **end),
    )
    counted = {
        (app, family): rig.count("tether_sessions_total", app=app, family=family)
        for app, family in (
            ("cursor", "vscode"),
            ("other", "ssh"),
            ("vscode", "vscode"),
            ("made-up", "ssh"),
        )
    }
    assert list(counted.values()) == [1, 1, 1, 0]


# -- forwarded connections ----------------------------------------------------------------------


async def test_a_forwarded_connection_is_shown_with_its_end(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(forward(1, origin="10.0.0.7:5"))
    (open_,) = (await rig.row("c1"))["forwards"]
    assert (open_["end"], open_["ended_at"], open_["count"]) == ("", None, 1)
    await rig.report(forward(1, over="workspace_reset", rx_bytes=1, tx_bytes=2, detail="RST"))
    assert (await rig.row("c1"))["forwards"] == [
        {
            "forward_id": 1,
            "kind": "direct_tcpip",
            "destination": "127.0.0.1:8080",
            "origin": "10.0.0.7:5",
            "started_at": "2027-01-15T08:00:00.000Z",
            "ended_at": "2027-01-15T08:00:02.000Z",
            "duration_s": 2.0,
            "count": 1,
            "end": "workspace_reset",
            "ends": {"workspace_reset": 1},
            "cause": "",
            "detail": "RST",
            "rx_bytes": 1,
            "tx_bytes": 2,
        }
    ]
    assert await rig.ids() == ["c1"]  # no row of its own


async def test_forwarded_connections_end_with_their_connection(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(forward(1), forward(2, over="client_closed"))
    rig.move(4)
    await rig.report(ended("c1", *EXITED))
    first, second = (await rig.row("c1"))["forwards"]
    assert (first["end"], first["ended_at"]) == ("connection_ended", "2027-01-15T08:00:04.000Z")
    assert second["end"] == "client_closed"
    await rig.report(forward(1, over="client_closed"), forward(3))
    ends = [one["end"] for one in (await rig.row("c1"))["forwards"]]
    assert ends == ["client_closed", "client_closed", "connection_ended"]
    kind = {"kind": "direct_tcpip"}
    assert rig.count("tether_forwards_total", outcome="client_closed", **kind) == 1
    assert rig.count("tether_forwards_total", outcome="connection_ended", **kind) == 2


async def test_roll_ups_add_up_per_kind_and_destination(rig: LogRig) -> None:
    await rig.tunnel("c1")
    later: dict[str, Any] = {"since": EPOCH + 60, "until": EPOCH + 180, "longest_s": 9.0}
    await rig.report(forward(1), rollup(), rollup(**later), rollup("[::1]:80"))
    row = await rig.row("c1")
    assert row["forwards_total"] == 16
    assert row["forwards"][1] == {
        "forward_id": None,
        "kind": "direct_tcpip",
        "destination": "127.0.0.1:80",
        "origin": "",
        "started_at": "2027-01-15T08:00:00.000Z",
        "ended_at": "2027-01-15T08:03:00.000Z",
        "duration_s": 9.0,
        "count": 10,
        "end": "",
        "ends": {"client_closed": 6, "workspace_reset": 2},
        "cause": "",
        "detail": "",
        "rx_bytes": 20,
        "tx_bytes": 40,
    }
    count = rig.count("tether_forwards_total", kind="direct_tcpip", outcome="client_closed")
    assert count == 9


async def test_what_is_kept_of_one_connections_forwards_is_bounded(
    rig: LogRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "MAX_FORWARDS", 1)
    monkeypatch.setattr(activity, "MAX_ROLLUPS", 1)
    await rig.tunnel("c1")
    await rig.report(forward(1), forward(2), forward(1, over="client_closed"))
    await rig.report(rollup(), rollup("b:1"), rollup("c:1"), rollup("d:1", kind="new"))
    kept = (await rig.row("c1"))["forwards"]
    assert [(one["destination"], one["count"]) for one in kept] == [
        ("127.0.0.1:8080", 1),
        ("127.0.0.1:80", 5),
        ("*", 10),
    ]
    assert rig.count("tether_reports_total", outcome="refused") == 2


@pytest.mark.parametrize(
    "item",
    [
        forward(-1),
        forward(1 << 40),
        forward(1, over="x" * 65),
        forward(1, started_at=float("inf")),
        forward(1, duration_s=float("nan")),
        rollup(kind="x" * 65),
        rollup(until=1e300),
        files(session_id=""),
        files(program="x" * 65),
        files(operations=[FileOperation(act="read", path="/", first_at=-1e9)]),
    ],
)
async def test_contents_without_sense_are_refused(rig: LogRig, item: Any) -> None:
    await rig.tunnel("c1")
    assert await rig.report(item) == 1
    assert rig.count("tether_reports_total", outcome="refused") == 1
    assert (await rig.row("c1"))["forwards"] == []


async def test_words_of_a_newer_agent_are_kept_and_counted_as_other(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(forward(1, kind="quic", over="migrated"), rollup(ends={"migrated": 2}))
    alone, many = (await rig.row("c1"))["forwards"]
    assert (alone["kind"], alone["end"], many["ends"]) == ("quic", "migrated", {"failed": 2})
    assert rig.count("tether_forwards_total", kind="other", outcome="other") == 1


async def test_ten_thousand_short_connections_are_one_line(rig: LogRig) -> None:
    await rig.tunnel("c1")
    each: dict[str, Any] = {"started": 1_000, "ended": 1_000, "ends": {"client_closed": 1_000}}
    for _ in range(10):
        await rig.report(rollup(**each))
    row = await rig.row("c1")
    assert (row["forwards_total"], len(row["forwards"])) == (10_000, 1)


# -- file operations ----------------------------------------------------------------------------


async def test_the_file_operations_of_a_session_are_listed_up_to_a_limit(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(files("/a", "/b", left_out=3, complete=False))
    await rig.report(files("/c", session_id="s2"))
    told = await rig.read.files("c1", 1)
    assert told == [
        {
            "session_id": "s1",
            "program": "sftp",
            "operations": [
                {
                    "act": "create",
                    "path": "/a",
                    "target": "",
                    "first_at": "2027-01-15T08:00:00.000Z",
                    "count": 1,
                }
            ],
            "more": True,
            "left_out": 3,
            "complete": False,
        },
        {
            "session_id": "s2",
            "program": "sftp",
            "operations": [],
            "more": True,
            "left_out": 0,
            "complete": True,
        },
    ]
    everything = (await rig.row("c1"))["file_operations"]
    assert [len(one["operations"]) for one in everything] == [2, 1]


async def test_an_audit_is_bounded(rig: LogRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "MAX_OPERATIONS", 2)
    monkeypatch.setattr(activity, "MAX_AUDITS", 1)
    await rig.tunnel("c1")
    await rig.report(files("/a", "/b", "x" * 5000, left_out=1), files("/z", session_id="s2"))
    (kept,) = await rig.read.files("c1", 10)
    assert ([one["path"] for one in kept["operations"]], kept["left_out"]) == (["/a", "/b"], 2)


async def test_contents_are_shown_to_those_who_may_see_the_connection(rig: LogRig) -> None:
    await rig.tunnel("c1")
    await rig.report(forward(1, over="client_closed"), files("/a"))
    assert len(await rig.read.forwards("c1", 10, ALICE)) == 1
    for ask in (rig.read.forwards, rig.read.files):
        with pytest.raises(NotFound):
            await ask("c1", 10, BOB)


async def test_a_grant_that_nobody_used_is_forgotten_with_its_contents(rig: LogRig) -> None:
    await rig.grant("c1")
    await rig.report(forward(1), files("/a"))
    rig.move(1000)
    assert await rig.log.forget_unused(lambda _id: False) == 1
