"""A control group (v1) of one's own for one test, and programs that live in it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")
STATEMENT_S = 30.0


@contextlib.contextmanager
def control_group(controller: str, **limits: str) -> Iterator[Path]:
    """A fresh group of `controller`, with files set as told (`_` for `.`); skips where there is none."""
    path = ROOT / controller / f"tether-test-{uuid.uuid4().hex[:8]}"
    made = False
    try:
        try:
            path.mkdir()
            made = True
            for name, value in limits.items():
                (path / name.replace("__", ".")).write_text(value)
        except OSError as wrong:
            pytest.skip(f"no {controller} control group can be made here: {wrong}")
        yield path
    finally:
        if made:
            path.rmdir()


class Inhabitant:
    """A Python program in a group. It runs each statement that it is told, and answers its value."""

    _MAIN = (
        "import sys\n"
        "for group in sys.argv[1:]:\n"
        "    open(group + '/cgroup.procs', 'w').write('0')\n"
        "names = {}\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    exec(line, names)\n"
        "    print(repr(names.get('said')), flush=True)\n"
    )

    def __init__(self, *groups: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self._MAIN, *map(str, groups)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        assert self._answer() == "ready"

    def run(self, statement: str) -> str:
        """Run one line; what it left in `said`, as text. "" if it died of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        """Kill it if it lives, and bury it."""
        self.process.kill()
        status = self.process.wait(STATEMENT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return status


@contextlib.contextmanager
def inhabitant(*groups: Path) -> Iterator[Inhabitant]:
    """One for the length of a block."""
    one = Inhabitant(*groups)
    try:
        yield one
    finally:
        one.end()
