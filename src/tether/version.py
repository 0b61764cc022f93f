"""The version of this build: the release, and the commit that it was made of.

Law: a leaf that costs a command's start nothing: two small files are read, and no program is run. A
wheel has its commit in a file beside this one (`scripts/wheel_commit.py`), an archive of git in
`_ARCHIVED`, and a checkout in its `.git`. Where none of them is, the version is the release alone.
"""

from __future__ import annotations

import os

RELEASE = "0.1.0"
"""Of the last release, or of the next one (pyproject reads it from here)."""

COMMIT_FILE = "commit.txt"
_ARCHIVED = "$Format:%h$"  # `git archive` puts the commit here (.gitattributes)
_DIGITS = 9


def commit_of(package: str, archived: str = _ARCHIVED) -> str:
    """The first digits of the commit that the sources in the directory `package` are of; "" where
    nothing tells."""
    commit = _read(os.path.join(package, COMMIT_FILE))
    if not commit and "$" not in archived:
        commit = archived
    if not commit:
        commit = _checked_out(os.path.join(package, "..", ".."))
    digits = commit[:_DIGITS]
    return digits if digits and all(one in "0123456789abcdef" for one in digits) else ""


def _checked_out(top: str) -> str:
    """The commit of a checkout, or of one of its worktrees."""
    git = os.path.join(top, ".git")
    if pointer := _read(
        git
    ):  # a worktree: a file that says where its own part of the repository is
        git = os.path.join(top, pointer.removeprefix("gitdir: "))
    head = _read(os.path.join(git, "HEAD"))
    if not head.startswith("ref: "):
        return head
    common = os.path.join(git, _read(os.path.join(git, "commondir")) or ".")
    name = head.removeprefix("ref: ")
    if commit := _read(os.path.join(common, name)):
        return commit
    for line in _read(os.path.join(common, "packed-refs")).splitlines():
        commit, _, packed = line.partition(" ")
        if packed == name:
            return commit
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _version() -> str:
    commit = commit_of(os.path.dirname(os.path.abspath(__file__)))
    return f"{RELEASE}+g{commit}" if commit else RELEASE


VERSION = _version()
"""Of this build, as programs print it and say it to one another (PEP 440): `0.1.0+g9f80c7512`."""
