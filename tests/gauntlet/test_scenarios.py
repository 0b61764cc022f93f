"""Every scenario of our own is found, and its folder is told of in the docs."""

from __future__ import annotations

import re
from pathlib import Path

from tether_gauntlet.__main__ import OWN
from tether_gauntlet.scenario import load

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "gauntlet.md"


def test_every_file_is_a_scenario_with_a_name_of_its_own() -> None:
    files = [path for path in OWN.rglob("*.py") if not path.name.startswith("_")]
    assert len(load(OWN)) == len(files)


def test_the_docs_tell_of_every_folder() -> None:
    table = GUIDE.read_text().partition("| folder |")[2].partition("\n\n")[0]
    told = {
        name
        for line in table.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    }
    assert told == {
        path.name for path in OWN.iterdir() if path.is_dir() and path.name != "__pycache__"
    }
