"""Asking for a tunnel or for a further carrier of one, and what its two ends say to each other on it.

Law: types only. The client asks, the server grants and offers, the agent comes or declines. The client
numbers carriers, and never uses a number twice in one tunnel.
"""

from __future__ import annotations

from tether.attribution.vocabulary import Purpose
from tether.protocol.messages.base import Message

RESUME_S = 24 * 3600.0
"""How long a tunnel waits for a peer that fell silent, if the server's policy does not say less."""


class TunnelRequest(Message, frozen=True, kw_only=True):
    """Client: join me to this workspace's agent."""

    request_id: int
    workspace: str
    public_key: str
    """The device's SSH public key, one OpenSSH line."""
    purpose: str = Purpose.SSH
    """A `Purpose` word: what the agent is to serve on the tunnel."""
    region: str = ""
    """The DERP region that the client would like; "" leaves it to the server."""
    region_latency: dict[str, float] = {}
    """Region -> round trip, in seconds, as the client has measured it."""
    client_session_id: str = ""
    """Of whatever the client is part of, as an IDE gives one to all of its connections."""
    further_public_keys: list[str] = []
    """More SSH public keys of the device, for programs that know no ed25519; an OpenSSH line each."""


class TunnelGrant(Message, frozen=True, kw_only=True):
    """Server to client: dial the relay with this ticket, or the agent itself."""

    request_id: int
    connection_id: str
    relay_url: str
    """Of the first carrier, number 1. "" where no relay is to be had: only `endpoints` are left."""
    ticket: str
    workspace_id: str
    workspace: str
    host_key: str
    certificate: str = ""
    """A short-lived user certificate for the device's key, one OpenSSH line."""
    region: str = ""
    """The DERP region of `relay_url`."""
    tunnel_key: str = ""
    """The secret that both ends prove on each carrier: 32 bytes, base64."""
    endpoints: list[str] = []
    """Where the agent listens for direct carriers, `host:port`, best first."""
    resume_s: float = RESUME_S
    """How long the tunnel may wait for a peer that fell silent."""


class TunnelDenied(Message, frozen=True, kw_only=True):
    """Server to client: no. `message` is one sentence for the user.

    `code` is `agent_not_connected`, `relay_unavailable`, `server_stopping` or `too_many_requests` (ask
    again), `too_many_tunnels`, `workspace_not_found`, `workspace_stopped`, `no_host_key` (the agent has
    announced none yet), `bad_public_key`, or `unknown_purpose`.
    """

    request_id: int
    code: str
    message: str


class TunnelOffer(Message, frozen=True, kw_only=True):
    """Server to agent: a client wants you. Dial the relay with this ticket, and expect it directly,
    too."""

    connection_id: str
    relay_url: str
    ticket: str
    user: str
    public_key: str
    client_ip: str = ""
    client_port: int = 0
    """Of the client's link to the server, which is the only socket of the client that the server has
    seen; 0 where a proxy hides it."""
    purpose: str = Purpose.SSH
    region: str = ""
    tunnel_key: str = ""
    resume_s: float = RESUME_S
    client_session_id: str = ""
    further_public_keys: list[str] = []


class OfferDeclined(Message, frozen=True, kw_only=True):
    """Agent to server: I cannot take this tunnel, or this further carrier of one. `message` is one
    sentence for the user."""

    connection_id: str
    message: str
    carrier: int = 1
    code: str = ""
    """Where a further carrier was offered for a tunnel that this run of the agent does not serve:
    `tunnel_over` (any more: its journal says why), or `tunnel_unknown`."""


class CarrierRequest(Message, frozen=True, kw_only=True):
    """Client: another carrier for a tunnel that lives, please."""

    request_id: int
    connection_id: str
    carrier: int
    region: str = ""
    """The DERP region to go through; "" leaves it to the server."""
    region_latency: dict[str, float] = {}
    """As in a tunnel request."""
    avoid: list[str] = []
    """Relay URLs that failed just now."""
    small_segments: bool = False
    """Large segments seem to be lost on the way: both ends are to dial so that TCP sends none."""


class CarrierGrant(Message, frozen=True, kw_only=True):
    """Server to client: dial this relay, or one of these endpoints."""

    request_id: int
    connection_id: str
    carrier: int
    relay_url: str = ""
    ticket: str = ""
    region: str = ""
    endpoints: list[str] = []


class CarrierDenied(Message, frozen=True, kw_only=True):
    """Server to client: no further carrier. `message` is one sentence for the user.

    `code` is `agent_not_connected`, `relay_unavailable`, `server_stopping` or `too_many_requests` (ask
    again), `tunnel_over` (it ended: `cause` and `actor` say why), or `tunnel_unknown` (there is no such
    tunnel of yours).
    """

    request_id: int
    code: str
    message: str
    cause: str = ""
    actor: str = ""


class CarrierOffer(Message, frozen=True, kw_only=True):
    """Server to agent: the client of a tunnel that you serve comes over this relay, too."""

    connection_id: str
    carrier: int
    relay_url: str
    ticket: str
    region: str = ""
    small_segments: bool = False


class ClientLost(Message, frozen=True, kw_only=True):
    """Server to agent: the control link of these tunnels' client ended at once and without a goodbye,
    and the client, which dials anew at once if it lives, has not come back for 10 s. A tunnel whose
    carriers ended in that way, too, is waited for no longer; to any other this says nothing."""

    connection_ids: list[str]


# -- end to end, on the tunnel itself (a relay does not look inside) ------------------------


class TunnelHello(Message, frozen=True, kw_only=True):
    """First control frame of both ends."""

    protocol: tuple[int, int]
    party: str
    version: str
    capabilities: list[str] = []
    """Neither sent nor read by this version; later ones may name here what they can do."""


class HalfClose(Message, frozen=True, kw_only=True):
    """Not sent, and ignored where it is received. The name stays taken."""


class LoginResult(Message, frozen=True, kw_only=True):
    """Agent to client: whether a credential was let in. ssh keeps our words from its user."""

    accepted: bool
    sentence: str = ""


class FurtherHostKey(Message, frozen=True, kw_only=True):
    """Agent to client, ahead of the answer to an `ssh` that has asked for another host key than the one
    that was granted: this is it. Both are OpenSSH lines."""

    public_key: str
    certificate: str
    """A host certificate for it, signed by the host key that was granted."""


class SessionResult(Message, frozen=True, kw_only=True):
    """Agent to client: how the last session's process ended. `ssh` cannot tell its caller."""

    exit_code: int | None = None
    exit_signal: str | None = None


class Redraw(Message, frozen=True, kw_only=True):
    """Client to agent: something was written over the user's terminal; have its program draw anew."""
