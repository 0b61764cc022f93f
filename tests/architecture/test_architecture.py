"""What the layout promises, held by tests: directions, sizes, docstrings, places that end things."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "tether"
MODULES = sorted(SRC.rglob("*.py"))
TRIALS = sorted((ROOT / "src" / "tether_gauntlet").rglob("*.py"))
"""What tries the product: of the same sizes, but free to wait and to kill."""

MAX_FUNCTION_LINES = 60
LONG_FUNCTIONS = {
    "server/db/migrations/versions/v0001_initial.py:_create_connections": "a table's columns",
}

SLEEPS = {
    "agent/process/process.py": 1,  # jobs of shells end: they are not our children, so nothing tells
    "agent/ssh/x11.py": 1,  # the lock of the cookies' file: other programs' locks tell nobody
    "agent/tunnels/probe.py": 1,  # sleep(0): a source lets others have their turn
    "agent/ide/port_inspection.py": 1,  # sleep(0): lets the loop breathe in a long scan
    "agent/control/reports.py": 1,  # the wait before a report is sent again
    "agent/supervisor.py": 1,  # the beat that says when the agent was last alive
    "net/tasks.py": 1,  # a task that failed is begun again after a while
    "cli/ssh/ssh.py": 1,  # what a grandchild writes into a file is looked for
    "client/connection.py": 1,  # the wait before the server is asked again for an agent that starts
    "client/probe.py": 1,  # sleep(0): what the agent says is heard while we send
    "client/report/recorder.py": 1,  # the beat that says when the client was last alive
    "run/starting.py": 1,  # a token that is replaced in its file: not every file system tells
    "run/children.py": 1,  # a parent that died is looked for: no event tells of it
    "relay/previous_run.py": 1,  # the list is written once a second at most
    "run/server.py": 1,  # the beat that says when the server was last alive
    "run/up.py": 2,  # the wait before a program is started again; looking for one to end
    "server/connlog/log.py": 2,  # the wait for the database; the pause of a reporter beyond its rate
    "server/connlog/janitor.py": 1,  # the sweep of what nothing else will end
    "server/control/withdrawals.py": 1,  # between two looks, however many tunnels come up
    "net/link/dialer.py": 1,  # the wait before dialling again
    "net/derp/relay.py": 1,  # the watchdog that reads each leg's TCP_INFO
    "net/derp/splice.py": 1,  # the pause of a carrier that is beyond its bandwidth
}
"""Calls of `asyncio.sleep` per module. Waiting for something that can be told is no reason."""

CLOSING = {"close", "abort", "cancel", "kill", "terminate", "disconnect"}
HARMLESS = re.compile(r"(timer|deadline)\.cancel$|^os\.close$|^(self|super\(\))\.close$")
"""Timers; descriptors and own methods, which end what their owner's `close` ends."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return path.relative_to(SRC if path.is_relative_to(SRC) else SRC.parent).as_posix()


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_the_direction_of_imports_holds() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES + TRIALS, ids=name_of)
def test_a_module_opens_with_its_law(path: Path) -> None:
    docstring = ast.get_docstring(tree(path))
    assert docstring is not None
    assert docstring.splitlines()[0].endswith((".", ":"))


def test_a_package_imports_nothing() -> None:
    """Whoever needs one module of it should not pay for the others."""
    importing = {
        name_of(path)
        for path in MODULES
        if path.name == "__init__.py"
        and any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree(path)))
    }
    assert importing == set()


def test_no_function_is_too_long() -> None:
    long = {
        f"{name_of(path)}:{node.name}": f"{lines} lines"
        for path in MODULES + TRIALS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert {name: size for name, size in long.items() if name not in LONG_FUNCTIONS} == {}


def test_nothing_polls_but_the_reviewed() -> None:
    found = {
        name_of(path): count
        for path in MODULES
        if (count := sum(call in {"asyncio.sleep", "time.sleep", "sleep"} for call in calls(path)))
    }
    assert found == SLEEPS


def closing_calls(path: Path) -> Counter[str]:
    return Counter(
        call
        for call in calls(path)
        if call.rpartition(".")[2] in CLOSING and "." in call and not HARMLESS.search(call)
    )


def test_every_place_that_ends_something_was_reviewed() -> None:
    """A close, abort, cancel or kill must come after its cause was offered, or end nothing of note.

    After a review, write the new place with its reason into tests/architecture/close_sites.toml.
    """
    reviewed = tomllib.loads((ROOT / "tests" / "architecture" / "close_sites.toml").read_text())
    assert all(entry["why"].strip() for entry in reviewed.values())
    known = {name: dict(entry["sites"]) for name, entry in reviewed.items()}
    found = {
        name_of(path): dict(sorted(sites.items()))
        for path in MODULES
        if not name_of(path).startswith(("net/", "server/db/migrations/"))
        and (sites := closing_calls(path))
    }
    assert found == known


def test_the_core_has_no_foreign_imports() -> None:
    allowed = {
        "attribution": set(sys.stdlib_module_names),
        "protocol": set(sys.stdlib_module_names) | {"msgspec"},
    }
    for package, roots in allowed.items():
        for path in (SRC / package).rglob("*.py"):
            imported = {
                alias.name.partition(".")[0]
                for node in ast.walk(tree(path))
                if isinstance(node, ast.Import)
                for alias in node.names
            } | {
                (node.module or "").partition(".")[0]
                for node in ast.walk(tree(path))
                if isinstance(node, ast.ImportFrom)
            }
            assert imported - roots - {"tether"} == set(), name_of(path)


def test_only_log_emits_the_disconnect_fields() -> None:
    emitters = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.keyword) and (node.arg or "").startswith("disconnect_")
    }
    assert emitters - {"log.py"} == set()


# -- the repository ---------------------------------------------------------------------


@cache
def tracked() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    return tuple(
        path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()
    )


def mentions(pattern: re.Pattern[bytes], within: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {found.group().decode(errors='replace')}"
        for path in tracked()
        if path.is_relative_to(within) and path != Path(__file__)
        for found in pattern.finditer(path.read_bytes())
    ]


def test_nothing_is_left_to_do_in_the_source() -> None:
    assert mentions(re.compile(rb"\b(TODO|FIXME|XXX)\b.*"), SRC) == []


def test_no_machines_paths_are_in_the_repository() -> None:
    assert mentions(re.compile(rb"(?<![\w.])/work/[\w./-]+"), ROOT) == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_holds_what_the_project_asks_for(lock: str) -> None:
    """A dependency was changed and not locked? Run `make lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = [*project["project"]["dependencies"], *groups["build"]]
    wanted += groups["dev"] if "dev" in lock else []
    text = (ROOT / lock).read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    missing = [
        asked
        for asked in wanted
        if (wants := Requirement(asked)).name
        and not wants.specifier.contains(
            locked.get(canonicalize_name(wants.name), "0"), prereleases=True
        )
    ]
    assert missing == []
    assert all(block.count("--hash=sha256:") for block in re.split(r"(?m)^(?=[\w.-]+==)", text)[1:])
    assert "://" not in text
