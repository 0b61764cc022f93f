"""Somebody decided: a workspace's owner, an administrator, a schedule, a policy.

Law: rows only; see `catalogue`.
"""

from __future__ import annotations

from tether.attribution.causes import codes
from tether.attribution.causes.cause import Cause
from tether.attribution.vocabulary import Element, Initiator, Reason

ROWS: tuple[Cause, ...] = (
    Cause(
        codes.WORKSPACE_STOPPED,
        Reason.WORKSPACE_STOPPED,
        Initiator.SERVER,
        True,
        "The workspace was stopped",
        "The workspace was stopped by {actor}.",
        "Start it again with `tether workspace start {workspace}`.",
        element=Element.AGENT,
    ),
    Cause(
        "workspace.autostop",
        Reason.WORKSPACE_STOPPED,
        Initiator.SERVER,
        True,
        "The workspace was stopped by its schedule",
        "The workspace was stopped by its autostop schedule.",
        "Start it again with `tether workspace start {workspace}`; change the schedule if it is "
        "too tight.",
        element=Element.AGENT,
    ),
    Cause(
        codes.WORKSPACE_DELETED,
        Reason.WORKSPACE_STOPPED,
        Initiator.SERVER,
        True,
        "The workspace was deleted",
        "The workspace was deleted by {actor}.",
        "Create a new workspace, or ask whoever deleted it.",
        element=Element.AGENT,
    ),
    Cause(
        "workspace.evicted",
        Reason.WORKSPACE_STOPPED,
        Initiator.SERVER,
        True,
        "The workspace was evicted",
        "The platform evicted the workspace to reclaim its machine ({actor}).",
        "Start it again with `tether workspace start {workspace}`.",
        element=Element.AGENT,
    ),
    Cause(
        "auth.key_refused",
        Reason.ACCESS_REVOKED,
        Initiator.AGENT,
        False,
        "An unknown key was refused",
        "The agent refused an SSH key that the server does not vouch for.",
        "Connect through `tether ssh` or `tether config-ssh`; if it was not you, somebody tried.",
    ),
    Cause(
        "auth.never_authenticated",
        Reason.ACCESS_REVOKED,
        Initiator.AGENT,
        False,
        "The client did not log in",
        "The client left without having offered anything that the agent lets in: it takes the key or "
        "the certificate that comes with `tether`, and no password.",
        "Connect through `tether ssh` or `tether config-ssh`.",
    ),
    Cause(
        "auth.certificate_expired",
        Reason.SESSION_EXPIRED,
        Initiator.SERVER,
        True,
        "The SSH certificate had expired",
        "The SSH certificate was outside its period of validity, so the agent refused it.",
        "Connect again: a fresh certificate is issued each time. Check both clocks if it recurs.",
    ),
    Cause(
        "auth.certificate_refused",
        Reason.ACCESS_REVOKED,
        Initiator.AGENT,
        False,
        "A certificate for something else was refused",
        "The agent refused an SSH certificate that was issued for another workspace or user.",
        "Connect through `tether ssh` or `tether config-ssh`; if it was not you, somebody tried.",
    ),
    Cause(
        codes.AUTH_USER_REVOKED,
        Reason.ACCESS_REVOKED,
        Initiator.SERVER,
        True,
        "The user's access was withdrawn",
        "The user's access was withdrawn by {actor}.",
        "Ask an administrator if this was not meant.",
    ),
    Cause(
        codes.AUTH_TOKEN_REVOKED,
        Reason.ACCESS_REVOKED,
        Initiator.SERVER,
        True,
        "The token was withdrawn",
        "The token that opened this connection was withdrawn or replaced.",
        "Use the new token; ask an administrator if this was not meant.",
    ),
    Cause(
        codes.AUTH_CONNECTION_ENDED,
        Reason.ACCESS_REVOKED,
        Initiator.SERVER,
        True,
        "Somebody ended the connection",
        "The connection was ended by {actor}.",
        "Connect again, or ask whoever ended it.",
    ),
    Cause(
        "policy.file_transfer_blocked",
        Reason.ACCESS_REVOKED,
        Initiator.AGENT,
        True,
        "File transfer is switched off here",
        "The agent refused a file transfer, because the workspace does not allow any.",
        "Ask whoever runs the workspace; move text through the terminal or a repository meanwhile.",
    ),
    Cause(
        "policy.local_forwarding_blocked",
        Reason.ACCESS_REVOKED,
        Initiator.AGENT,
        True,
        "Forwarding into the workspace is switched off here",
        "The agent refused to forward a connection into the workspace, which does not allow it.",
        "Ask whoever runs the workspace if you need to reach a port or a socket in it.",
    ),
    Cause(
        "policy.remote_forwarding_blocked",
        Reason.ACCESS_REVOKED,
        Initiator.AGENT,
        True,
        "Forwarding out of the workspace is switched off here",
        "The agent refused to listen in the workspace for the client, which is not allowed there.",
        "Ask whoever runs the workspace if programs in it need to reach your machine.",
    ),
    Cause(
        codes.AUTH_TOKEN_EXPIRED,
        Reason.SESSION_EXPIRED,
        Initiator.SERVER,
        True,
        "The token had expired",
        "The token that opened this connection had expired.",
        "Log in again with `tether login`; make a token that lasts longer for programs.",
    ),
)
