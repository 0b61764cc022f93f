"""The session did what it was asked to do, or the agent ended it for a reason of its own.

Law: rows only; see `catalogue`.
"""

from __future__ import annotations

from tether.attribution.causes import codes
from tether.attribution.causes.cause import KERNEL_OOM, NOTHING, Cause
from tether.attribution.vocabulary import Initiator, Reason

ROWS: tuple[Cause, ...] = (
    Cause(
        codes.SESSION_EXIT,
        Reason.GRACEFUL,
        Initiator.CLIENT,
        True,
        "The command or shell ended",
        "The command or shell ended with exit code {exit_code}.",
        NOTHING,
    ),
    Cause(
        "session.forwarded",
        Reason.GRACEFUL,
        Initiator.CLIENT,
        True,
        "The forwarded connection ended",
        "The one connection that ssh was started to forward (`ssh -W`, or a jump) ended, and ssh "
        "with it.",
        NOTHING,
    ),
    Cause(
        codes.SESSION_SIGNAL,
        Reason.GRACEFUL,
        Initiator.CLIENT,
        True,
        "The remote command was ended by a signal",
        "The remote command was ended by signal {exit_signal}; the connection itself was fine.",
        "If nobody meant to end it, look at what sent the signal inside the workspace.",
    ),
    Cause(
        codes.SESSION_DETACHED,
        Reason.CLIENT_CLOSED,
        Initiator.CLIENT,
        True,
        "Detached from a terminal that lives on",
        "The client detached from the terminal, which lives on in the workspace.",
        "Attach to it again with `tether attach {workspace}`.",
    ),
    Cause(
        codes.SESSION_IDLE_EXPIRED,
        Reason.IDLE_TIMEOUT,
        Initiator.AGENT,
        True,
        "A terminal that nobody looked at was ended",
        "The terminal had no viewer for longer than the workspace allows, so the agent ended it.",
        "Start a new one; raise the agent's idle time for terminals if it is too short.",
        ends_session=True,
    ),
    Cause(
        codes.SESSION_KILLED,
        Reason.CLIENT_CLOSED,
        Initiator.CLIENT,
        True,
        "A terminal was ended on request",
        "The terminal was ended on request by {actor}.",
        NOTHING,
        ends_session=True,
    ),
    Cause(
        codes.SESSION_REFUSED,
        Reason.RESOURCE_EXHAUSTED,
        Initiator.AGENT,
        False,
        "No terminal could be had",
        "The agent could not give a terminal: a limit was reached or the machine had none left.",
        "End terminals that nobody needs with `tether attach {workspace} --kill ID`, then try again.",
        ends_session=True,
    ),
    Cause(
        "session.oom_killed",
        Reason.GRACEFUL,
        Initiator.CLIENT,
        True,
        "The remote command was killed as memory ran out",
        "The kernel killed the remote command because the workspace ran out of memory; the "
        "connection itself was fine.",
        "Give the workspace more memory, or the command less to do at once.",
        actor=KERNEL_OOM,
    ),
)
