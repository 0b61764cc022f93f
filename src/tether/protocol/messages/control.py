"""The messages of every control link: opening it, keeping it, leaving it, and the server's orders.

Law: types only. Keepalive and goodbye are the same on a tunnel.
"""

from __future__ import annotations

from tether.protocol.messages.base import FactRecord, Message

# -- both directions, control link and tunnel -----------------------------------------


class Ping(Message, frozen=True, kw_only=True):
    n: int


class Pong(Message, frozen=True, kw_only=True):
    n: int


class Goodbye(Message, frozen=True, kw_only=True):
    """I am leaving, and this is why.

    `cause` is a catalogue code; "" where the sender only knows `facts` (a client that saw its local
    ssh go away). `retry_after_s` says when dialling again makes sense; negative means never.
    """

    cause: str = ""
    actor: str = ""
    detail: str = ""
    retry_after_s: float = 0.0
    facts: list[FactRecord] = []


class GoodbyeAck(Message, frozen=True, kw_only=True):
    """Your goodbye was heard; you may close."""


class Unsupported(Message, frozen=True, kw_only=True):
    """You sent a message of a type that this version does not know. It was ignored."""

    message_type: str


# -- control link: opening ------------------------------------------------------------


ROLE_HEADER = "Tether-Role"
"""A header of the request for a control link: the `role` that its hello will have. A token of another
kind is refused with it, before the upgrade."""


class Hello(Message, frozen=True, kw_only=True):
    """First message of the dialling party."""

    protocol: tuple[int, int]
    role: str
    """"agent", "client" or "relay"."""
    version: str
    instance_id: str
    """Made anew by every run of a program."""
    boot_id: str = ""
    hostname: str = ""
    capabilities: list[str] = []
    """Neither sent nor read by this version; later ones may name here what they can do."""
    ssh_host_key: str = ""
    """Agents: public host key, one OpenSSH line."""
    journal_id: str = ""
    """Agents: made once with the journal; the reports that follow carry it."""
    open_connections: list[str] = []
    """Agents: connections that live or whose end is still in the journal."""
    serving: list[str] = []
    """Agents: those of them that live."""


class Welcome(Message, frozen=True, kw_only=True):
    """The server's answer to `Hello`."""

    protocol: tuple[int, int]
    connection_id: str
    """This control link's own row in the connection log."""
    server_instance: str
    version: str
    capabilities: list[str] = []
    """Neither sent nor read by this version; later ones may name here what they can do."""
    ping_every_s: float = 15.0
    patience_s: float = 45.0
    workspace_id: str = ""
    workspace: str = ""
    workspace_running: bool = True
    user_ca_key: str = ""
    """Agents: the server's SSH user CA, one OpenSSH line."""
    user: str = ""
    """Clients: who the token belongs to."""


# -- control link: commands ------------------------------------------------------------


class WorkspaceStop(Message, frozen=True, kw_only=True):
    """Server to agent: end every session with this cause, then leave."""

    cause: str
    actor: str = ""
    detail: str = ""


class WorkspaceStart(Message, frozen=True, kw_only=True):
    """Server to agent: the workspace runs again; take tunnels."""

    actor: str = ""


class EndConnections(Message, frozen=True, kw_only=True):
    """Server to agent: end these connections with this cause: a user's access was withdrawn, or their
    client, which could not reach the agent any more, has told the server that it left."""

    connection_ids: list[str]
    cause: str
    actor: str = ""
    detail: str = ""
    by_client: bool = False
    """Whether it is the client that said so, and the server only passes it on."""
