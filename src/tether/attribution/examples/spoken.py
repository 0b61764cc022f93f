"""One case for each row of `rules.spoken`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.examples.facts import (
    A2C,
    LOGGED_IN,
    PIPE_CLOSED,
    S2A,
    ended,
    exited,
    said,
    ssh_bye,
)
from tether.attribution.predicates import BLOCKED_EXIT_CODE, Case
from tether.attribution.vocabulary import AccessRefusal, Party, Policy, StreamEnd, Vantage

EXAMPLES: tuple[Case, ...] = (
    Case(
        A2C,
        (
            LOGGED_IN,
            ev.InternalFailure(vantage=Vantage.AGENT, at=2.0, party=Party.AGENT, what="KeyError"),
            ended(Party.CLIENT, StreamEnd.EOF),
        ),
    ),
    Case(
        S2A,
        (
            ev.Superseded(vantage=Vantage.SERVER, at=2.0, by_instance="i-2"),
            said(Party.AGENT, "agent.shutdown"),
        ),
    ),
    Case(
        A2C,
        (
            ev.ProtocolViolated(
                vantage=Vantage.AGENT, at=2.0, by=Party.CLIENT, what="bad SSH version"
            ),
            ended(Party.CLIENT, StreamEnd.EOF),
        ),
    ),
    Case(A2C, (LOGGED_IN, said(Party.AGENT, "agent.shutdown"), ssh_bye(1))),
    Case(
        A2C,
        (
            ev.AccessRefused(vantage=Vantage.AGENT, at=1.0, why=AccessRefusal.UNKNOWN_KEY),
            PIPE_CLOSED,
        ),
    ),
    Case(
        A2C,
        (
            ev.HandshakeTimedOut(vantage=Vantage.AGENT, at=9.0, by=Party.CLIENT, after_s=30),
            PIPE_CLOSED,
        ),
    ),
    Case(
        A2C,
        (
            LOGGED_IN,
            ev.PolicyRefused(
                vantage=Vantage.AGENT, at=1.5, policy=Policy.BLOCK_FILE_TRANSFER, what="scp"
            ),
            exited(BLOCKED_EXIT_CODE),
            ssh_bye(0),
        ),
    ),
)
