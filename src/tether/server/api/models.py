"""The JSON of the REST API: what goes in, what comes out, and how it is described in OpenAPI.

Law: shapes, descriptions and examples only. The names are a contract with scripts: they are added to,
never renamed. Times are ISO-8601 in UTC, `2026-11-23T03:57:12.345Z`; inside they are unix seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, computed_field

from tether.attribution.causes.codes import AGENT_CRASHED, CLIENT_UNREACHABLE
from tether.attribution.vocabulary import (
    Basis,
    Confidence,
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Initiator,
    Reason,
    Vantage,
)
from tether.server.db.tables.accounts import Role
from tether.server.db.tables.connections import ConnectionStatus
from tether.server.db.tables.workspaces import WorkspaceState
from tether.server.times import iso
from tether.server.workspaces import AgentStatus, StopReason


def _as_text(at: object) -> object:
    return iso(at) if isinstance(at, float | int) else at


Time = Annotated[str, BeforeValidator(_as_text), Field(examples=["2026-11-23T03:57:12.345Z"])]
"""Made from unix seconds."""


class Model(BaseModel):
    """Base: unknown keys of a request are refused, so that a typing error is not ignored."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ApiModel(BaseModel):
    """Base of what the server sends."""

    model_config = ConfigDict(extra="ignore", from_attributes=True, use_attribute_docstrings=True)


# -- errors and health ------------------------------------------------------------------------


class ErrorBody(ApiModel):
    code: Annotated[str, Field(examples=["token_revoked"])]
    """A code for programs."""
    message: Annotated[str, Field(examples=["this token was revoked: use a new one"])]
    """One sentence for people."""


class Error(ApiModel):
    """Every answer that is not a success has this shape."""

    error: ErrorBody


class Health(ApiModel):
    status: Literal["ok"] = "ok"


class Readiness(Health):
    warnings: Annotated[list[str], Field(default_factory=list)]
    """What an operator should see to, in sentences; it can serve all the same."""


class Whoami(ApiModel):
    user: Annotated[str, Field(examples=["alice"])]
    role: Role
    server_version: Annotated[str, Field(examples=["0.1.0"])]


class Deleted(ApiModel):
    name: Annotated[str, Field(examples=["dev"])]
    deleted: Literal[True] = True


# -- users and tokens -------------------------------------------------------------------------


class NewUser(Model):
    name: Annotated[str, Field(examples=["alice"])]
    """1 to 32 of a-z, 0-9, '.', '_' and '-'; a letter or a digit at both ends. Never used twice."""
    role: Role = Role.MEMBER


class CreatedUser(ApiModel):
    name: str
    role: Role
    token: Annotated[str, Field(examples=["tether_user_…"])]
    """Shown once."""


class User(ApiModel):
    name: str
    role: Role
    created_at: Time
    revoked_at: Time | None
    revoked_by: Annotated[str, Field(examples=["admin:bob"])] | None


class NewToken(Model):
    name: Annotated[str, Field(examples=["laptop"])]
    """1 to 64 characters: what the token is for."""
    expires_in_s: float | None = None
    """Seconds, at most ten years; without it, the token lives until it is revoked."""
    kind: Literal["user", "relay"] = "user"
    """`relay`: for a `tether relay`; administrators only."""


class CreatedToken(ApiModel):
    token_id: str
    token: Annotated[str, Field(examples=["tether_user_…"])]
    """Shown once."""


class Token(ApiModel):
    token_id: str
    name: str
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    """May lag by a minute."""


class RevokedToken(ApiModel):
    token_id: str
    revoked: Literal[True] = True


class RevokedUser(ApiModel):
    name: str
    revoked: Literal[True] = True


# -- workspaces -------------------------------------------------------------------------------


class NewWorkspace(Model):
    name: Annotated[str, Field(examples=["dev"])]
    """1 to 32 of a-z, 0-9 and '-'; a letter or a digit at both ends."""


class CreatedWorkspace(ApiModel):
    workspace_id: str
    name: Annotated[str, Field(examples=["dev"])]
    agent_token: Annotated[str, Field(examples=["tether_agent_…"])]
    """Shown once: give it to the workspace's agent."""


class Agent(ApiModel):
    status: AgentStatus
    version: str | None
    hostname: str | None
    last_seen_at: Time | None
    lifecycle: Annotated[str | None, Field(examples=["ready"])] = None
    """The newest state of its life that it has reported: `created`, `starting`, `ready`,
    `shutting_down`, `shutdown_timeout`, `shutdown_error` or `off`."""
    lifecycle_at: Time | None = None
    """Since when, by the agent's clock."""
    home_region: Annotated[str, Field(examples=["fra"])] = ""
    """The DERP region that it would like to be met in; empty while it is not known."""
    region_latency_ms: Annotated[
        dict[str, float], Field(default_factory=dict, examples=[{"fra": 12.4}])
    ]
    """Each region's round trip from the agent, as it has measured it."""


class Workspace(ApiModel):
    workspace_id: str
    name: Annotated[str, Field(examples=["dev"])]
    owner: Annotated[str, Field(examples=["alice"])]
    state: WorkspaceState
    agent: Agent
    host_key: str | None
    """The agent's public SSH host key, one OpenSSH line; null until it has connected."""
    created_at: Time


class StopRequest(Model):
    reason: StopReason = StopReason.USER
    """Becomes the cause that everybody cut off by the stop will see."""


class AgentToken(ApiModel):
    agent_token: Annotated[str, Field(examples=["tether_agent_…"])]
    """Shown once; the tokens before it are dead."""


# -- connections ------------------------------------------------------------------------------


class EndRequest(Model):
    reason: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = ""
    """One line for those who are cut off, and for the record."""


class ConnectionView(ApiModel):
    """One connection. The `disconnect_…` fields are null while it is open."""

    connection_id: str
    parent_id: str | None = None
    """Of an IDE session: the SSH connection that it began on."""
    status: ConnectionStatus
    connect_type: ConnectType
    type: ConnectionType
    app: Annotated[str, Field(examples=["cursor"])] = ""
    """The program that gave it its type, where it is known."""
    workspace_id: str | None = None
    workspace: str | None = None
    agent: str | None = None
    """The agent's name within its workspace."""
    user: str | None = None
    client_ip: str | None = None
    connection_method: ConnectionMethod = ConnectionMethod.NONE
    client_session_id: str | None = None
    created_at: Time | None = None
    """When it was asked for."""
    connected_at: Time | None = None
    disconnected_at: Time | None = None
    detached_since: Time | None = None
    """Of an ongoing tunnel: since when none of its carriers works. It waits, and nothing has ended."""
    duration_s: float | None = None
    rx_bytes: int = 0
    """Towards the agent."""
    tx_bytes: int = 0
    """From the agent."""
    disconnect_reason: Reason | None = None
    disconnect_expected: bool | None = None
    """true: part of normal operation; false: investigate."""
    disconnect_initiator: Initiator | None = None
    """Empty: it is not known."""
    disconnect_detail: str | None = None
    """For people; never parsed."""
    disconnect_cause: Annotated[str, Field(examples=[AGENT_CRASHED])] | None = None
    disconnect_basis: Basis | None = None
    disconnect_actor: Annotated[str, Field(examples=["policy:autostop"])] | None = None
    coarse_reason: Reason | None = None
    """`disconnect_reason` as one of the eight reasons that old readers know."""
    exit_code: int | None = None
    exit_signal: str | None = None
    rule: Annotated[str, Field(examples=["agent-came-back"])] | None = None
    """Which rule decided."""
    confidence: Confidence | None = None
    """How far to trust it."""
    proximate_cause: Annotated[str, Field(examples=[CLIENT_UNREACHABLE])] | None = None
    """What the end itself shows, where `disconnect_cause` is what lies behind it; else empty."""
    root_event_id: str | None = None
    """The connection that is nearest to what happened, where several ended of it."""
    incident_id: str | None = None
    """Shared by the ends of one incident."""
    revision: int = 0
    """How many times it was judged; above 1, later evidence changed the record."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """The same as `connection_id`."""
        return self.connection_id


class Evidence(ApiModel):
    """What one party saw or said, never what it concluded."""

    vantage: Vantage
    """Who saw it."""
    reporter: Vantage | None = None
    """Who handed it in."""
    at: Time
    """By the observer's own clock."""
    time: Time
    """The same as `at`."""
    received_at: Time | None = None
    """By the server's clock."""
    kind: Annotated[str, Field(examples=["stream_ended"])]
    values: dict[str, Any] = {}
    outlived: bool = False
    """Of a carrier that the tunnel outlived: a part of its path, not judged as its end."""
    hearsay: bool = False
    """Its reporter cannot have seen or done this: kept, and not judged."""


class PathEvent(ApiModel):
    """Something that happened to the path of a tunnel. It does not end the tunnel."""

    at: Time
    """By the agent's clock."""
    event: Annotated[str, Field(examples=["resumed"])]
    """`used`, `lost`, `detached` or `resumed`."""
    carrier: int
    method: Annotated[str, Field(examples=["derp"])]
    where: str = ""
    """The DERP region, or the endpoint."""
    peer: str = ""
    how: str = ""
    errno: str = ""
    gap_s: float = 0.0
    """Of `resumed`: for how long nothing passed."""
    resent_bytes: int = 0


class SessionView(ApiModel):
    session_id: str
    session_type: ConnectionType
    app: str = ""
    """The program behind it, where it is known."""
    pty: bool = False
    subsystem: str = ""
    started_at: Time
    ended_at: Time | None = None
    process_ended_at: Time | None = None
    """Where its process outlived it: when that ended, with its status."""
    exit_code: int | None = None
    exit_signal: str | None = None


class ForwardView(ApiModel):
    """A forwarded connection; without a `forward_id`, several of one kind and destination."""

    forward_id: int | None = None
    """Counts up within the connection."""
    kind: Annotated[str, Field(examples=["direct_tcpip"])]
    destination: Annotated[str, Field(examples=["127.0.0.1:8080"])]
    """`*`: too many to be counted one by one."""
    origin: str = ""
    started_at: Time
    """By the agent's clock; of several: when the first window began."""
    ended_at: Time | None = None
    duration_s: float = 0.0
    """Of several: of the longest."""
    count: int = 1
    """How many this stands for."""
    end: Annotated[str, Field(examples=["client_closed"])] = ""
    """How it ended; empty while it is open, and for several."""
    ends: dict[str, int] = {}
    """How often each end came."""
    cause: str = ""
    detail: str = ""
    rx_bytes: int = 0
    """From the client."""
    tx_bytes: int = 0
    """To the client."""


class IdeChannelView(ApiModel):
    """One forwarded connection of an IDE to its backend."""

    connection_id: str
    """The SSH connection that carried it."""
    destination: str
    started_at: Time
    ended_at: Time
    end: str
    rx_bytes: int = 0
    tx_bytes: int = 0


class Ide(ApiModel):
    """An IDE at its backend."""

    backend_pid: int
    backend_marker: str
    """What in its command line gave the backend away."""
    caused_by: Annotated[str | None, BeforeValidator(lambda known: known or None)] = None
    """The SSH connection whose end explains this one's."""
    channels: list[IdeChannelView] = []
    """The first ones that ended."""
    channels_total: int = 0


class ChildView(ApiModel):
    """A connection that began on this one."""

    connection_id: str
    type: ConnectionType
    status: ConnectionStatus
    connected_at: Time | None = None
    disconnected_at: Time | None = None
    disconnect_cause: str | None = None


class Explains(ApiModel):
    """Another connection that ended for the same reason as this one, the root of the incident."""

    connection_id: str
    connect_type: ConnectType
    workspace: str | None = None
    user: str | None = None
    disconnected_at: Time
    disconnect_cause: str


class FileOperationView(ApiModel):
    """What a client asked to be done to a path; not whether it was done."""

    act: Annotated[str, Field(examples=["create"])]
    path: str
    target: str = ""
    """Rename: the new name. Links: what they lead to."""
    first_at: Time
    count: int = 1


class FileAuditView(ApiModel):
    """The file operations of one session."""

    session_id: str
    program: Annotated[str, Field(examples=["sftp"])]
    operations: list[FileOperationView] = []
    more: bool = False
    """Whether more are kept than are listed here."""
    left_out: int = 0
    """Requests that were too many to be kept."""
    complete: bool = True
    """false: the session could not be followed to its end."""


class Revision(ApiModel):
    """One judgement of the end. The last one is what the connection shows."""

    revision: int
    at: Time
    rule: str
    because: str
    disconnect_reason: Reason
    disconnect_expected: bool
    disconnect_initiator: Initiator
    disconnect_cause: str
    disconnect_basis: Basis
    disconnect_actor: str = ""
    disconnect_detail: str = ""
    exit_code: int | None = None
    exit_signal: str | None = None


class Alone(ApiModel):
    """What would have been concluded from one vantage's facts, without the others."""

    vantage: Vantage
    facts: int
    cause: str
    title: str
    rule: str


class AgentState(ApiModel):
    state: Annotated[str, Field(examples=["ready"])]
    at: Time
    """By the agent's clock."""


class Explained(ConnectionView):
    """One connection, why it ended, and what that was concluded from."""

    title: str = ""
    sentence: str = ""
    """What happened, for the user."""
    advice: str = ""
    """What to do about it."""
    because: str = ""
    """Why the rule decided as it did."""
    evidence: list[Evidence] = []
    explains: list[Explains] = []
    """Other connections that ended of the same, where this one is the root of an incident."""
    symptoms: list[Evidence] = []
    """Later ends that this one explains."""
    alone: list[Alone] = []
    """What each vantage's facts would say by themselves."""
    agent_states: list[AgentState] = []
    """The states that this run of the agent has reported of its own life, in order."""
    sessions: list[SessionView] = []
    revisions: list[Revision] = []
    children: list[ChildView] = []
    """IDE sessions that began on it."""
    ide: Ide | None = None
    """Of an IDE session: its backend and its channels."""
    forwards: list[ForwardView] = []
    """The first of them; `/forwards` has all."""
    forwards_total: int = 0
    """How many there were, those that are only counted included."""
    path_events: list[PathEvent] = []
    """The first ones and the newest ones; `path_events_total` counts all."""
    path_events_total: int = 0
    file_operations: list[FileAuditView] = []
    """The first of them; `/files` has all."""
