"""Short ways to write down a scenario's truths.

Law: data only; nothing here looks at what the log says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, Unpack

from tether_gauntlet.scenario import Truth

A2C, S2A, C2S = "agent_to_client", "server_to_agent", "client_to_server"
QUICK = ("--ping-every", "2", "--patience", "6")
"""Server options: control links that notice silence in 6 s instead of 45."""

CALM = ("--ping-every", "2", "--patience", "12")
"""Server options: a link outlives what its ends get over within 10 s."""

PATIENT = ("--ping-every", "2", "--patience", "20")
"""Server options: a link outlives whoever leaves it in order, however long that may take."""

LINKS = frozenset({C2S, S2A})

CUT = "network.middlebox_reset"
"""Something in between ended what both ends would have kept."""
DARK = ("network.path_lost", "client.unreachable")
"""Nothing passed between a client and the rest any more: the exact cause, and one that says less."""
AGENT_DARK = ("network.path_lost", "agent.unreachable")
"""The same of an agent."""


def of(truth: Truth, **where: str) -> Truth:
    """`truth` about the rows with these values only (`workspace="dev"`, `user="alice"`)."""
    return replace(truth, where=tuple(where.items()))


def links_cut(*causes: str, rows: int = 1, or_more: bool = False) -> tuple[Truth, Truth]:
    """The control links of agent and client were ended by the network, whoever began it."""
    said = causes or (CUT,)
    return (
        agent_link("network_error", "network", False, *said, rows=rows, or_more=or_more),
        client_link("network_error", "network", False, *said, rows=rows, or_more=or_more),
    )


class _More(TypedDict, total=False):
    """What else a truth may say; see `Truth`."""

    rows: int
    or_more: bool
    type: str
    one_incident: bool
    exit_code: int
    exit_signal: str


def _ended(
    connect_type: str, fields: tuple[str, str, bool], causes: tuple[str, ...], more: _More
) -> Truth:
    reason, initiator, expected = fields
    return Truth(
        connect_type=connect_type,
        reason=reason,
        initiator=initiator,
        expected=expected,
        causes=frozenset(causes),
        **more,
    )


def session(
    reason: str, initiator: str, expected: bool, *causes: str, **more: Unpack[_More]
) -> Truth:
    """A person's connection ended so."""
    return _ended(A2C, (reason, initiator, expected), causes, more)


def agent_link(
    reason: str, initiator: str, expected: bool, *causes: str, **more: Unpack[_More]
) -> Truth:
    """An agent's control link ended so."""
    return _ended(S2A, (reason, initiator, expected), causes, more)


def client_link(
    reason: str, initiator: str, expected: bool, *causes: str, **more: Unpack[_More]
) -> Truth:
    """A client's control link ended so."""
    return _ended(C2S, (reason, initiator, expected), causes, more)


CLIENT_LEFT = client_link("client_closed", "client", True, "client.closed")
"""The client's program said goodbye on its control link: part of every orderly end."""

CLIENT_DIED = client_link(
    "process_crashed", "client", False, "client.vanished", "client.crashed", "client.killed"
)
