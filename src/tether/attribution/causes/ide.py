"""An IDE and its backend in the workspace.

Law: rows only; see `catalogue`.
"""

from __future__ import annotations

from tether.attribution.causes.cause import KERNEL_OOM, NOTHING, Cause
from tether.attribution.vocabulary import Initiator, Reason

ROWS: tuple[Cause, ...] = (
    Cause(
        "ide.closed",
        Reason.CLIENT_CLOSED,
        Initiator.CLIENT,
        True,
        "The IDE was closed",
        "The IDE closed its connections to its backend in the workspace.",
        NOTHING,
    ),
    Cause(
        "ide.backend_closed",
        Reason.GRACEFUL,
        Initiator.AGENT,
        True,
        "The IDE's backend closed its connections",
        "The IDE's backend in the workspace closed its connections to the IDE and runs on.",
        "If nobody meant to, look in the backend's log: another client may have taken its place.",
    ),
    Cause(
        "ide.backend_exited",
        Reason.GRACEFUL,
        Initiator.AGENT,
        True,
        "The IDE's backend ended",
        "The IDE's backend in the workspace ended normally.",
        "It starts again when the IDE connects again.",
    ),
    Cause(
        "ide.backend_failed",
        Reason.PROCESS_CRASHED,
        Initiator.AGENT,
        False,
        "The IDE's backend failed",
        "The IDE's backend in the workspace failed with exit code {exit_code}.",
        "Look in the backend's log (idea.log); connecting again starts a new one.",
    ),
    Cause(
        "ide.backend_killed",
        Reason.PROCESS_CRASHED,
        Initiator.AGENT,
        False,
        "The IDE's backend was killed",
        "The IDE's backend in the workspace was killed or crashed (signal {exit_signal}).",
        "If nobody meant to kill it, look for its crash report (java_error_in_*.log).",
    ),
    Cause(
        "ide.backend_oom_killed",
        Reason.RESOURCE_EXHAUSTED,
        Initiator.AGENT,
        False,
        "The IDE's backend ran out of memory",
        "The kernel killed the IDE's backend because the workspace ran out of memory.",
        "Give the workspace more memory, or lower the backend's heap (-Xmx) and close projects.",
        actor=KERNEL_OOM,
    ),
    Cause(
        "ide.backend_gone",
        Reason.PROCESS_CRASHED,
        Initiator.AGENT,
        False,
        "The IDE's backend disappeared",
        "The IDE's backend in the workspace is gone, and the system did not tell how it ended.",
        "Look in the backend's log (idea.log); connecting again starts a new one.",
    ),
)
