"""The real connection log behind the real API: what one hands over, the other can show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clock import EPOCH
from tests.support.server.parts import parts
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectionType, ConnectType, Party, StreamEnd, Vantage
from tether.server.api.app import create_api
from tether.server.api.models import ConnectionView, Explained
from tether.server.api.report import ReportView
from tether.server.connlog.records import NewConnection

pytestmark = pytest.mark.anyio

NOW = "2027-01-15T08:00:00.000Z"


async def _calls(tmp_path: Path, *paths: str, method: str = "GET") -> list[Any]:
    """What the API says of a client's control link that ended by EOF, and of one that is open."""
    async with parts(tmp_path) as server:
        token = await server.accounts.bootstrap(tmp_path)
        log = server.connections
        for connection_id in ("a1" * 16, "b2" * 16):
            await log.open(
                NewConnection(
                    connection_id=connection_id,
                    connect_type=ConnectType.CLIENT_TO_SERVER,
                    type=ConnectionType.CONTROL,
                    user="admin",
                    client_ip="10.0.0.9",
                )
            )
        gone = ev.StreamEnded(
            vantage=Vantage.SERVER, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.EOF
        )
        await log.close_control("a1" * 16, [gone], [])
        app = create_api(
            store=server.store,
            accounts=server.accounts,
            workspaces=server.workspaces,
            connections=log,
            hub=server.hub,
            derp_maps=server.derp_maps,
            metrics=server.metrics,
            clock=server.clock,
            version="1.2.3",
        )
        headers = {"Authorization": f"Bearer {token}"}
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://tether.test", headers=headers
        ) as client:
            return [(await client.request(method, f"/api/v1{path}")).json() for path in paths]


async def test_an_open_and_an_ended_connection_are_listed_newest_first(tmp_path: Path) -> None:
    (rows,) = await _calls(tmp_path, "/connections")
    assert [(row["id"], row["status"], row["disconnect_cause"]) for row in rows] == [
        ("b2" * 16, "ongoing", None),
        ("a1" * 16, "closed", "client.vanished"),
    ]
    assert all(set(row) == {*ConnectionView.model_fields, "id"} for row in rows)


async def test_an_end_is_explained_with_its_evidence(tmp_path: Path) -> None:
    ended, still_open = await _calls(tmp_path, "/connections/a1", "/connections/b2")
    assert set(ended) == {*Explained.model_fields, "id"}
    assert ended["sentence"] == (
        "The client's processes were killed or crashed: their connection ended at once, without a"
        " goodbye."
    )
    assert ended["evidence"] == [
        {
            "vantage": "server",
            "reporter": "server",
            "at": NOW,
            "time": NOW,
            "received_at": NOW,
            "kind": "stream_ended",
            "values": ended["evidence"][0]["values"],
            "outlived": False,
            "hearsay": False,
        }
    ]
    (revision,) = ended["revisions"]
    assert (revision["revision"], revision["rule"]) == (1, ended["rule"])
    assert (still_open["status"], still_open["evidence"]) == ("ongoing", [])


async def test_filters_reach_the_record(tmp_path: Path) -> None:
    expected, ongoing, later = await _calls(
        tmp_path,
        "/connections?expected=false&initiator=client&reason=process_crashed&since=1h",
        "/connections?status=ongoing",
        "/connections?until=1h",
    )
    assert [row["id"] for row in expected] == ["a1" * 16]
    assert [row["id"] for row in ongoing] == ["b2" * 16]
    assert later == []


async def test_ends_are_counted_over_the_api(tmp_path: Path) -> None:
    told, none, wrong = await _calls(
        tmp_path, "/report?expected=false", "/report?expected=true", "/report?cause=gremlins"
    )
    assert set(told) == set(ReportView.model_fields)
    assert (told["ends"], told["unexpected"], told["unknown"], none["ends"]) == (1, 1, 0, 0)
    assert told["by"]["cause"] == [
        {
            "value": "client.vanished",
            "title": "The client's processes were killed or crashed",
            "ends": 1,
            "expected": 0,
            "unexpected": 1,
            "unknown": 0,
        }
    ]
    assert wrong["error"]["code"] == "invalid_request"


async def test_old_ends_are_judged_again_over_the_api(tmp_path: Path) -> None:
    (told,) = await _calls(tmp_path, "/report/rejudge?write=true", method="POST")
    assert told == {"judged": 1, "changed": 0, "written": True, "changes": []}


async def test_what_is_over_cannot_be_ended_and_what_is_not_names_who_asked(tmp_path: Path) -> None:
    over, ending = await _calls(
        tmp_path, f"/connections/{'a1' * 16}/end", f"/connections/{'b2' * 16}/end", method="POST"
    )
    assert over == {
        "error": {"code": "connection_over", "message": "connection a1a1a1a1 is over already"}
    }
    assert (ending["id"], ending["status"]) == ("b2" * 16, "ongoing")
