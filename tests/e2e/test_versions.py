"""Builds that are one commit, or one release, apart understand one another, whichever is the newer."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.e2e.stack import Program, Stack

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
SRC = str(ROOT / "src")


def git(*arguments: str) -> bytes | None:
    """What git prints; None where there is none, or not that history."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def releases() -> list[str]:
    """The commit before this one, and the last tag, where there is one."""
    tag = git("describe", "--tags", "--abbrev=0", "HEAD~1")
    return ["HEAD~1", *([tag.decode().strip()] if tag else [])]


@pytest.fixture(params=releases())
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The directory that has the package of an earlier build."""
    archive = git("archive", request.param, "src/tether")
    if archive is None:
        pytest.skip(f"NO GIT HISTORY HERE: {request.param} is not to be had, nothing was compared")
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(tmp_path / "earlier", filter="data")
    return str(tmp_path / "earlier" / "src")


class Mixed(Stack):
    """A stack whose server, agent and client are builds of their own."""

    def __init__(self, root: Path, *, server: str, agent: str, client: str) -> None:
        self._builds = {"server": server, "agent": agent}
        self._client = client
        super().__init__(root, own_python=True)

    def _start(self, name: str, arguments: list[str]) -> Program:
        self.env["PYTHONPATH"] = self._builds[name]
        try:
            return super()._start(name, arguments)
        finally:
            self.env["PYTHONPATH"] = self._client


MIXTURES = ["server", "agent", "client"]


@pytest.fixture(params=MIXTURES)
def mixed(request: pytest.FixtureRequest, earlier: str, tmp_path: Path) -> Iterator[Mixed]:
    """One of the three is the earlier build."""
    builds = {name: earlier if name == request.param else SRC for name in MIXTURES}
    stack = Mixed(tmp_path / "stack", **builds)
    try:
        yield stack
    finally:
        stack.close()


def test_a_command_runs_and_its_end_is_on_record_whoever_is_the_older(mixed: Mixed) -> None:
    with mixed.one_new_row() as row:
        done = mixed.tether("ssh", "dev", "--", "echo hello; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, "hello\n"), done.stderr
    assert (row["disconnect_cause"], row["exit_code"]) == ("session.exit", 3)
    assert row["id"] in mixed.tether("connections", "--json", "--since", "1h").stdout
