"""A disk that is small enough to be filled.

Law: a tmpfs of its own, unmounted at the end; where none can be mounted, the test is skipped.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(directory: Path, size: str = "400k") -> Iterator[Path]:
    """Let `directory`, which is made, be a disk of that size."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("NOT TESTED: a really full disk (tmpfs cannot be mounted here)")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(disk: Path) -> Path:
    """Write until nothing more fits; the file that takes the room."""
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        _write_without_end(ballast)
    return ballast


def _write_without_end(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
