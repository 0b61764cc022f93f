"""The catalogue in the words of others: OpenTelemetry, OCSF, WebSocket close codes, SSH disconnects.

Law: total tables over reasons, and the few causes that have a better word; nothing reads them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tether.attribution.causes.cause import Cause
from tether.attribution.vocabulary import Reason

OCSF_CLOSE, OCSF_RESET, OCSF_FAIL, OCSF_REFUSE = 2, 3, 4, 5
"""`activity_id` of OCSF's Network Activity (class 4001)."""

OCSF_SUCCESS, OCSF_FAILURE = 1, 2
"""`status_id` of OCSF."""


@dataclass(frozen=True, slots=True)
class Outside:
    """One cause as other systems name it.

    `error_type` is OpenTelemetry's `error.type`: unset (None) where nothing went wrong. `ocsf_status_id`
    and `ocsf_activity_id` are OCSF's; `websocket` is a close code of RFC 6455 and the IANA registry,
    `ssh` a code of SSH_MSG_DISCONNECT (RFC 4253 section 11.1).
    """

    error_type: str | None
    ocsf_activity_id: int
    ocsf_status_id: int
    websocket: int
    ssh: int


class _Codes(NamedTuple):
    ocsf: int
    websocket: int
    ssh: int


_BY_REASON: Mapping[Reason, _Codes] = {
    Reason.GRACEFUL: _Codes(OCSF_CLOSE, 1000, 11),
    Reason.CLIENT_CLOSED: _Codes(OCSF_CLOSE, 1000, 11),
    Reason.SERVER_SHUTDOWN: _Codes(OCSF_CLOSE, 1001, 11),
    Reason.NETWORK_ERROR: _Codes(
        OCSF_FAIL, 1014, 10
    ),  # bad gateway; a lost stream itself carries no code
    Reason.PROTOCOL_ERROR: _Codes(OCSF_FAIL, 1002, 2),
    Reason.WORKSPACE_STOPPED: _Codes(OCSF_CLOSE, 1001, 11),
    Reason.CONTROL_PLANE_LOST: _Codes(OCSF_FAIL, 1012, 10),
    Reason.UNKNOWN: _Codes(OCSF_FAIL, 1011, 10),
    Reason.IDLE_TIMEOUT: _Codes(OCSF_CLOSE, 1008, 11),
    Reason.SESSION_EXPIRED: _Codes(OCSF_CLOSE, 1008, 14),
    Reason.ACCESS_REVOKED: _Codes(OCSF_REFUSE, 1008, 14),
    Reason.SUPERSEDED: _Codes(OCSF_CLOSE, 1008, 11),
    Reason.RESOURCE_EXHAUSTED: _Codes(OCSF_FAIL, 1013, 12),
    Reason.PROCESS_CRASHED: _Codes(OCSF_FAIL, 1011, 10),
    Reason.PEER_UNRESPONSIVE: _Codes(OCSF_FAIL, 1013, 10),
    Reason.CLIENT_SUSPENDED: _Codes(OCSF_FAIL, 1001, 10),
    Reason.PATH_CHANGED: _Codes(OCSF_FAIL, 1012, 10),
}

_BY_CAUSE: Mapping[str, Mapping[str, int]] = {
    "network.middlebox_reset": {"ocsf": OCSF_RESET},
    "network.nat_rebinding": {"ocsf": OCSF_RESET},
    "client.socket_destroyed": {"ocsf": OCSF_RESET},
    "agent.socket_destroyed": {"ocsf": OCSF_RESET},
    "auth.certificate_refused": {"ssh": 15},
    "relay.unresponsive": {"websocket": 1014},
}
"""Where a cause has a better word than its reason's."""


def outside(cause: Cause) -> Outside:
    """`cause` in the words of others."""
    codes = _BY_REASON[cause.reason]._replace(**_BY_CAUSE.get(cause.code, {}))
    return Outside(
        error_type=None if cause.expected else str(cause.reason),
        ocsf_activity_id=codes.ocsf,
        ocsf_status_id=OCSF_SUCCESS if cause.expected else OCSF_FAILURE,
        websocket=codes.websocket,
        ssh=codes.ssh,
    )
