"""The catalogue in the words of others: OpenTelemetry, OCSF, WebSocket close codes, SSH disconnects.

Law: total tables over reasons, and the few causes that have a better word; nothing reads them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


_OCSF: Mapping[Reason, int] = {
    Reason.GRACEFUL: OCSF_CLOSE,
    Reason.CLIENT_CLOSED: OCSF_CLOSE,
    Reason.SERVER_SHUTDOWN: OCSF_CLOSE,
    Reason.NETWORK_ERROR: OCSF_FAIL,
    Reason.PROTOCOL_ERROR: OCSF_FAIL,
    Reason.WORKSPACE_STOPPED: OCSF_CLOSE,
    Reason.CONTROL_PLANE_LOST: OCSF_FAIL,
    Reason.UNKNOWN: OCSF_FAIL,
    Reason.IDLE_TIMEOUT: OCSF_CLOSE,
    Reason.SESSION_EXPIRED: OCSF_CLOSE,
    Reason.ACCESS_REVOKED: OCSF_REFUSE,
    Reason.SUPERSEDED: OCSF_CLOSE,
    Reason.RESOURCE_EXHAUSTED: OCSF_FAIL,
    Reason.PROCESS_CRASHED: OCSF_FAIL,
    Reason.PEER_UNRESPONSIVE: OCSF_FAIL,
    Reason.CLIENT_SUSPENDED: OCSF_FAIL,
    Reason.PATH_CHANGED: OCSF_FAIL,
}

_WEBSOCKET: Mapping[Reason, int] = {
    Reason.GRACEFUL: 1000,
    Reason.CLIENT_CLOSED: 1000,
    Reason.SERVER_SHUTDOWN: 1001,
    Reason.NETWORK_ERROR: 1014,  # bad gateway; a lost stream itself carries no code
    Reason.PROTOCOL_ERROR: 1002,
    Reason.WORKSPACE_STOPPED: 1001,
    Reason.CONTROL_PLANE_LOST: 1012,
    Reason.UNKNOWN: 1011,
    Reason.IDLE_TIMEOUT: 1008,
    Reason.SESSION_EXPIRED: 1008,
    Reason.ACCESS_REVOKED: 1008,
    Reason.SUPERSEDED: 1008,
    Reason.RESOURCE_EXHAUSTED: 1013,
    Reason.PROCESS_CRASHED: 1011,
    Reason.PEER_UNRESPONSIVE: 1013,
    Reason.CLIENT_SUSPENDED: 1001,
    Reason.PATH_CHANGED: 1012,
}

_SSH: Mapping[Reason, int] = {
    Reason.GRACEFUL: 11,
    Reason.CLIENT_CLOSED: 11,
    Reason.SERVER_SHUTDOWN: 11,
    Reason.NETWORK_ERROR: 10,
    Reason.PROTOCOL_ERROR: 2,
    Reason.WORKSPACE_STOPPED: 11,
    Reason.CONTROL_PLANE_LOST: 10,
    Reason.UNKNOWN: 10,
    Reason.IDLE_TIMEOUT: 11,
    Reason.SESSION_EXPIRED: 14,
    Reason.ACCESS_REVOKED: 14,
    Reason.SUPERSEDED: 11,
    Reason.RESOURCE_EXHAUSTED: 12,
    Reason.PROCESS_CRASHED: 10,
    Reason.PEER_UNRESPONSIVE: 10,
    Reason.CLIENT_SUSPENDED: 10,
    Reason.PATH_CHANGED: 10,
}

_BY_CAUSE: Mapping[str, tuple[tuple[str, int], ...]] = {
    "network.middlebox_reset": (("ocsf", OCSF_RESET),),
    "network.nat_rebinding": (("ocsf", OCSF_RESET),),
    "client.socket_destroyed": (("ocsf", OCSF_RESET),),
    "agent.socket_destroyed": (("ocsf", OCSF_RESET),),
    "auth.certificate_refused": (("ssh", 15),),
    "relay.unresponsive": (("websocket", 1014),),
}
"""Where a cause has a better word than its reason's."""


def outside(cause: Cause) -> Outside:
    """`cause` in the words of others."""
    own = dict(_BY_CAUSE.get(cause.code, ()))
    return Outside(
        error_type=None if cause.expected else str(cause.reason),
        ocsf_activity_id=own.get("ocsf", _OCSF[cause.reason]),
        ocsf_status_id=OCSF_SUCCESS if cause.expected else OCSF_FAILURE,
        websocket=own.get("websocket", _WEBSOCKET[cause.reason]),
        ssh=own.get("ssh", _SSH[cause.reason]),
    )
