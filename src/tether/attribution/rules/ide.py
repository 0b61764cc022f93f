"""An IDE and its backend.

Law: rows only; see `table`.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.predicates.predicate import saw
from tether.attribution.predicates.sessions import (
    backend_out_of_memory,
    backend_signalled,
    backend_status_known,
)
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import Basis, Party

RULES: tuple[Rule, ...] = (
    Rule(
        "ide-backend-oom-killed",
        backend_out_of_memory,
        "ide.backend_oom_killed",
        Basis.INFERRED,
        "The backend was killed just as its memory cgroup counted an out-of-memory kill.",
    ),
    Rule(
        "ide-backend-killed",
        backend_signalled,
        "ide.backend_killed",
        Basis.OBSERVED,
        "The backend's process was ended by a signal.",
    ),
    Rule(
        "ide-backend-exited",
        saw(ev.IdeBackendGone, exit_code=0),
        "ide.backend_exited",
        Basis.OBSERVED,
        "The backend's process ended with exit code 0.",
    ),
    Rule(
        "ide-backend-failed",
        backend_status_known,
        "ide.backend_failed",
        Basis.OBSERVED,
        "The backend's process ended with a failing exit code.",
    ),
    Rule(
        "ide-backend-gone",
        saw(ev.IdeBackendGone),
        "ide.backend_gone",
        Basis.INFERRED,
        "The backend's process is gone, and its exit status could not be had.",
    ),
    Rule(
        "ide-closed",
        saw(ev.IdeChannelsClosed, by=Party.CLIENT),
        "ide.closed",
        Basis.OBSERVED,
        "The client closed the last connection to the backend.",
    ),
    Rule(
        "ide-backend-closed",
        saw(ev.IdeChannelsClosed),
        "ide.backend_closed",
        Basis.OBSERVED,
        "The backend closed the last connection and runs on.",
    ),
)
