"""One case for each row of `rules.declared`, in its order.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import (
    LOGGED_IN,
    PIPE_CLOSED,
    a2c,
    c2s,
    ended,
    exited,
    s2a,
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
    a2c(
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
    a2c(
        LOGGED_IN,
        ev.InternalFailure(vantage=Vantage.AGENT, at=2.0, party=Party.AGENT, what="KeyError"),
        said(Party.AGENT, "agent.shutdown"),
    ),
    s2a(ev.Superseded(vantage=Vantage.SERVER, at=2.0, by_instance="i-2", turns=3)),
    s2a(
        ev.Superseded(vantage=Vantage.SERVER, at=2.0, by_instance="i-2"),
        said(Party.AGENT, "agent.shutdown"),
    ),
    a2c(
        ev.NoCommonAlgorithm(
            vantage=Vantage.AGENT, at=2.0, purpose="cipher", theirs="3des-cbc", ours="aes256-ctr"
        ),
        PIPE_CLOSED,
    ),
    a2c(
        ev.ProtocolViolated(vantage=Vantage.AGENT, at=2.0, by=Party.CLIENT, what="bad SSH version"),
        ended(Party.CLIENT, StreamEnd.EOF),
    ),
    c2s(
        ev.QueueOverflowed(
            vantage=Vantage.SERVER, at=2.0, party=Party.CLIENT, queue="outbox", limit=1 << 24
        ),
        ended(Party.CLIENT, StreamEnd.RESET, Vantage.SERVER),
    ),
    s2a(
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
    a2c(
        LOGGED_IN,
        said(Party.SERVER, "workspace.autostop"),
        said(Party.AGENT, "agent.shutdown"),
    ),
    a2c(LOGGED_IN, said(Party.AGENT, "agent.shutdown"), ssh_bye(1)),
    c2s(
        ev.InternalFailure(vantage=Vantage.SERVER, at=2.0, party=Party.SERVER, what="KeyError"),
        ended(Party.CLIENT, StreamEnd.EOF, Vantage.SERVER),
    ),
    a2c(
        ev.AccessRefused(vantage=Vantage.AGENT, at=1.0, why=AccessRefusal.UNKNOWN_KEY), PIPE_CLOSED
    ),
    a2c(
        ev.HandshakeTimedOut(vantage=Vantage.AGENT, at=9.0, by=Party.CLIENT, after_s=30),
        PIPE_CLOSED,
    ),
    a2c(
        LOGGED_IN,
        ev.PolicyRefused(
            vantage=Vantage.AGENT, at=1.5, policy=Policy.BLOCK_FILE_TRANSFER, what="scp"
        ),
        exited(BLOCKED_EXIT_CODE),
        ssh_bye(0),
    ),
)
