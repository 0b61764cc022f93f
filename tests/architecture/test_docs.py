"""Docs that cannot lie: generated parts are fresh, links lead somewhere, commands exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import pytest

from tether.__main__ import PROGRAMS
from tether.attribution.causes.catalogue import CATALOGUE
from tether.cli.main import build

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GENERATED = {ROOT / "docs" / "vocabulary.md"}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_docs", ROOT / "scripts" / "gen_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_generated_parts_are_fresh() -> None:
    stale = [ids(path) for path in generator().stale()]
    assert stale == [], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@cache
def anchors(page: Path) -> frozenset[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return frozenset(
        re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings
    )


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_test_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text())
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists()
        or re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE) is None
    ]
    assert missing == []


def test_every_module_on_the_map_is_where_it_says() -> None:
    """Paths from `src/tether/` or from the repository's root."""
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## Data")[0]
    named = re.findall(r"`([\w/]+/(?:\w+\.py)?)`", page)
    places = (ROOT / "src" / "tether", ROOT)
    missing = [path for path in named if not any((place / path).exists() for place in places)]
    assert missing == []
    assert len(named) > 50


def test_every_decision_is_listed() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## Decisions")[2]
    listed = re.findall(r"\(adr/([\w-]+\.md)\)", page)
    assert listed == sorted(path.name for path in (ROOT / "docs" / "adr").glob("*.md"))


def test_every_expected_behaviour_names_a_test() -> None:
    rows = [
        line
        for page in ("agent-behaviours.md", "control-plane.md", "weaknesses.md")
        for line in (ROOT / "docs" / page).read_text().splitlines()
        if line.startswith("| ")
        and not line.startswith(
            ("| ---", "| there |", "| # |", "| place, there |", "| end |", "| what |")
        )
        and not line.endswith("| not here |")
    ]
    assert [row for row in rows if re.search(r"`tests/[\w/]+\.py::\w+`", row) is None] == []
    assert len(rows) > 50


# -- commands ---------------------------------------------------------------------------


def commands_in(text: str) -> Iterator[str]:
    """What the text tells people to type: in code, from `tether` to the end of the command."""
    for block in re.findall(r"^```(?:sh|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            typed = line.removeprefix("$ ").split("  #")[0].strip()
            if typed.startswith("tether "):
                yield typed
    for code in re.findall(r"`([^`\n]+)`", text):
        if code.startswith("tether "):
            yield code


def sources() -> list[tuple[str, str]]:
    """Every place that tells people what to type, the catalogue's advice included."""
    pages = [(ids(page), page.read_text()) for page in PAGES if page not in GENERATED]
    return pages + [(code, f"{row.sentence} {row.advice}") for code, row in CATALOGUE.items()]


TYPED = sorted({(where, typed) for where, text in sources() for typed in commands_in(text)})


@pytest.mark.parametrize(("where", "typed"), TYPED, ids=lambda v: v)
def test_every_command_in_the_docs_exists(where: str, typed: str) -> None:
    words = shlex.split(typed)[1:]
    if words[0] in {"COMMAND", "…"}:
        return
    command: click.Command = build(PROGRAMS)
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{where}: there is no `{typed}`"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    ours = words[: words.index("--")] if "--" in words else words
    for word in ours:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{where}: `{typed}` has no {word}"


def test_there_are_commands_to_check() -> None:
    assert any(where == "README.md" for where, _ in TYPED)


def test_make_targets_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = {
        target for page in PAGES for target in re.findall(r"`?make ([a-z]+)[`\s]", code_of(page))
    }
    assert told - targets == set()


def code_of(page: Path) -> str:
    text = page.read_text()
    return "\n".join(re.findall(r"`[^`]+`|^```.*?^```", text, re.MULTILINE | re.DOTALL))


def test_the_license_is_the_one_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
