"""Scenarios that are known to fail today, and why: `known_failures.toml`, and nothing else.

Law: what is listed there counts as wrong in every figure; only the exit code ignores it. A scenario that
is right again is reported as `FIXED`, and its entry is to be removed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tether_gauntlet.scoring import RunOutcome

FILE = Path(__file__).parent / "known_failures.toml"
EVERYWHERE = "*"

Known = Mapping[str, Mapping[str, str]]
"""Scenario -> topology, or `EVERYWHERE` -> why."""


def load(path: Path = FILE) -> Known:
    """What the file says."""
    return tomllib.loads(path.read_text())


def marked(outcome: RunOutcome, known: Known) -> RunOutcome:
    """`outcome`, with the reason for which it is known to fail, if it is."""
    why = known.get(outcome.scenario, {})
    return replace(outcome, known=why.get(outcome.topology, why.get(EVERYWHERE, "")))
