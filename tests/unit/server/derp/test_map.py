"""The DERP map: which regions are in use, which relay is chosen, and what people may write."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.deadline import DEADLINE_S
from tether.net.tasks import Tasks
from tether.protocol.messages.derp import DerpMap, DerpNode, DerpRegion
from tether.server.derp import map_file as derp_file
from tether.server.derp.map import (
    BadDerpMap,
    ChosenRelay,
    Regions,
    check_region,
    check_url,
    read_map,
)
from tether.server.derp.map_file import DerpMapFile

PATIENT_S = 60.0

AMS, FRA, HERE = "ws://ams/derp", "ws://fra/derp", "ws://here/derp"


def regions(*registered: tuple[str, str], embedded: bool = True) -> Regions:
    made = Regions((lambda _host: HERE) if embedded else None)
    for number, (name, url) in enumerate(registered):
        made.register(number, name, url, draining=False)
    return made


def chosen(made: Regions, *wanted: str, avoid: tuple[str, ...] = ()) -> ChosenRelay | None:
    return made.choose(*wanted, avoid=avoid, host="")


def statuses(made: Regions) -> dict[str, dict[str, str]]:
    shown = made.map_for()
    return {one.name: {node.url: str(node.status) for node in one.nodes} for one in shown.regions}


def test_the_embedded_relay_alone_is_the_map_and_the_choice() -> None:
    made = regions()
    assert statuses(made) == {"embedded": {HERE: "ok"}}
    assert chosen(made) == ChosenRelay("embedded", HERE)


def test_relays_of_their_own_come_before_the_embedded_one() -> None:
    made = regions(("fra", FRA), ("ams", AMS))
    assert list(statuses(made)) == ["ams", "fra", "embedded"]
    assert chosen(made) == ChosenRelay("ams", AMS)


def test_who_may_dial_this_server_only_gets_the_embedded_relay_or_none() -> None:
    made, without = regions(("fra", FRA)), regions(("fra", FRA), embedded=False)
    assert made.choose("fra", avoid=(HERE,), host="", own_origin=True) == ChosenRelay(
        "embedded", HERE
    )
    assert without.choose("fra", avoid=(), host="", own_origin=True) is None


def test_a_wanted_region_wins_over_the_second_wanted_one() -> None:
    made = regions(("fra", FRA), ("ams", AMS))
    assert chosen(made, "fra", "ams") == ChosenRelay("fra", FRA)
    assert chosen(made, "", "embedded") == ChosenRelay("embedded", HERE)
    assert chosen(made, "nowhere", "fra") == ChosenRelay("fra", FRA)


def test_the_smallest_sum_of_both_ways_counts_more_than_a_wish() -> None:
    made = regions(("fra", FRA), ("ams", AMS))

    def through(
        *wanted: str, avoid: tuple[str, ...] = (), **latency_s: float
    ) -> ChosenRelay | None:
        return made.choose(*wanted, avoid=avoid, host="", latency_s=latency_s)

    assert through("ams", fra=0.02, ams=0.09, embedded=0.08) == ChosenRelay("fra", FRA)
    assert through("ams", fra=0.020, ams=0.025) == ChosenRelay("ams", AMS)  # not worth it
    assert through("", "ams", fra=0.001, ams=0.002, embedded=0.001) == ChosenRelay("ams", AMS)
    assert through("ams", avoid=(FRA,), fra=0.02, ams=0.09) == ChosenRelay("ams", AMS)
    assert through("", embedded=0.005, ams=0.09, fra=0.08) == ChosenRelay("embedded", HERE)
    assert through("nowhere", "fra", nyc=0.001) == ChosenRelay("fra", FRA)


def test_what_failed_just_now_is_avoided_unless_nothing_else_is_left() -> None:
    made = regions(("fra", FRA), ("ams", AMS))
    assert chosen(made, "fra", avoid=(FRA,)) == ChosenRelay("ams", AMS)
    assert chosen(made, "fra", avoid=(FRA, AMS, HERE)) == ChosenRelay("fra", FRA)


def test_a_draining_relay_is_shown_and_takes_nothing_new() -> None:
    made = regions(("fra", FRA), embedded=False)
    made.drain(0)
    assert statuses(made) == {"fra": {FRA: "draining"}}
    assert chosen(made, "fra") is None


def test_the_embedded_relay_leaves_only_where_another_one_is() -> None:
    alone = regions()
    assert not alone.drain_embedded()
    assert (statuses(alone), chosen(alone)) == (
        {"embedded": {HERE: "ok"}},
        ChosenRelay("embedded", HERE),
    )
    made = regions(("fra", FRA))
    assert made.drain_embedded()
    assert statuses(made) == {"fra": {FRA: "ok"}, "embedded": {HERE: "draining"}}
    assert chosen(made, "embedded", avoid=(FRA,)) == ChosenRelay("fra", FRA)
    made.unregister(0)
    assert chosen(made) is None
    assert not regions(("fra", FRA), embedded=False).drain_embedded()
    drained = regions(("fra", FRA))
    drained.drain(0)
    assert not drained.drain_embedded()


def test_a_relay_whose_link_is_gone_is_off_the_map() -> None:
    made = regions(("fra", FRA), embedded=False)
    made.unregister(0)
    made.unregister("never there")
    assert made.map_for() == DerpMap(regions=[])


def test_two_relays_share_a_region() -> None:
    made = regions(("fra", FRA), ("fra", "ws://fra2/derp"))
    made.drain(0)
    assert statuses(made)["fra"] == {FRA: "draining", "ws://fra2/derp": "ok"}
    assert chosen(made, "fra") == ChosenRelay("fra", "ws://fra2/derp")


def test_a_map_that_was_set_decides_which_regions_are_in_use() -> None:
    made = regions(("fra", FRA), ("ams", AMS))
    made.set_map([DerpRegion(name="fra"), DerpRegion(name="nyc", nodes=[DerpNode(url="ws://n/d")])])
    assert (made.in_use("fra"), made.in_use("ams")) == (True, False)
    assert statuses(made) == {
        "fra": {FRA: "ok"},
        "nyc": {"ws://n/d": "ok"},
        "embedded": {HERE: "ok"},
    }
    assert chosen(made, "ams") == ChosenRelay("fra", FRA)
    made.set_map(None)
    assert made.in_use("ams")


def test_an_operator_may_drain_a_relay_that_is_well() -> None:
    made = regions(("fra", FRA), embedded=False)
    made.set_map([DerpRegion(name="fra", nodes=[DerpNode(url=FRA, status="draining")])])
    assert chosen(made) is None


def test_each_change_is_told() -> None:
    told: list[str] = []
    made = Regions(None)
    made.subscribe(lambda: told.append("changed"))
    made.register(1, "fra", FRA, draining=False)
    made.drain(1)
    made.set_map([])
    made.unregister(1)
    made.unregister(1)
    assert len(told) == 4


# -- what people write ----------------------------------------------------------------------------

GOOD = {"regions": [{"name": "fra", "nodes": [{"url": FRA}, {"url": AMS, "status": "draining"}]}]}


def test_a_map_is_read_as_it_is_written() -> None:
    assert read_map(GOOD) == (
        DerpRegion(name="fra", nodes=[DerpNode(url=FRA), DerpNode(url=AMS, status="draining")]),
    )
    assert read_map({"regions": []}) == ()


@pytest.mark.parametrize(
    ("plain", "complaint"),
    [
        ([], "a DERP map is"),
        ({"regions": [], "more": 1}, "a DERP map is"),
        ({"regions": {}}, "regions: a list"),
        ({"regions": [{"name": f"r{n}"} for n in range(257)]}, "regions: a list of at most 256"),
        ({"regions": [1]}, "regions[0]: a region has a name"),
        ({"regions": [{"name": "fra", "node": []}]}, "regions[0]: a region has a name"),
        ({"regions": [{"name": "Frankfurt"}]}, "regions[0]: a region's name is"),
        ({"regions": [{"name": "embedded"}]}, "regions[0]: embedded is the name of the server's"),
        ({"regions": [{"name": "a"}, {"name": "a"}]}, "the region a is there twice"),
        ({"regions": [{"name": "a", "nodes": [{}]}]}, "regions[0].nodes[0]: a node has a url"),
        ({"regions": [{"name": "a", "nodes": [{"url": "http://x"}]}]}, "a relay's URL begins with"),
        ({"regions": [{"name": "a", "nodes": [{"url": FRA, "status": "gone"}]}]}, "the status is"),
    ],
    ids=str,
)
def test_a_map_without_sense_is_refused_with_the_place(plain: object, complaint: str) -> None:
    with pytest.raises(BadDerpMap) as refused:
        read_map(plain)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "ws://", "wss://:1", "ws://[", "ws://x:0", "ws://a\nb", "x" * 600, None, 7]
)
def test_what_cannot_be_dialled_is_no_relays_url(url: object) -> None:
    with pytest.raises(BadDerpMap):
        check_url(url)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a" * 33, "a.b", None])
def test_some_words_are_no_regions_name(name: object) -> None:
    with pytest.raises(BadDerpMap):
        check_region(name)


# -- the file -------------------------------------------------------------------------------------


def test_a_file_is_json_or_toml(tmp_path: Path) -> None:
    made = regions()
    (tmp_path / "map.json").write_text(json.dumps(GOOD))
    (tmp_path / "map.toml").write_text(
        f'[[regions]]\nname = "nyc"\n[[regions.nodes]]\nurl = "{FRA}"\n'
    )
    DerpMapFile(tmp_path / "map.json", made).load()
    assert list(statuses(made)) == ["fra", "embedded"]
    DerpMapFile(tmp_path / "map.toml", made).load()
    assert statuses(made)["nyc"] == {FRA: "ok"}


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("map.json", "{", "is not JSON"),
        ("map.toml", "=", "is not TOML"),
        ("map.json", "[" * 100_000, "is not JSON"),
        ("map.json", '{"regions": 1}', "regions: a list"),
        ("map.json", " " * (1 << 20) + "{}", "is larger than"),
        ("none.json", None, "cannot be read"),
    ],
)
def test_a_file_without_sense_is_refused_by_its_name(
    tmp_path: Path, name: str, text: str | None, complaint: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(BadDerpMap) as refused:
        DerpMapFile(tmp_path / name, regions()).load()
    assert str(tmp_path / name) in str(refused.value)
    assert complaint in str(refused.value)


@pytest.mark.anyio
async def test_a_file_that_changes_is_read_anew_and_a_bad_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derp_file, "LOOK_EVERY_S", 0.01)
    path, changed = tmp_path / "map.json", asyncio.Event()
    path.write_text(json.dumps(GOOD))
    made = Regions(None)
    made.subscribe(changed.set)
    file, tasks = DerpMapFile(path, made), Tasks("test")
    file.load()
    changed.clear()
    tasks.spawn(file.follow(), "follow")
    try:
        with capture_logs() as lines:
            path.write_text("{")
            async with asyncio.timeout(DEADLINE_S):
                while not lines:
                    await asyncio.sleep(0)
        assert [line["event"] for line in lines] == ["derp map not loaded"]
        assert made.in_use("fra")
        fresh = tmp_path / "fresh"
        fresh.write_text(json.dumps({"regions": [{"name": "nyc"}]}))
        os.replace(fresh, path)
        await asyncio.wait_for(changed.wait(), DEADLINE_S)
        assert (made.in_use("fra"), made.in_use("nyc")) == (False, True)
        changed.clear()
        file.reload()
        await asyncio.wait_for(changed.wait(), DEADLINE_S)
    finally:
        await tasks.cancel()
