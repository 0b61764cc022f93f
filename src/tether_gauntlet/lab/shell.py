"""Running the system's own network tools, and waiting where no event tells.

Law: a tool that fails says what was asked and what it answered; nothing is ignored unless the caller
asks for it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


class LabError(Exception):
    """The laboratory cannot do what was asked; the text says why."""


def call(argv: Sequence[str], *, given: str = "", check: bool = True, seconds: float = 20.0) -> str:
    """Run a tool to its end, and return what it printed.

    Raises:
        LabError: it failed (and `check`), is not installed, or did not end in time.
    """
    try:
        done = subprocess.run(
            list(argv), input=given, capture_output=True, text=True, timeout=seconds
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(argv)} did not end within {seconds:g} s") from None
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        asked = f"\n{given.rstrip()}" if given else ""
        raise LabError(f"{' '.join(argv)} failed ({done.returncode}): {said}{asked}")
    return done.stdout


def wait_for(
    what: str,
    check: Callable[[], T | None],
    seconds: float = 20.0,
    *,
    shown: Callable[[], str] = str,
) -> T:
    """The first truthy answer of `check`.

    Raises:
        LabError: there was none within `seconds`; the text ends with what `shown` returns.
    """
    deadline = time.monotonic() + seconds
    while True:
        if answer := check():
            return answer
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:g} s in vain for {what}\n{shown()}".rstrip())
        time.sleep(POLL_S)
