"""Filters that make no sense: each gets a clear, short refusal, and none an error of the server's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server.api_rig import installation

pytestmark = pytest.mark.anyio

LONG = "x" * 60_000  # the longest that httpx sends

SENSELESS = (
    {"side": "nobody"},
    {"cause": "no.such.cause"},
    {"reason": "!nonsense"},
    {"status": "asleep"},
    {"expected": "perhaps"},
    {"exit_code": "three"},
    {"since": "the day before"},
    {"since": "-5h"},
    {"until": "9" * 40},
    {"min_duration_s": "nan"},
    {"max_duration_s": "-1"},
    {"limit": "0"},
    {"limit": "501"},
    {"limit": "many"},
    {"cursor": "abc"},
    {"cursor": "!" * 64},
    {"cursor": LONG},
    {"q": LONG},
    {"workspace": LONG},
    {"no_such_filter": "1"},
)


async def test_a_filter_without_sense_is_refused_in_a_few_words(tmp_path: Path) -> None:
    answers = {}
    async with installation(tmp_path) as made, made.caller("admin") as admin:
        for query in SENSELESS:
            answer = await admin.get("/api/v1/log", params=query)
            shown = str(query)[:60]
            answers[shown] = (answer.status_code, len(answer.content) < 600)
            assert set(answer.json()) == {"error"}, shown
            assert answer.json()["error"]["message"], shown
    assert answers == dict.fromkeys(answers, (422, True))


async def test_a_search_of_any_signs_is_only_a_search(tmp_path: Path) -> None:
    words = ("%", "_", "\\", "'; DROP TABLE connections; --", '"', "\u202e", "\x1b[2J", "a\x00b")
    async with installation(tmp_path) as made, made.caller("admin") as admin:
        found = {
            word: (await admin.get("/api/v1/log", params={"q": word, "type": "control"})).json()
            for word in words
        }
        left = (await admin.get("/api/v1/log", params={"type": "control"})).json()
    assert {word: answer.get("rows") for word, answer in found.items()} == {
        word: [] for word in words
    }
    assert len(left["rows"]) == 1


async def test_a_cursor_is_good_for_its_own_filter_only(tmp_path: Path) -> None:
    async with installation(tmp_path) as made, made.caller("admin") as admin:
        for number in range(3):
            await admin.post("/api/v1/workspaces", json={"name": f"w{number}"})
            await made.open_link(f"{number:032x}")
        page = await admin.get("/api/v1/log", params={"limit": "1", "type": "control"})
        cursor = page.json()["next"]
        again = {"limit": "1", "cursor": cursor}
        own = await admin.get("/api/v1/log", params={**again, "type": "control"})
        other = await admin.get("/api/v1/log", params={**again, "type": "ssh"})
    assert (own.status_code, len(own.json()["rows"])) == (200, 1)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "bad_cursor")


@pytest.mark.parametrize(
    "path", ["overview?hours=0", "overview?hours=1e9", "people/x?hours=nan", "restarts?limit=9999"]
)
async def test_a_span_without_sense_is_refused(tmp_path: Path, path: str) -> None:
    async with installation(tmp_path) as made, made.caller("admin") as admin:
        answer = await admin.get(f"/api/v1/{path}")
    assert (answer.status_code, set(answer.json())) == (422, {"error"})
