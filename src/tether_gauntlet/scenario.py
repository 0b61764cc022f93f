"""What a scenario is: a world, a fault, and the truth about it.

Law: data only, and the one place that reads a folder of scenarios. A truth is written down before the
run and never reads the product's rules; the product never sees a scenario. A scenario's file defines
`SCENARIO`; everything that it needs is imported from `tether_gauntlet`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tether_gauntlet.lab.topology import Topology, internet

if TYPE_CHECKING:
    from tether_gauntlet.stage import Stage

FIELDS = ("disconnect_reason", "disconnect_initiator", "disconnect_expected")
"""What has to be right, every one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the log has to say about the rows of one kind that end because of the fault."""

    connect_type: str
    reason: str
    initiator: str
    expected: bool
    causes: frozenset[str]
    """Acceptable causes: where two names tell the same truth, both are in."""
    type: str = ""
    """Only rows of this type; "" takes all of the connect_type."""
    rows: int = 1
    """How many have to end so."""
    or_more: bool = False
    """Whether more may end so: how often a fault that lasts strikes is not for the scenario to say."""
    one_incident: bool = False
    """Whether they have to be told as one incident."""
    exit_code: int | None = None
    exit_signal: str | None = None

    @property
    def want(self) -> dict[str, object]:
        """The fields as the log has them."""
        return {
            "connect_type": self.connect_type,
            "disconnect_reason": self.reason,
            "disconnect_initiator": self.initiator,
            "disconnect_expected": self.expected,
            "disconnect_cause": sorted(self.causes),
        }

    def concerns(self, row: Mapping[str, Any]) -> bool:
        """Whether this truth is about `row`."""
        return bool(row["connect_type"] == self.connect_type and self.type in ("", row["type"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One fault. `run` sets up, injects it (`stage.fault()` marks the moment), and returns."""

    name: str
    summary: str
    """One line: what is done."""
    run: Callable[[Stage], None]
    truths: tuple[Truth, ...]
    """Empty: nothing may be reported as a disconnect."""
    limit_s: float
    """From the fault to the right record; or, where nothing may be reported, how long to watch."""
    topology: Topology = field(default_factory=internet)
    needs: frozenset[str] = frozenset()
    """Capabilities of the machine (`lab.capabilities`); without one, the scenario is skipped."""
    tricky: bool = False
    """Naive systems get it wrong: counted apart as well."""
    tolerates: frozenset[str] = frozenset()
    """Connect types whose rows may end as well, however (a control link in a storm): not scored."""

    @property
    def is_control(self) -> bool:
        """Whether nothing may be reported."""
        return not self.truths


class BadScenario(Exception):
    """A file that is no scenario; the text says which and why."""


def load(folder: Path) -> list[Scenario]:
    """The scenarios of a folder, by file name. Files that begin with `_` are helpers of others.

    Raises:
        BadScenario: a file cannot be imported or defines no `SCENARIO`, or a name comes twice.
    """
    if not folder.is_dir():
        raise BadScenario(f"{folder} is no folder")
    found = [_read(path) for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]
    if not found:
        raise BadScenario(f"{folder} holds no scenario: a scenario is a file NAME.py")
    names = [scenario.name for scenario in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadScenario(f"scenarios need names of their own: {', '.join(twice)}")
    return found


def chosen(scenarios: Iterable[Scenario], only: Iterable[str]) -> list[Scenario]:
    """Those that `only` names, by whole name or by part; all where it names none.

    Raises:
        BadScenario: a name fits none.
    """
    scenarios, only = list(scenarios), list(only)
    taken: list[Scenario] = []
    for name in only:
        exact = [one for one in scenarios if one.name == name]
        fits = exact or [one for one in scenarios if name in one.name]
        if not fits:
            raise BadScenario(f"no scenario is called {name}: see `--list`")
        taken += [one for one in fits if one not in taken]
    return taken if only else scenarios


def _read(path: Path) -> Scenario:
    name = f"tether_gauntlet_scenario_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadScenario(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses of a scenario look their module up
    try:
        sys.path.insert(0, str(path.parent))  # a scenario may import the folder's helpers
        spec.loader.exec_module(module)
    except Exception as wrong:
        raise BadScenario(f"{path}: {type(wrong).__name__}: {wrong}") from wrong
    finally:
        sys.path.remove(str(path.parent))
    scenario = getattr(module, "SCENARIO", None)
    if not isinstance(scenario, Scenario):
        raise BadScenario(f"{path} defines no SCENARIO")
    return scenario
