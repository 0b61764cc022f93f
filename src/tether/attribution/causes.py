"""The cause catalogue: one table, one row per cause.

Law: reason, initiator and expected are columns here and nowhere else; every site names a cause by
its code and derives the rest, so that the fields of one end can never contradict each other. Every
cause has an emitter or a rule in `rules.py`, and a test that produces it.

`sentence` tells the user what happened, `advice` what to do about it. Both may use the placeholders
`{exit_code}`, `{exit_signal}`, `{actor}` and `{workspace}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tether.attribution.vocabulary import COARSE, Initiator, Party, Policy, Reason


@dataclass(frozen=True, slots=True)
class Cause:
    """One way a connection can end."""

    code: str
    reason: Reason
    initiator: Initiator
    expected: bool
    title: str
    sentence: str
    advice: str

    @property
    def coarse_reason(self) -> Reason:
        """The word of the original vocabulary, for old readers."""
        return COARSE[self.reason]


UNKNOWN = "unknown"

_CLIENT, _AGENT = Initiator.CLIENT, Initiator.AGENT
_SERVER, _NETWORK, _UNTOLD = Initiator.SERVER, Initiator.NETWORK, Initiator.UNTOLD
_NOTHING = "Nothing needs to be done."

_ROWS: tuple[Cause, ...] = (
    # -- the session did what it was asked to do ------------------------------------------------
    Cause(
        "session.exit",
        Reason.GRACEFUL,
        _CLIENT,
        True,
        "The command or shell ended",
        "The command or shell ended with exit code {exit_code}.",
        _NOTHING,
    ),
    Cause(
        "session.forwarded",
        Reason.GRACEFUL,
        _CLIENT,
        True,
        "The forwarded connection ended",
        "The one connection that ssh was started to forward (`ssh -W`, or a jump) ended, and ssh "
        "with it.",
        _NOTHING,
    ),
    Cause(
        "session.signal",
        Reason.GRACEFUL,
        _CLIENT,
        True,
        "The remote command was ended by a signal",
        "The remote command was ended by signal {exit_signal}; the connection itself was fine.",
        "If nobody meant to end it, look at what sent the signal inside the workspace.",
    ),
    Cause(
        "session.detached",
        Reason.CLIENT_CLOSED,
        _CLIENT,
        True,
        "Detached from a terminal that lives on",
        "The client detached from the terminal, which lives on in the workspace.",
        "Attach to it again with `tether attach {workspace}`.",
    ),
    Cause(
        "session.idle_expired",
        Reason.IDLE_TIMEOUT,
        _AGENT,
        True,
        "A terminal that nobody looked at was ended",
        "The terminal had no viewer for longer than the workspace allows, so the agent ended it.",
        "Start a new one; raise the agent's idle time for terminals if it is too short.",
    ),
    Cause(
        "session.killed",
        Reason.CLIENT_CLOSED,
        _CLIENT,
        True,
        "A terminal was ended on request",
        "The terminal was ended on request by {actor}.",
        _NOTHING,
    ),
    Cause(
        "session.refused",
        Reason.RESOURCE_EXHAUSTED,
        _AGENT,
        False,
        "No terminal could be had",
        "The agent could not give a terminal: a limit was reached or the machine had none left.",
        "End terminals that nobody needs with `tether attach {workspace} --kill ID`, then try again.",
    ),
    # -- the client ------------------------------------------------------------------------------
    Cause(
        "client.closed",
        Reason.CLIENT_CLOSED,
        _CLIENT,
        True,
        "The client closed the connection",
        "The client closed the connection: the user disconnected, closed the terminal, or the "
        "client program was asked to stop.",
        _NOTHING,
    ),
    Cause(
        "client.ssh_killed",
        Reason.PROCESS_CRASHED,
        _CLIENT,
        False,
        "The ssh program was killed or crashed",
        "The ssh program on the client's machine was killed or crashed: it left an open session "
        "without disconnecting, while its tether process lived on.",
        "Look at the client's machine: out of memory, a crash, or a `kill -9`.",
    ),
    Cause(
        "client.vanished",
        Reason.PROCESS_CRASHED,
        _CLIENT,
        False,
        "The client's processes were killed or crashed",
        "The client's processes were killed or crashed: their connection ended at once, without a "
        "goodbye.",
        "Look at the client's machine: out of memory, a crash, a forced logout, or a `kill -9`.",
    ),
    Cause(
        "client.protocol_error",
        Reason.PROTOCOL_ERROR,
        _CLIENT,
        False,
        "The client broke the protocol",
        "The client sent something that is not part of the protocol, so the connection was ended.",
        "Check that the client program is what it should be, and its version.",
    ),
    Cause(
        "client.handshake_timeout",
        Reason.PEER_UNRESPONSIVE,
        _CLIENT,
        False,
        "The client did not finish its handshake",
        "The client connected but did not finish its handshake in time.",
        "Try again; if it recurs, look for a stalled client or a middlebox that delays data.",
    ),
    Cause(
        "client.unreachable",
        Reason.NETWORK_ERROR,
        _NETWORK,
        False,
        "The client could no longer be reached",
        "The client could no longer be reached: its connection fell silent.",
        "Check the client's network, VPN and power settings; reconnect when it is back.",
    ),
    # -- the agent -------------------------------------------------------------------------------
    Cause(
        "agent.shutdown",
        Reason.SERVER_SHUTDOWN,
        _AGENT,
        True,
        "The workspace's agent shut down",
        "The workspace's agent was asked to stop ({actor}) and ended its sessions in order.",
        "Reconnect when the agent is back; ask whoever stopped it if it was not you.",
    ),
    Cause(
        "agent.crashed",
        Reason.PROCESS_CRASHED,
        _AGENT,
        False,
        "The workspace's agent was killed or crashed",
        "The workspace's agent was killed or crashed and has come back; its sessions were lost.",
        "Reconnect. Look in the workspace for a `kill -9`, memory pressure or a crash report.",
    ),
    Cause(
        "agent.host_rebooted",
        Reason.PROCESS_CRASHED,
        _AGENT,
        False,
        "The workspace's machine restarted",
        "The workspace's machine restarted under a running agent; its sessions were lost.",
        "Reconnect. Ask who restarted the machine, or look for a crash of its kernel.",
    ),
    Cause(
        "agent.vanished",
        Reason.PROCESS_CRASHED,
        _AGENT,
        False,
        "The workspace's agent disappeared",
        "The workspace's agent disappeared without a goodbye: its process ended at once.",
        "Check whether the workspace still runs, and restart its agent.",
    ),
    Cause(
        "agent.unresponsive",
        Reason.PEER_UNRESPONSIVE,
        _AGENT,
        False,
        "The workspace's agent stopped answering",
        "The workspace's agent stopped answering although its machine still acknowledged data.",
        "Look for a frozen or starved agent process in the workspace.",
    ),
    Cause(
        "agent.unreachable",
        Reason.NETWORK_ERROR,
        _NETWORK,
        False,
        "The workspace could no longer be reached",
        "The workspace could no longer be reached: its connection fell silent.",
        "Check the workspace's network and whether its machine still runs.",
    ),
    Cause(
        "agent.superseded",
        Reason.SUPERSEDED,
        _SERVER,
        False,
        "A second agent took over this workspace",
        "A second agent connected with the same token, and the server ended the older connection.",
        "Run one agent per workspace: look for a copied token or a cloned machine.",
    ),
    Cause(
        "agent.protocol_error",
        Reason.PROTOCOL_ERROR,
        _AGENT,
        False,
        "The agent broke the protocol",
        "The agent sent something that is not part of the protocol, so the connection was ended.",
        "Check the agent's version against the server's.",
    ),
    Cause(
        "agent.internal_error",
        Reason.PROCESS_CRASHED,
        _AGENT,
        False,
        "The agent failed internally",
        "The agent failed internally while it handled this connection.",
        "This is a bug in Tether: please report it with the agent's log.",
    ),
    # -- the server and its relay ------------------------------------------------------------------
    Cause(
        "server.shutdown",
        Reason.SERVER_SHUTDOWN,
        _SERVER,
        True,
        "The control plane shut down",
        "The control plane was asked to stop ({actor}) and said goodbye.",
        "Reconnect when it is back; a restart or an upgrade takes seconds.",
    ),
    Cause(
        "server.crashed",
        Reason.CONTROL_PLANE_LOST,
        _SERVER,
        False,
        "The control plane was killed or crashed",
        "The control plane was killed or crashed and has come back.",
        "Ask the operator to look at the server's log and memory around that time.",
    ),
    Cause(
        "server.vanished",
        Reason.CONTROL_PLANE_LOST,
        _SERVER,
        False,
        "The control plane went away",
        "The control plane went away without a goodbye.",
        "It is redialled on its own. If it stays away, ask the operator.",
    ),
    Cause(
        "server.unreachable",
        Reason.CONTROL_PLANE_LOST,
        _NETWORK,
        False,
        "The control plane could no longer be reached",
        "The control plane could no longer be reached: its connection fell silent.",
        "Check the network between this machine and the server.",
    ),
    Cause(
        "server.protocol_error",
        Reason.PROTOCOL_ERROR,
        _SERVER,
        False,
        "The server broke the protocol",
        "The server sent something that is not part of the protocol, so the connection was ended.",
        "Check the server's version, and for a proxy that alters traffic.",
    ),
    Cause(
        "relay.crashed",
        Reason.PROCESS_CRASHED,
        _SERVER,
        False,
        "The relay was killed or crashed",
        "The relay that carried this connection was killed or crashed.",
        "Reconnect. Ask the operator to look at the relay's log around that time.",
    ),
    Cause(
        "relay.unreachable",
        Reason.NETWORK_ERROR,
        _NETWORK,
        False,
        "The relay could no longer be reached",
        "The relay that carried this connection could no longer be reached.",
        "Check the network between this machine and the relay.",
    ),
    # -- somebody decided --------------------------------------------------------------------------
    Cause(
        "workspace.stopped",
        Reason.WORKSPACE_STOPPED,
        _SERVER,
        True,
        "The workspace was stopped",
        "The workspace was stopped by {actor}.",
        "Start it again with `tether workspace start {workspace}`.",
    ),
    Cause(
        "workspace.autostop",
        Reason.WORKSPACE_STOPPED,
        _SERVER,
        True,
        "The workspace was stopped by its schedule",
        "The workspace was stopped by its autostop schedule.",
        "Start it again with `tether workspace start {workspace}`; change the schedule if it is "
        "too tight.",
    ),
    Cause(
        "workspace.deleted",
        Reason.WORKSPACE_STOPPED,
        _SERVER,
        True,
        "The workspace was deleted",
        "The workspace was deleted by {actor}.",
        "Create a new workspace, or ask whoever deleted it.",
    ),
    Cause(
        "workspace.evicted",
        Reason.WORKSPACE_STOPPED,
        _SERVER,
        True,
        "The workspace was evicted",
        "The platform evicted the workspace to reclaim its machine ({actor}).",
        "Start it again with `tether workspace start {workspace}`.",
    ),
    Cause(
        "auth.key_refused",
        Reason.ACCESS_REVOKED,
        _AGENT,
        False,
        "An unknown key was refused",
        "The agent refused an SSH key that the server does not vouch for.",
        "Connect through `tether ssh` or `tether config-ssh`; if it was not you, somebody tried.",
    ),
    Cause(
        "auth.certificate_expired",
        Reason.SESSION_EXPIRED,
        _SERVER,
        True,
        "The SSH certificate had expired",
        "The SSH certificate was outside its period of validity, so the agent refused it.",
        "Connect again: a fresh certificate is issued each time. Check both clocks if it recurs.",
    ),
    Cause(
        "auth.certificate_refused",
        Reason.ACCESS_REVOKED,
        _AGENT,
        False,
        "A certificate for something else was refused",
        "The agent refused an SSH certificate that was issued for another workspace or user.",
        "Connect through `tether ssh` or `tether config-ssh`; if it was not you, somebody tried.",
    ),
    Cause(
        "auth.user_revoked",
        Reason.ACCESS_REVOKED,
        _SERVER,
        True,
        "The user's access was withdrawn",
        "The user's access was withdrawn by {actor}.",
        "Ask an administrator if this was not meant.",
    ),
    Cause(
        "auth.token_revoked",
        Reason.ACCESS_REVOKED,
        _SERVER,
        True,
        "The token was withdrawn",
        "The token that opened this connection was withdrawn or replaced.",
        "Use the new token; ask an administrator if this was not meant.",
    ),
    Cause(
        "policy.file_transfer_blocked",
        Reason.ACCESS_REVOKED,
        _AGENT,
        True,
        "File transfer is switched off here",
        "The agent refused a file transfer, because the workspace does not allow any.",
        "Ask whoever runs the workspace; move text through the terminal or a repository meanwhile.",
    ),
    Cause(
        "policy.local_forwarding_blocked",
        Reason.ACCESS_REVOKED,
        _AGENT,
        True,
        "Forwarding into the workspace is switched off here",
        "The agent refused to forward a connection into the workspace, which does not allow it.",
        "Ask whoever runs the workspace if you need to reach a port or a socket in it.",
    ),
    Cause(
        "policy.remote_forwarding_blocked",
        Reason.ACCESS_REVOKED,
        _AGENT,
        True,
        "Forwarding out of the workspace is switched off here",
        "The agent refused to listen in the workspace for the client, which is not allowed there.",
        "Ask whoever runs the workspace if programs in it need to reach your machine.",
    ),
    # -- an IDE and its backend in the workspace ------------------------------------------------
    Cause(
        "ide.closed",
        Reason.CLIENT_CLOSED,
        _CLIENT,
        True,
        "The IDE was closed",
        "The IDE closed its connections to its backend in the workspace.",
        _NOTHING,
    ),
    Cause(
        "ide.backend_closed",
        Reason.GRACEFUL,
        _AGENT,
        True,
        "The IDE's backend closed its connections",
        "The IDE's backend in the workspace closed its connections to the IDE and runs on.",
        "If nobody meant to, look in the backend's log: another client may have taken its place.",
    ),
    Cause(
        "ide.backend_exited",
        Reason.GRACEFUL,
        _AGENT,
        True,
        "The IDE's backend ended",
        "The IDE's backend in the workspace ended normally.",
        "It starts again when the IDE connects again.",
    ),
    Cause(
        "ide.backend_failed",
        Reason.PROCESS_CRASHED,
        _AGENT,
        False,
        "The IDE's backend failed",
        "The IDE's backend in the workspace failed with exit code {exit_code}.",
        "Look in the backend's log (idea.log); connecting again starts a new one.",
    ),
    Cause(
        "ide.backend_killed",
        Reason.PROCESS_CRASHED,
        _AGENT,
        False,
        "The IDE's backend was killed",
        "The IDE's backend in the workspace was killed or crashed (signal {exit_signal}).",
        "If nobody meant to kill it, look for its crash report (java_error_in_*.log).",
    ),
    Cause(
        "ide.backend_oom_killed",
        Reason.RESOURCE_EXHAUSTED,
        _AGENT,
        False,
        "The IDE's backend ran out of memory",
        "The kernel killed the IDE's backend because the workspace ran out of memory.",
        "Give the workspace more memory, or lower the backend's heap (-Xmx) and close projects.",
    ),
    Cause(
        "ide.backend_gone",
        Reason.PROCESS_CRASHED,
        _AGENT,
        False,
        "The IDE's backend disappeared",
        "The IDE's backend in the workspace is gone, and the system did not tell how it ended.",
        "Look in the backend's log (idea.log); connecting again starts a new one.",
    ),
    # -- honesty -------------------------------------------------------------------------------------
    Cause(
        UNKNOWN,
        Reason.UNKNOWN,
        _UNTOLD,
        False,
        "Not known",
        "Nobody could tell why this connection ended.",
        "This counts as a bug in Tether: please report it with the evidence that `tether explain` "
        "shows.",
    ),
)

CATALOGUE: Mapping[str, Cause] = {row.code: row for row in _ROWS}

WORKSPACE_STOPS: Mapping[str, str] = {
    "user": "workspace.stopped",
    "autostop": "workspace.autostop",
    "deleted": "workspace.deleted",
    "evicted": "workspace.evicted",
}
"""`tether workspace stop --reason WORD` -> cause."""

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


def cause_of(code: str) -> Cause:
    """The row of `code`; the row `unknown` for a code of a newer peer."""
    return CATALOGUE.get(code, CATALOGUE[UNKNOWN])
