"""Signals by their names in SSH.

Law: tables only.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

# RFC 4254 section 6.10: the signals that have names there; others are named with an @.
NAMED: Mapping[str, int] = {
    number.name.removeprefix("SIG"): number
    for number in (
        *(signal.SIGABRT, signal.SIGALRM, signal.SIGFPE, signal.SIGHUP, signal.SIGILL),
        *(signal.SIGINT, signal.SIGKILL, signal.SIGPIPE, signal.SIGQUIT, signal.SIGSEGV),
        *(signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
    )
}

RECEIVED: Mapping[str, int] = {
    number.name.removeprefix("SIG"): int(number) for number in signal.Signals
}
"""What a client may send: every signal that this system has a name for."""
