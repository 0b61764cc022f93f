"""One case for each row of `rules.declared`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import (
    A2C,
    C2S,
    LOGGED_IN,
    PIPE_CLOSED,
    S2A,
    ended,
    exited,
    said,
    ssh_bye,
)
from tether.attribution.vocabulary import (
    BLOCKED_EXIT_CODE,
    AccessRefusal,
    Party,
    Policy,
    Resource,
    StreamEnd,
    Vantage,
)

EXAMPLES: tuple[Case, ...] = (
    Case(
        A2C,
        (
            LOGGED_IN,
            ev.Exhausted(
                vantage=Vantage.AGENT,
                at=1.9,
                party=Party.AGENT,
                resource=Resource.DESCRIPTORS,
                where="/",
            ),
            ev.InternalFailure(
                vantage=Vantage.AGENT, at=2.0, party=Party.AGENT, what="OSError: errno 24"
            ),
        ),
    ),
    Case(
        A2C,
        (
            LOGGED_IN,
            ev.InternalFailure(vantage=Vantage.AGENT, at=2.0, party=Party.AGENT, what="KeyError"),
            said(Party.AGENT, "agent.shutdown"),
        ),
    ),
    Case(
        S2A,
        (ev.Superseded(vantage=Vantage.SERVER, at=2.0, by_instance="i-2", turns=3),),
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
    Case(
        C2S,
        (
            ev.QueueOverflowed(
                vantage=Vantage.SERVER, at=2.0, party=Party.CLIENT, queue="outbox", limit=1 << 24
            ),
            ended(Party.CLIENT, StreamEnd.RESET, Vantage.SERVER),
        ),
    ),
    Case(
        S2A,
        (
            said(Party.AGENT, "agent.shutdown"),
            ev.IntentRecorded(
                vantage=Vantage.SERVER,
                at=3.0,
                intent="stop",
                cause="workspace.stopped",
                before_s=1.5,
                actor="user:alice",
            ),
        ),
    ),
    Case(A2C, (LOGGED_IN, said(Party.AGENT, "agent.shutdown"), ssh_bye(1))),
    Case(
        C2S,
        (
            ev.InternalFailure(vantage=Vantage.SERVER, at=2.0, party=Party.SERVER, what="KeyError"),
            ended(Party.CLIENT, StreamEnd.EOF, Vantage.SERVER),
        ),
    ),
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
