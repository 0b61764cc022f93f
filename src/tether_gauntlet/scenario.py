"""What a scenario is: a world, a fault, and the truth about it.

Law: data, and the one place that reads a folder of scenarios. A truth is written down before the run and
never reads the product's rules; the product never sees a scenario. A scenario's file defines `SCENARIO`
and imports what it needs from `tether_gauntlet`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tether_gauntlet.lab.middlebox.kinds import STANDARD
from tether_gauntlet.lab.middlebox.middlebox import FRONT, Middlebox
from tether_gauntlet.lab.topology import LabNode, Topology, internet
from tether_gauntlet.stage import Stage

PLAIN = "plain"
"""The topology with nothing between the parties and the server but routers."""

ANY = "any"
"""In `Scenario.behind`: behind whatever middlebox the scenario does not name."""

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
    where: tuple[tuple[str, str], ...] = ()
    """Only rows with these values (`workspace`, `user`): where two faults at once have rows each."""

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
        return (
            row["connect_type"] == self.connect_type
            and self.type in ("", row["type"])
            and all(row[name] == value for name, value in self.where)
        )


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
    check: Callable[[Stage], Iterable[str]] | None = None
    """What else has to be so once all have returned: a line for each thing that is not."""
    gone_for_good: bool = False
    """Whoever was killed stays away: nobody is started again once the watch is over."""
    direct: bool = False
    """Sessions may go directly to the agent behind a middlebox as well; else they go through it."""
    plain_only: str = ""
    """Why it makes no sense behind a middlebox."""
    one_middlebox: str = ""
    """Why one middlebox, the first of the standard ones, tells as much as all of them."""
    behind: Mapping[str, tuple[Truth, ...]] = field(default_factory=dict)
    """Topology, or `ANY` -> the truths there, where a middlebox makes other ones."""
    middleboxes: tuple[Middlebox, ...] = ()
    """Its own: it runs behind each of these, and nowhere else."""
    middlebox: Middlebox | None = None
    """What it stands behind; set by `placed`."""

    @property
    def is_control(self) -> bool:
        """Whether nothing may be reported."""
        return not self.truths

    @property
    def place(self) -> str:
        """The name of its topology."""
        return PLAIN if self.middlebox is None else self.middlebox.name

    @property
    def full_name(self) -> str:
        """Its name, and its topology where that is not the plain one."""
        return self.name if self.middlebox is None else f"{self.name}@{self.place}"

    def placed(self, box: Middlebox | None) -> Scenario:
        """The scenario behind `box`, with its truths there and a host for the middlebox."""
        if box is None:
            return self
        nodes = (*self.topology.nodes, LabNode(name=FRONT, parent=self.topology.nodes[0].name))
        return replace(
            self,
            middlebox=box,
            topology=Topology(nodes),
            truths=self.behind.get(box.name, self.behind.get(ANY, self.truths)),
            needs=self.needs | box.needs,
        )

    def placed_in(self, topologies: Iterable[str] | None) -> list[Scenario]:
        """The scenario in each of `topologies` in which it runs; by default once, in its first."""
        standard = () if self.plain_only else STANDARD[:1] if self.one_middlebox else STANDARD
        own = {box.name: box for box in self.middleboxes}
        places: dict[str, Middlebox | None] = dict(own)
        if not own:
            places = {PLAIN: None, **{box.name: box for box in standard}}
        wanted = list(places)[:1] if topologies is None else [n for n in places if n in topologies]
        return [self.placed(places[name]) for name in wanted]


class BadScenario(Exception):
    """A file that is no scenario; the text says which and why."""


def load(folder: Path) -> list[Scenario]:
    """The scenarios of a folder and of those in it, by path. Files that begin with `_` are helpers.

    Raises:
        BadScenario: a file cannot be imported or defines no `SCENARIO`, or a name comes twice.
    """
    if not folder.is_dir():
        raise BadScenario(f"{folder} is no folder")
    files = sorted(folder.rglob("*.py"))
    found = [_read(path) for path in files if not path.name.startswith("_")]
    if not found:
        raise BadScenario(f"{folder} holds no scenario: a scenario is a file NAME.py")
    names = [scenario.name for scenario in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadScenario(f"scenarios need names of their own: {', '.join(twice)}")
    return found


def topologies_of(scenarios: Iterable[Scenario]) -> list[str]:
    """The names of all topologies: the plain one, the standard ones, the scenarios' own."""
    own = [box.name for scenario in scenarios for box in scenario.middleboxes]
    return list(dict.fromkeys([PLAIN, *(box.name for box in STANDARD), *own]))


def chosen(scenarios: Iterable[Scenario], only: Iterable[str]) -> list[Scenario]:
    """The scenarios that `only` names, by whole name or by part; all where it is empty.

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
