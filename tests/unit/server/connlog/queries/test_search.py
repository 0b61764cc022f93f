"""The log by every filter: what is found, what is counted, and how far a page has come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.server.log_reader import ADMIN
from tests.support.server.log_rig import ALICE, BOB, CLIENT_EOF, EXITED, LogRig, ended
from tether.server.connlog.filter import RowSearch, Values
from tether.server.connlog.pages import LogPages
from tether.server.connlog.queries import search as search_module
from tether.server.errors import Invalid
from tether.server.identity import Identity

pytestmark = pytest.mark.anyio


def only(**fields: Any) -> RowSearch:
    return RowSearch(values={name: Values((value,)) for name, value in fields.items()})


def but(**fields: Any) -> RowSearch:
    return RowSearch(values={name: Values((), (value,)) for name, value in fields.items()})


@pytest.fixture
async def pages(rig: LogRig) -> LogPages:
    """Three commands of alice, two ends of bob's on another workspace, and one that is open."""
    for name in ("a1", "a2", "a3"):
        await rig.tunnel(name)
        await rig.report(ended(name, *EXITED))
    for name in ("b1", "b2"):
        await rig.tunnel(name, user="bob", workspace_id=rig.other, workspace="other")
    await rig.log.close_tunnel("b1", (CLIENT_EOF,))
    await rig.log.close_tunnel("b2", ())
    await rig.tunnel("c1")
    return LogPages(rig.store, rig.clock)


async def ids(pages: LogPages, search: RowSearch, viewer: Identity = ADMIN) -> list[str]:
    found = await pages.search(search, viewer, limit=100)
    assert found.next == ""
    return [row.connection_id[:2] for row in found.rows]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (RowSearch(), ["c1", "b2", "b1", "a3", "a2", "a1"]),
        (only(user="bob"), ["b2", "b1"]),
        (but(user="bob"), ["c1", "a3", "a2", "a1"]),
        (only(expected=False), ["b2", "b1"]),
        (only(status="ongoing"), ["c1"]),
        (only(cause="client.vanished"), ["b1"]),
        (RowSearch(values={"cause": Values(("client.vanished", "unknown"))}), ["b2", "b1"]),
        (RowSearch(sides=Values(("machine",))), ["b1", "a3", "a2", "a1"]),
        (RowSearch(sides=Values((), ("machine",))), ["c1", "b2"]),
        (RowSearch(text="other"), ["b2", "b1"]),
        (RowSearch(text="OTHER bob"), ["b2", "b1"]),
        (RowSearch(text="a2"), ["a2"]),
        (RowSearch(text="100%_"), []),
        (only(relay="none"), ["c1", "b2", "b1", "a3", "a2", "a1"]),
        (but(relay="none"), []),
        (only(workspace="dev", expected=False), []),
        (RowSearch(detached=True), []),
        (RowSearch(min_duration_s=1e6), []),
    ],
)
async def test_a_filter_finds_what_it_says(
    pages: LogPages, search: RowSearch, found: list[str]
) -> None:
    assert await ids(pages, search) == found


async def test_a_viewer_finds_what_is_theirs(pages: LogPages) -> None:
    assert await ids(pages, RowSearch(), ALICE) == ["c1", "a3", "a2", "a1"]
    assert await ids(pages, RowSearch(), BOB) == ["b2", "b1"]


async def test_pages_follow_one_another_without_a_gap_or_a_double(pages: LogPages) -> None:
    seen, cursor = [], ""
    while True:
        found = await pages.search(RowSearch(), ADMIN, limit=2, cursor=cursor)
        seen += [row.connection_id[:2] for row in found.rows]
        cursor = found.next
        if not cursor:
            break
    assert seen == ["c1", "b2", "b1", "a3", "a2", "a1"]


async def test_a_cursor_is_of_its_own_filter_only(pages: LogPages) -> None:
    found = await pages.search(RowSearch(), ADMIN, limit=1)
    with pytest.raises(Invalid, match="of another filter"):
        await pages.search(only(user="bob"), ADMIN, limit=1, cursor=found.next)
    for nonsense in ("x", "AAAA", "%%%", "A" * 64):
        with pytest.raises(Invalid, match="no cursor"):
            await pages.search(RowSearch(), ADMIN, limit=1, cursor=nonsense)


async def test_a_rare_row_is_searched_for_in_bounded_steps(
    pages: LogPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "STEPS", (2, 2))
    found = await pages.search(RowSearch(text="a1"), ADMIN, limit=10)
    assert found.rows == []
    assert found.searched_to is not None
    on = await pages.search(RowSearch(text="a1"), ADMIN, limit=10, cursor=found.next)
    assert [row.connection_id[:2] for row in on.rows] == ["a1"]


async def test_counts_leave_out_a_fields_own_filter(pages: LogPages) -> None:
    found = await pages.summary(only(user="bob"), ADMIN)
    counts = {
        name: {one["value"]: one["count"] for one in found.facets[name]}
        for name in ("user", "cause", "expected", "status", "side")
    }
    assert (found.total, found.exact) == (2, True)
    assert counts == {
        "user": {"alice": 4, "bob": 2},
        "cause": {"client.vanished": 1, "unknown": 1},
        "expected": {"false": 2},
        "status": {"closed": 2},
        "side": {"machine": 1, "unknown": 1},
    }


async def test_the_histogram_has_every_end_once(pages: LogPages, rig: LogRig) -> None:
    now = rig.clock.now().wall
    span = replace(RowSearch(), lived_since=now - 3600, lived_until=now + 1)
    histogram = (await pages.summary(span, ADMIN)).histogram
    assert sum(histogram["expected"]) == 3
    assert {side: sum(bars) for side, bars in histogram["unexpected"].items()} == {
        "machine": 1,
        "unknown": 1,
    }
    assert sum(histogram["began"]) == 6


async def test_an_export_is_all_of_the_pages(
    pages: LogPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tether.server.connlog.pages.EXPORTED_AT_ONCE", 2)
    rows = [row.connection_id[:2] async for some in pages.all(RowSearch(), ADMIN) for row in some]
    assert rows == ["c1", "b2", "b1", "a3", "a2", "a1"]


async def test_a_day_counts_people_by_side(pages: LogPages) -> None:
    told = await pages.overview(ADMIN, 86_400)
    assert (told["people"], told["people_before"], told["ends"]) == (1, 0, 2)
    people = {one["side"]: [who["user"] for who in one["who"]] for one in told["sides"]}
    assert people == {
        "us": [],
        "workspace": [],
        "network": [],
        "machine": ["bob"],
        "unknown": ["bob"],
    }
    assert {one["cause"] for one in told["changes"]} == {"client.vanished", "unknown"}
    assert (await pages.overview(ALICE, 86_400))["people"] == 0


async def test_a_persons_cuts_are_told_by_cause(pages: LogPages) -> None:
    told = await pages.person("bob", ADMIN, 86_400)
    assert (told["connections"], told["cuts"]) == (2, 2)
    assert {one["cause"]: one["ends"] for one in told["causes"]} == {
        "client.vanished": 1,
        "unknown": 1,
    }
    assert [one["value"] for one in told["workspaces"]] == ["other"]
