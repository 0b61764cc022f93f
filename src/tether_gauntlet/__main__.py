"""`python -m tether_gauntlet`: end connections in every way, and see whether the log tells it right.

Law: parses, runs, prints. Exit code 0: every run is right, and no verdict turns wrong and sure without a
part of its evidence, except what is known to fail; 1: otherwise; 2: the arguments or a scenario are
wrong. What was skipped is printed first and never counts as right. The JSON is written after every run,
so that an interrupted one loses nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from tether_gauntlet import known
from tether_gauntlet.again import judge_again
from tether_gauntlet.lab.capabilities import probe
from tether_gauntlet.report import as_json, as_markdown, line
from tether_gauntlet.running import run_all
from tether_gauntlet.scenario import BadScenario, Scenario, chosen, load, topologies_of
from tether_gauntlet.scoring import RunOutcome

OWN = Path(__file__).parent / "scenarios"

_EPILOG = """examples:
  python -m tether_gauntlet --list
  python -m tether_gauntlet --only client-killed --only oom
  python -m tether_gauntlet --topology nginx,haproxy --only agent-killed
  python -m tether_gauntlet --scenarios ./mine --json out.json
  python -m tether_gauntlet --repeat 3 --markdown figures.md
  python -m tether_gauntlet --keep-evidence kept; python -m tether_gauntlet --judge-again kept
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="tether_gauntlet",
        description="Ends connections for real, in every way, and compares the log with the truth.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="whole or part")
    parser.add_argument(
        "--scenarios",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a folder of scenarios, instead of the own ones; may be given more than once",
    )
    parser.add_argument(
        "--topology",
        default="",
        metavar="NAME,...",
        help="what stands in front of the server: plain, nginx, haproxy, haproxy-tcp, squid, stunnel, "
        "a scenario's own, or all; by default each scenario runs once, in its first",
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="all of it N times")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="N scenarios at once")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything as JSON")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="write the tables")
    parser.add_argument("--no-twins", action="store_true", help="without a real sshd beside")
    parser.add_argument(
        "--keep-evidence", type=Path, metavar="DIR", help="write what the log explains, as JSON"
    )
    parser.add_argument(
        "--judge-again", type=Path, metavar="DIR", help="run nothing: judge kept evidence again"
    )
    parser.add_argument("--list", action="store_true", help="only list the scenarios")
    asked = parser.parse_args(arguments)
    try:
        found = [one for folder in asked.scenarios or [OWN] for one in load(folder)]
        scenarios = _placed(chosen(found, asked.only), asked.topology)
    except BadScenario as wrong:
        print(f"tether_gauntlet: {wrong}", file=sys.stderr)
        return 2
    if asked.list:
        _list(scenarios)
        return 0
    outcomes: list[RunOutcome] = []
    try:
        _run(scenarios, asked, outcomes)
    except BadScenario as wrong:
        print(f"tether_gauntlet: {wrong}", file=sys.stderr)
        return 2
    finally:  # whatever ended it: what was found out is told
        if outcomes:
            print(f"\n{as_markdown(outcomes)}")
            if asked.markdown is not None:
                asked.markdown.write_text(f"{_heading(asked)}\n\n{as_markdown(outcomes)}\n")
    return int(any(one.fails for one in outcomes))


def _placed(scenarios: list[Scenario], topology: str) -> list[Scenario]:
    """The scenarios in every topology that is asked for.

    Raises:
        BadScenario: there is no such topology, or none of the scenarios runs there.
    """
    there = topologies_of(scenarios)
    asked = [word for word in topology.split(",") if word]
    if unknown := set(asked) - {*there, "all"}:
        raise BadScenario(
            f"no topology is called {', '.join(sorted(unknown))}: there are {', '.join(there)}, all"
        )
    wanted = there if "all" in asked else asked or None
    placed = [place for scenario in scenarios for place in scenario.placed_in(wanted)]
    if not placed:
        raise BadScenario(f"none of these scenarios runs in {topology}")
    return placed


def _heading(asked: argparse.Namespace) -> str:
    """What a page of figures begins with: what was run, where and when."""
    where = f"--topology {asked.topology} " if asked.topology else ""
    how = f"`{where}--repeat {asked.repeat} --jobs {asked.jobs}`"
    machine = (
        f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    )
    when = datetime.now(UTC).date().isoformat()
    written = f"Written by `make gauntlet`, never by hand: {how}, {machine}, {when}."
    return f"# What the gauntlet says\n\n{written}"


def _run(scenarios: list[Scenario], asked: argparse.Namespace, outcomes: list[RunOutcome]) -> None:
    """Add every outcome to `outcomes`, as it comes."""
    expected = known.load()

    def tell(outcome: RunOutcome) -> None:
        outcomes.append(known.marked(outcome, expected))
        print(line(outcomes[-1]), flush=True)
        if asked.json is not None:
            asked.json.write_text(json.dumps(as_json(outcomes), indent=1) + "\n")

    if asked.judge_again is not None:
        for outcome in judge_again(scenarios, asked.judge_again):
            tell(outcome)
        return
    _tell_of_gaps()
    run_all(
        scenarios,
        repeat=asked.repeat,
        twins=not asked.no_twins,
        keep=asked.keep_evidence,
        jobs=asked.jobs,
        tell=tell,
    )


def _list(scenarios: list[Scenario]) -> None:
    for scenario in scenarios:
        mark = "★" if scenario.tricky else "○" if scenario.is_control else " "
        print(f"{mark} {scenario.full_name:40} {scenario.summary}")


def _tell_of_gaps() -> None:
    for capability in probe().values():
        if not capability.present:
            print(
                f"MISSING {capability.name} ({capability.what}): {capability.reason}",
                file=sys.stderr,
            )


if __name__ == "__main__":
    sys.exit(main())
