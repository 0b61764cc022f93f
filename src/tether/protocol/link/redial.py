"""Whether a control link is dialled again, and when: one table for agents, clients and relays.

Law: no I/O, no clock and no randomness (the caller passes the jitter). Whatever becomes of a dial, or
of the link that came of it, is one `Attempt`; `Redial.after` says what follows. A failure that nobody
foresaw is an attempt like any other: it is dialled again. Its types are msgspec's, which take a tenth
of the time to import: every `ssh` does.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeAlias, assert_never

import msgspec

from tether.protocol.backoff import USEFUL_AFTER_S, Backoff
from tether.protocol.messages.control import Goodbye

FIRST_S, MOST_S = 0.1, 10.0
"""The backoff's shortest and longest wait between two dials, in seconds."""

EARLY_S, EARLY_MOST_S = 60.0, 2.0
"""While the waits of an outage add up to less than the first, none is longer than the second, in s:
a server that was restarted is back by then, and users come with it."""

TOKEN_REJECTIONS = frozenset(
    {"token_unknown", "token_revoked", "token_expired", "workspace_deleted", "user_revoked"}
)
"""The server's codes of a 401 after which dialling again cannot help. A proxy's 401 has none of them."""

WRONG_TOKEN = "wrong_token"
"""The server's code of a 403: the token is of another kind of program."""


REPLACEABLE = frozenset({"token_unknown", "token_revoked", "token_expired"})
"""Those of `TOKEN_REJECTIONS` that another token would not get."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one dial, and of the link that came of it."""

    leaving: bool = False
    """Whether this program was asked to dial no more."""

    wanted: bool = True
    """Whether anybody has a use for another link."""

    status: int = 0
    """The HTTP status of a refused dial; 0 where none arrived."""

    code: str = ""
    """The server's code of that refusal."""

    message: str = ""
    """The sentence of a failed dial."""

    goodbye: Goodbye | None = None
    """The server's goodbye, instead of a welcome or at the link's end."""

    token_may_change: bool = False
    """Whether this program was welcomed before, and is told when there is another token for it."""

    lived_s: float = 0.0
    """Seconds from the welcome to the link's end; 0 for a failed dial."""


class DialAgain(msgspec.Struct, frozen=True):
    """Dial again after `wait_s` seconds."""

    wait_s: float


class AwaitToken(msgspec.Struct, frozen=True):
    """Dial again when there is another token. `message` is the server's sentence about this one."""

    message: str


class Stopped(msgspec.Struct, frozen=True):
    """No further link was wanted."""


class TokenRejected(msgspec.Struct, frozen=True):
    """The server does not take this program's token. `message` is its sentence."""

    message: str


class Dismissed(msgspec.Struct, frozen=True):
    """The server said goodbye for ever."""

    goodbye: Goodbye


Outcome: TypeAlias = Stopped | TokenRejected | Dismissed
"""Why no link is dialled any more."""

NextStep: TypeAlias = DialAgain | AwaitToken | Outcome


class Decision(Enum):
    AWAIT_TOKEN = auto()
    TOKEN_REJECTED = auto()
    DISMISSED = auto()
    STOPPED = auto()
    DIAL_AGAIN = auto()


class RedialRule(msgspec.Struct, frozen=True):
    """One row of the table."""

    when: str
    holds: Callable[[Attempt], bool]
    decision: Decision


RULES = (
    RedialRule(
        "the server does not take this token any more, and another may come",
        lambda attempt: (
            attempt.token_may_change
            and not attempt.leaving
            and attempt.status == 401
            and attempt.code in REPLACEABLE
        ),
        Decision.AWAIT_TOKEN,
    ),
    RedialRule(
        "the server does not take the token",
        lambda attempt: (
            (attempt.status == 401 and attempt.code in TOKEN_REJECTIONS)
            or (attempt.status == 403 and attempt.code == WRONG_TOKEN)
        ),
        Decision.TOKEN_REJECTED,
    ),
    RedialRule(
        "the server said goodbye for ever",
        lambda attempt: attempt.goodbye is not None and attempt.goodbye.retry_after_s < 0,
        Decision.DISMISSED,
    ),
    RedialRule("this program is leaving", lambda attempt: attempt.leaving, Decision.STOPPED),
    RedialRule("nobody has a use for a link", lambda attempt: not attempt.wanted, Decision.STOPPED),
    RedialRule(
        "anything else, a failure unknown to us included", lambda _: True, Decision.DIAL_AGAIN
    ),
)
"""The first row that holds decides."""


class Redial:
    """Decides after each attempt, and keeps the backoff from one attempt to the next."""

    def __init__(self, *, first_s: float = FIRST_S, most_s: float = MOST_S) -> None:
        """`first_s` and `most_s` bound the wait; the server's own `retry_after_s` may exceed it."""
        self._backoff = Backoff(first=first_s, most=most_s)
        self._waited_s = 0.0
        """How long was waited since the last link that was of use."""

    def after(self, attempt: Attempt, jitter: float) -> NextStep:
        """What follows `attempt`.

        Args:
            attempt: the last one.
            jitter: a random number in [0, 1), see `Backoff.delay`.
        """
        self._backoff.lived(attempt.lived_s)
        if attempt.lived_s >= USEFUL_AFTER_S:
            self._waited_s = 0.0
        goodbye = attempt.goodbye
        match next(rule for rule in RULES if rule.holds(attempt)).decision:
            case Decision.AWAIT_TOKEN:
                return AwaitToken(attempt.message)
            case Decision.TOKEN_REJECTED:
                return TokenRejected(attempt.message)
            case Decision.DISMISSED:
                assert goodbye is not None, "the rule looked at it"
                return Dismissed(goodbye)
            case Decision.STOPPED:
                return Stopped()
            case Decision.DIAL_AGAIN:
                hint_s = 0.0 if goodbye is None else goodbye.retry_after_s
                return DialAgain(self._wait_s(jitter, hint_s))
            case unreachable:
                assert_never(unreachable)

    def _wait_s(self, jitter: float, hint_s: float) -> float:
        wait_s = self._backoff.delay(jitter)
        if self._waited_s < EARLY_S:
            wait_s = min(wait_s, EARLY_MOST_S * (1.0 - jitter / 2.0))
        wait_s = max(wait_s, hint_s)
        self._waited_s += wait_s
        return wait_s
