"""The words for the end of a connection: one vocabulary on the wire, in logs, SQL and UI.

Law: only closed sets of words, total tables over them, and the numbers that stand for a word elsewhere.
A reason says *what* happened, never who did it or where it was seen; an initiator says *who*; a basis
says *how we know*. Words are closed here and open on the wire: `Reason.read` turns a word of a newer
peer into `unknown` instead of failing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ConnectType(StrEnum):
    """Which two parties a connection joins (a contract with readers of the logs)."""

    SERVER_TO_AGENT = "server_to_agent"
    AGENT_TO_CLIENT = "agent_to_client"
    CLIENT_TO_SERVER = "client_to_server"


class Reason(StrEnum):
    """What happened. The first eight are the public words that old readers know."""

    GRACEFUL = "graceful"
    CLIENT_CLOSED = "client_closed"
    SERVER_SHUTDOWN = "server_shutdown"
    NETWORK_ERROR = "network_error"
    PROTOCOL_ERROR = "protocol_error"
    WORKSPACE_STOPPED = "workspace_stopped"
    CONTROL_PLANE_LOST = "control_plane_lost"
    UNKNOWN = "unknown"
    IDLE_TIMEOUT = "idle_timeout"
    SESSION_EXPIRED = "session_expired"
    ACCESS_REVOKED = "access_revoked"
    SUPERSEDED = "superseded"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    PROCESS_CRASHED = "process_crashed"
    PEER_UNRESPONSIVE = "peer_unresponsive"
    CLIENT_SUSPENDED = "client_suspended"
    PATH_CHANGED = "path_changed"

    @classmethod
    def read(cls, word: str) -> Reason:
        """The reason that `word` names; `UNKNOWN` for a word of a newer peer."""
        return cls(word) if word in cls._value2member_map_ else cls.UNKNOWN


class Initiator(StrEnum):
    """Who began the end. `UNTOLD` is printed as the empty string: it could not be told."""

    CLIENT = "client"
    AGENT = "agent"
    SERVER = "server"
    NETWORK = "network"
    UNTOLD = ""


class Basis(StrEnum):
    """How we know. Strongest first."""

    DECLARED = "declared"
    OBSERVED = "observed"
    INFERRED = "inferred"


class Confidence(StrEnum):
    """How far to trust a verdict: `high` was said or seen, `low` is left when all else is ruled out."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Vantage(StrEnum):
    """Who saw a fact."""

    CLIENT = "client"
    RELAY = "relay"
    SERVER = "server"
    AGENT = "agent"


class Party(StrEnum):
    """A program at one end of a stream, or the relay between two of them."""

    CLIENT = "client"
    RELAY = "relay"
    SERVER = "server"
    AGENT = "agent"


class ConnectionType(StrEnum):
    """What ran over a connection, as users name it."""

    SSH = "ssh"
    VSCODE = "vscode"
    JETBRAINS = "jetbrains"
    RECONNECTING_PTY = "reconnecting_pty"
    PORT_FORWARD = "port_forward"
    SFTP = "sftp"
    TUNNEL = "tunnel"
    CONTROL = "control"


class ConnectionMethod(StrEnum):
    """How tunnel bytes travelled. `NONE` where a connection has no carrier of its own."""

    DIRECT = "direct"
    DERP = "derp"
    NONE = ""


class Purpose(StrEnum):
    """What the agent is asked to serve on a tunnel."""

    SSH = "ssh"
    PROBE = "probe"  # `tether ping`, `tether speedtest`: echoes, sinks and sources of bytes
    TERMINAL = "terminal"  # a terminal in a browser, sealed end to end


class StreamEnd(StrEnum):
    """How a byte stream stopped, as its reader saw it. None of these is a goodbye."""

    CLOSED = "closed"  # a WebSocket close frame arrived, with or without a code
    EOF = "eof"  # FIN without a close frame: a process ended, or a middlebox closed
    RESET = "reset"  # RST
    TIMED_OUT = "timed_out"  # the kernel gave up: ETIMEDOUT and its kin
    UNREACHABLE = "unreachable"  # EHOSTUNREACH, ENETUNREACH
    SILENT = "silent"  # the observer gave up: nothing was heard for too long
    ABORTED = "aborted"  # the observer's own kernel cut the stream (ECONNABORTED)
    OTHER = "other"


class Reach(StrEnum):
    """How far the observer of a TCP connection can see: its kernel witnesses nothing beyond a proxy."""

    DIRECT = "direct"  # the peer's own kernel is at the other end
    TRANSLATED = "translated"  # the addresses differ at the two ends: a NAT, or a proxy
    PROXIED = "proxied"  # something in between ends TCP, and opens it anew
    UNKNOWN = "unknown"  # nobody has told


ABRUPT_ENDS = (
    StreamEnd.EOF,
    StreamEnd.RESET,
    StreamEnd.CLOSED,
    StreamEnd.OTHER,
    StreamEnd.ABORTED,
)
"""The stream stopped at one moment."""

SILENT_ENDS = (StreamEnd.SILENT, StreamEnd.TIMED_OUT, StreamEnd.UNREACHABLE)
"""Nothing more was heard, until somebody gave up."""

SILENCE_CODE = 4408
"""WebSocket close code: the peer is given up, because nothing was heard from it for too long."""

BLOCKED_EXIT_CODE = 65
"""What a session exits with that policy refused."""

AGENT_FAILED_EXIT_CODE = 229
"""What a session exits with that the agent could not start."""


class AccessRefusal(StrEnum):
    """Why an SSH key or a token was not let in."""

    UNKNOWN_KEY = "unknown_key"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    WRONG_WORKSPACE = "wrong_workspace"
    WRONG_USER = "wrong_user"
    USER_REVOKED = "user_revoked"


class HandshakeStage(StrEnum):
    """How far an SSH handshake had come: what the client had not done yet is next."""

    NOTHING = "nothing"
    """It had not said which software it is."""
    VERSION = "version"
    """It had said that, and not yet sent its algorithms."""
    HOST_KEY = "host_key"
    """It had been sent the host key, and not taken the new keys into use."""
    LOGIN = "login"
    """It had accepted the host key, and was not let in."""


class DialStage(StrEnum):
    """How far a dial came before it failed."""

    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    PROXY = "proxy"  # a proxy on our side refused, or asked for credentials
    HTTP = "http"  # something other than our server answered, or our server refused
    AUTH = "auth"  # the server refused the credential
    OTHER = "other"  # something was raised that no table of ours foresees


class Resource(StrEnum):
    """What a machine can run out of."""

    CPU = "cpu"
    MEMORY = "memory"
    IO = "io"
    DISK = "disk"
    DESCRIPTORS = "descriptors"
    PROCESSES = "processes"


class OomVictim(StrEnum):
    """Whom the kernel killed for want of memory, seen from our process."""

    SELF = "self"
    CHILD = "child"  # of a session
    OTHER = "other"


class Element(StrEnum):
    """What several connections may share and lose at once. Widest last."""

    CLIENT = "client"
    AGENT = "agent"
    NODE = "node"  # the machine that agents run on: one boot id
    RELAY = "relay"
    SERVER = "server"


class Correction(StrEnum):
    """What may show that a cause, as one end alone looked, was another one."""

    INTENT = "intent"  # somebody had asked for it (of an unplanned end, always looked up)
    SAME_HOST = "same_host"  # other agents of the machine ended with it
    SAME_RELAY = "same_relay"  # what else the relay lost then, or still carries
    CONTROL_LINK = "control_link"  # that of one of the tunnel's ends tells which way was lost
    RETURN = "return"  # the party dialled again


class Policy(StrEnum):
    """A switch of the workspace's owner that refuses something to every client."""

    BLOCK_FILE_TRANSFER = "block_file_transfer"
    BLOCK_LOCAL_FORWARDING = "block_local_forwarding"
    BLOCK_REMOTE_FORWARDING = "block_remote_forwarding"


PUBLIC_REASONS: frozenset[Reason] = frozenset(list(Reason)[:8])
"""The vocabulary of the original system; every other reason maps onto one of these (`COARSE`)."""

COARSE: Mapping[Reason, Reason] = {
    **{reason: reason for reason in PUBLIC_REASONS},
    Reason.IDLE_TIMEOUT: Reason.SERVER_SHUTDOWN,
    Reason.SESSION_EXPIRED: Reason.SERVER_SHUTDOWN,
    Reason.ACCESS_REVOKED: Reason.SERVER_SHUTDOWN,
    Reason.SUPERSEDED: Reason.SERVER_SHUTDOWN,
    Reason.RESOURCE_EXHAUSTED: Reason.NETWORK_ERROR,
    Reason.PROCESS_CRASHED: Reason.NETWORK_ERROR,
    Reason.PEER_UNRESPONSIVE: Reason.NETWORK_ERROR,
    Reason.CLIENT_SUSPENDED: Reason.NETWORK_ERROR,
    Reason.PATH_CHANGED: Reason.NETWORK_ERROR,
}
"""The word an old reader gets for each reason. Total over `Reason`."""

TITLES: Mapping[Reason, str] = {
    Reason.GRACEFUL: "Ended normally",
    Reason.CLIENT_CLOSED: "Closed by the client",
    Reason.SERVER_SHUTDOWN: "A planned shutdown",
    Reason.NETWORK_ERROR: "The network failed",
    Reason.PROTOCOL_ERROR: "A peer broke the protocol",
    Reason.WORKSPACE_STOPPED: "The workspace was stopped",
    Reason.CONTROL_PLANE_LOST: "The control plane was lost",
    Reason.UNKNOWN: "Not known",
    Reason.IDLE_TIMEOUT: "Idle for too long",
    Reason.SESSION_EXPIRED: "The session or its credentials expired",
    Reason.ACCESS_REVOKED: "Access was refused or withdrawn",
    Reason.SUPERSEDED: "Replaced by a newer connection",
    Reason.RESOURCE_EXHAUSTED: "A resource ran out",
    Reason.PROCESS_CRASHED: "A process crashed or was killed",
    Reason.PEER_UNRESPONSIVE: "A peer stopped answering",
    Reason.CLIENT_SUSPENDED: "The client was suspended",
    Reason.PATH_CHANGED: "The network path changed",
}
"""A heading for people. Total over `Reason`."""
