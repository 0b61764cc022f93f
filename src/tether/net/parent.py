"""Following a parent: a program that another one of ours started ends when that one ends.

Law: Linux only (prctl(2)); elsewhere a no-op. Call it first in the main thread. The variable is taken
out of the environment, so that programs that this one starts do not follow the same parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import MutableMapping

PARENT_VARIABLE = "TETHER_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def follow_parent(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Ask for SIGTERM when the parent named by `TETHER_PARENT_PID` dies, however it dies.

    Returns:
        False if that parent is gone already: end now. True without such a variable.
    """
    named = environ.pop(PARENT_VARIABLE, "")
    if not named.isdecimal():
        return True
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    return os.getppid() == int(named)  # checked last, so that no death in between is missed
