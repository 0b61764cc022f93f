"""The catalogue of causes: one table, one row for each.

Law: reason, initiator and expected are columns here and nowhere else; every site names a cause by
its code and derives the rest, so that the fields of one end can never contradict each other. Every
cause has an emitter or a rule in `rules`, and a test that produces it. The rows lie in this package's
modules, one a party or a subject; nobody imports those but this one.

`sentence` tells the user what happened, `advice` what to do about it. Both may use the placeholders
`{exit_code}`, `{exit_signal}`, `{actor}` and `{workspace}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tether.attribution.causes import (
    agent,
    client,
    codes,
    control_plane,
    decisions,
    ide,
    network,
    server,
    session,
)
from tether.attribution.causes.cause import Cause
from tether.attribution.vocabulary import (
    AccessRefusal,
    Initiator,
    Party,
    Policy,
    Reason,
    Resource,
)

_HONESTY = Cause(
    codes.UNKNOWN,
    Reason.UNKNOWN,
    Initiator.UNTOLD,
    False,
    "Not known",
    "Nobody could tell why this connection ended.",
    "This counts as a bug in Tether: please report it with the evidence that `tether explain` "
    "shows.",
)

_ROWS: tuple[Cause, ...] = (
    *session.ROWS,
    *client.ROWS,
    *agent.ROWS,
    *server.ROWS,
    *control_plane.ROWS,
    *network.ROWS,
    *decisions.ROWS,
    *ide.ROWS,
    _HONESTY,
)

CATALOGUE: Mapping[str, Cause] = {row.code: row for row in _ROWS}

WORKSPACE_STOPS: Mapping[str, str] = {
    "user": codes.WORKSPACE_STOPPED,
    "autostop": "workspace.autostop",
    "deleted": codes.WORKSPACE_DELETED,
    "evicted": "workspace.evicted",
}
"""`tether workspace stop --reason WORD` -> cause."""

EXHAUSTIONS: Mapping[Resource, str] = {
    Resource.DESCRIPTORS: "agent.descriptors_exhausted",
    Resource.PROCESSES: "agent.processes_exhausted",
}
"""What an agent had no more of when it was to start a session -> cause."""

POLICY_REFUSALS: Mapping[Policy, str] = {
    Policy.BLOCK_FILE_TRANSFER: "policy.file_transfer_blocked",
    Policy.BLOCK_LOCAL_FORWARDING: "policy.local_forwarding_blocked",
    Policy.BLOCK_REMOTE_FORWARDING: "policy.remote_forwarding_blocked",
}
"""Which switch refused -> cause, most telling first."""

PROTOCOL_ERRORS: Mapping[Party, str] = {
    Party.CLIENT: "client.protocol_error",
    Party.AGENT: "agent.protocol_error",
    Party.SERVER: "server.protocol_error",
    Party.RELAY: "server.protocol_error",
}
"""Who broke the protocol -> cause."""

INTERNAL_ERRORS: Mapping[Party, str] = {
    Party.AGENT: codes.AGENT_INTERNAL_ERROR,
    Party.SERVER: "server.internal_error",
    Party.RELAY: "relay.crashed",
    Party.CLIENT: codes.CLIENT_INTERNAL_ERROR,
}
"""Whose bug it was -> cause."""

SLOW_READERS: Mapping[Party, str] = {
    Party.AGENT: "agent.not_reading",
    Party.SERVER: "server.overloaded",
    Party.RELAY: "server.overloaded",
    Party.CLIENT: "client.not_reading",
}
"""Who did not take what was sent to it -> cause."""

ACCESS_REFUSALS: Mapping[AccessRefusal, str] = {
    AccessRefusal.USER_REVOKED: codes.AUTH_USER_REVOKED,
    AccessRefusal.CERTIFICATE_EXPIRED: "auth.certificate_expired",
    AccessRefusal.CERTIFICATE_NOT_YET_VALID: "auth.certificate_expired",
    AccessRefusal.WRONG_WORKSPACE: "auth.certificate_refused",
    AccessRefusal.WRONG_USER: "auth.certificate_refused",
    AccessRefusal.UNKNOWN_KEY: "auth.key_refused",
}
"""Why a credential was refused -> cause, most telling first."""


def cause_of(code: str) -> Cause:
    """The row of `code`; the row `unknown` for a code of a newer peer."""
    return CATALOGUE.get(code, CATALOGUE[codes.UNKNOWN])


def codes_where(holds: Callable[[Cause], bool]) -> tuple[str, ...]:
    """The codes of the rows of which `holds` is true, in the order of the catalogue."""
    return tuple(row.code for row in CATALOGUE.values() if holds(row))
