"""Every build says which one it is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

from tether.version import RELEASE, VERSION, commit_of

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package of a checkout without `.git`."""
    package = tmp_path / "src" / "tether"
    package.mkdir(parents=True)
    return package


def git(package: Path) -> Path:
    directory = package.parents[1] / ".git"
    directory.mkdir()
    return directory


def test_the_version_is_one_of_its_release_and_names_the_commit() -> None:
    assert Version(VERSION).base_version == RELEASE
    told = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if told.returncode:
        pytest.skip(f"NO GIT HISTORY HERE: {told.stderr.strip()}")
    assert f"{RELEASE}+g{told.stdout[:9]}" == VERSION


def test_sources_that_nothing_tells_about_have_no_commit(package: Path) -> None:
    assert commit_of(str(package)) == ""
    assert commit_of(str(package), "$Format:%h$") == ""


def test_an_archive_of_git_has_its_commit(package: Path) -> None:
    assert commit_of(str(package), "0123abc") == "0123abc"


@pytest.mark.parametrize(
    ("head", "files"),
    [
        (COMMIT, {}),
        ("ref: refs/heads/main", {"refs/heads/main": COMMIT}),
        ("ref: refs/heads/main", {"packed-refs": f"# pack-refs\n{COMMIT} refs/heads/main\n"}),
    ],
)
def test_a_checkout_tells_its_commit(package: Path, head: str, files: dict[str, str]) -> None:
    directory = git(package)
    for name, text in {"HEAD": head, **files}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"{text}\n")
    assert commit_of(str(package)) == COMMIT[:9]


def test_a_worktree_tells_its_own_commit(package: Path, tmp_path: Path) -> None:
    own = tmp_path / "repository" / "worktrees" / "w"
    own.mkdir(parents=True)
    (package.parents[1] / ".git").write_text(f"gitdir: {own}\n")
    (own / "HEAD").write_text("ref: refs/heads/w\n")
    (own / "commondir").write_text("../..\n")
    refs = tmp_path / "repository" / "refs" / "heads"
    refs.mkdir(parents=True)
    (refs / "w").write_text(f"{COMMIT}\n")
    assert commit_of(str(package)) == COMMIT[:9]


def test_a_head_that_is_no_commit_is_none(package: Path) -> None:
    (git(package) / "HEAD").write_text("<html>\n")
    assert commit_of(str(package)) == ""


def test_a_wheel_carries_the_commit_that_it_was_built_from(tmp_path: Path) -> None:
    if VERSION == RELEASE:
        pytest.skip("NO GIT HISTORY HERE: nothing tells the commit")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert f"{RELEASE}+g{archive.read('tether/commit.txt').decode().strip()}" == VERSION
