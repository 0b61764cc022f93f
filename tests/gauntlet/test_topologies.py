"""Where a scenario runs: plain, behind each standard middlebox, or behind its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tether_gauntlet import known
from tether_gauntlet.__main__ import OWN, main
from tether_gauntlet.lab.middlebox.kinds import NGINX, STANDARD
from tether_gauntlet.lab.middlebox.middlebox import Middlebox
from tether_gauntlet.scenario import ANY, PLAIN, Scenario, load, topologies_of
from tether_gauntlet.scoring import RunOutcome
from tether_gauntlet.truths import agent_link

THERE = agent_link("network_error", "network", False, "network.path_lost")
HERE = agent_link("control_plane_lost", "network", False, "server.unreachable")
MINE = Middlebox(name="mine", summary="", command=lambda place: ["true"])
SCENARIO = Scenario(name="s", summary="", run=lambda stage: None, truths=(HERE,), limit_s=1)


def places(scenario: Scenario, asked: list[str] | None) -> list[str]:
    return [placed.place for placed in scenario.placed_in(asked)]


def test_by_default_it_runs_once_with_nothing_in_between() -> None:
    assert places(SCENARIO, None) == [PLAIN]


def test_it_runs_in_every_topology_that_is_asked_for() -> None:
    assert places(SCENARIO, ["nginx", PLAIN, "mine"]) == [PLAIN, "nginx"]


def test_what_makes_no_sense_behind_a_middlebox_runs_behind_none() -> None:
    scenario = replace(SCENARIO, plain_only="it harms a disk")
    assert places(scenario, [PLAIN, *(box.name for box in STANDARD)]) == [PLAIN]


def test_where_one_middlebox_tells_as_much_as_all_it_runs_behind_one() -> None:
    scenario = replace(SCENARIO, one_middlebox="a process ends alike")
    assert places(scenario, [PLAIN, *(box.name for box in STANDARD)]) == [PLAIN, "nginx"]


def test_what_is_about_a_middlebox_runs_behind_that_and_nowhere_else() -> None:
    scenario = replace(SCENARIO, middleboxes=(MINE, NGINX))
    assert (places(scenario, None), places(scenario, [PLAIN, "nginx"])) == (["mine"], ["nginx"])
    assert topologies_of([scenario])[-1] == "mine"


def test_the_truth_is_that_of_the_topology() -> None:
    scenario = replace(SCENARIO, behind={ANY: (THERE,), "nginx": ()})
    (plain, behind_nginx, behind_squid) = scenario.placed_in([PLAIN, "nginx", "squid"])
    assert (plain.truths, behind_nginx.truths, behind_squid.truths) == ((HERE,), (), (THERE,))


def test_the_middlebox_has_a_host_of_its_own_and_needs_its_program() -> None:
    placed = SCENARIO.placed(NGINX)
    assert placed.topology.node("front").parent == SCENARIO.topology.node("server").parent
    assert (placed.needs, placed.full_name) == (frozenset({"nginx"}), "s@nginx")


def test_an_unknown_topology_cannot_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--topology", "envoy", "--list"]) == 2
    assert "no topology is called envoy: there are plain, nginx" in capsys.readouterr().err


def test_a_scenario_from_outside_brings_a_middlebox_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs.py").write_text(
        """
from tether_gauntlet.lab.middlebox.middlebox import Middlebox
from tether_gauntlet.scenario import Scenario

BOX = Middlebox(name="theirs", summary="", command=lambda place: ["true"])
SCENARIO = Scenario(
    name="t", summary="", run=lambda stage: None, truths=(), limit_s=1, middleboxes=(BOX,)
)
"""
    )
    assert main(["--scenarios", str(tmp_path), "--topology", "theirs", "--list"]) == 0
    assert "t@theirs" in capsys.readouterr().out


def outcome(topology: str) -> RunOutcome:
    return RunOutcome(scenario="s", topology=topology, control=False, tricky=False)


def test_a_known_failure_is_known_where_the_list_says_so() -> None:
    listed = {"s": {"nginx": "it cuts", known.EVERYWHERE: "it always does"}}
    marked = [known.marked(outcome(place), listed).known for place in ("nginx", "squid")]
    assert marked == ["it cuts", "it always does"]
    assert known.marked(outcome("nginx"), {}).known == ""


def test_every_known_failure_is_about_a_scenario_and_a_topology_that_there_is() -> None:
    scenarios = {scenario.name: scenario for scenario in load(OWN)}
    for name, places in known.load().items():
        there = {
            placed.place
            for placed in scenarios[name].placed_in(topologies_of([*scenarios.values()]))
        }
        assert set(places) <= {*there, known.EVERYWHERE}
