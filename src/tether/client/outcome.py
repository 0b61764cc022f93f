"""What the end of a tunnel means for the user: who ended it, the sentence, the exit code.

Law: concludes by the rules and says it once. What the server said in words of its own is shown where
the rules know nothing better.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import UNKNOWN
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType, Initiator, Party, Vantage
from tether.client.errors import EXIT_CONNECTION_FAILED
from tether.protocol.carriers.commands import Over
from tether.text import printable


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to tell the user, and the exit code."""

    by: str
    """"local", "remote" or "failed": who ended the connection, or that none came up."""
    cause: str = ""
    sentence: str = ""
    code: int = 0


def judge(
    cell: CloseCell, left_for: str, workspace: str, refusal: str = "", told: str = ""
) -> Outcome:
    """What the end of a tunnel means for the user of the local `ssh`.

    Args:
        cell: what is known of the end.
        left_for: the actor, if we left while ssh was still there.
        workspace: the name to use in sentences.
        refusal: why ssh was not let in; ssh then leaves by itself.
        told: the server's own words about the end.
    """
    # The rules are read at the end, when nobody waits for us: 15 ms of each start.
    from tether.attribution.classify import classify
    from tether.attribution.explain import explain

    disconnect = classify(ConnectType.AGENT_TO_CLIENT, cell.facts).disconnect
    sentence = explain(disconnect, workspace).sentence
    if told and disconnect.cause == UNKNOWN:
        sentence = told[:1].upper() + told[1:] + ("" if told.endswith(".") else ".")
    if refusal:
        return Outcome("failed", disconnect.cause, refusal, EXIT_CONNECTION_FAILED)
    if left_for:
        return Outcome("local", disconnect.cause, sentence, EXIT_CONNECTION_FAILED)
    if disconnect.initiator is Initiator.CLIENT and disconnect.expected:
        return Outcome("local", disconnect.cause)
    return Outcome("remote", disconnect.cause, sentence, EXIT_CONNECTION_FAILED)


def fact_of(over: Over, at: float) -> Evidence:
    """Why no way will be found any more, as a fact for the tunnel's cell."""
    return ev.GoodbyeSaid(
        vantage=Vantage.CLIENT,
        at=at,
        by=Party.SERVER,
        cause=over.cause or UNKNOWN,
        actor=over.actor,
        detail=over.message,
    )


def say(sentence: str, *, in_session: bool = False) -> None:
    """One line on stderr, also where ssh holds the terminal in raw mode."""
    terminal = os.isatty(2)
    start, end = ("\r\n" if in_session and terminal else ""), ("\r\n" if terminal else "\n")
    line = printable(sentence)
    with contextlib.suppress(OSError):  # it may be that nobody is left to read it
        sys.stderr.write(f"{start}tether: {line}{end}")
        sys.stderr.flush()
