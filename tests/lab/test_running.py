"""Running scenarios: what goes wrong in one of them is its outcome, and nothing else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tether_gauntlet.__main__ import main
from tether_gauntlet.lab.capabilities import require

pytestmark = pytest.mark.lab

SCENARIO = """
from tether_gauntlet.scenario import Scenario

def run(stage):
    {what}

SCENARIO = Scenario(name="{name}", summary="", run=run, truths=(), limit_s=1)
"""


def test_an_error_in_a_scenario_ends_no_other_and_loses_no_json(tmp_path: Path) -> None:
    require("namespaces", "veth", "nft", "ssh")
    for name in ("first", "second"):
        text = SCENARIO.format(name=name, what="raise ZeroDivisionError('in a scenario')")
        (tmp_path / f"{name}.py").write_text(text)
    written = tmp_path / "out.json"
    assert main(["--scenarios", str(tmp_path), "--no-twins", "--json", str(written)]) == 1
    told = json.loads(written.read_text())["scenarios"]
    assert [(one["name"], one["correct"], "in a scenario" in one["failed"]) for one in told] == [
        ("first", False, True),
        ("second", False, True),
    ]
