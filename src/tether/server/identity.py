"""Who is asking: the holder of a valid token, or why a token is not valid.

Law: values only; `accounts.py` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RefusalCode = Literal[
    "token_unknown",
    "token_revoked",
    "token_expired",
    "workspace_deleted",
    "user_revoked",
    "session_over",
    "link_spent",
    "password_wrong",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whoever a valid token speaks for: a user, the agent of a workspace, or a relay.

    Of an agent, `user` is the workspace's owner and `role` is "member"; of a user, `workspace_id` and
    `workspace` are empty. Of a relay, `user` is its token's name.
    """

    kind: Literal["user", "agent", "relay"]
    user: str
    role: Literal["admin", "member"]
    workspace_id: str = ""
    workspace: str = ""
    token_id: str = ""
    """Of a signed-in browser: its session's."""
    expires_at: float | None = None
    """When the token runs out; None: never."""

    @property
    def is_admin(self) -> bool:
        """Whether this is a user who may see and do everything."""
        return self.kind == "user" and self.role == "admin"

    def actor(self, owner: str | None = None) -> str:
        """The actor's code: `admin:NAME` for an administrator acting on what is another's.

        Args:
            owner: whose thing it is; None for what belongs to the installation itself (users).
        """
        if self.kind == "agent":
            return f"agent:{self.workspace}"
        if self.kind == "relay":
            return f"relay:{self.user}"
        return f"admin:{self.user}" if self.is_admin and owner != self.user else f"user:{self.user}"


@dataclass(frozen=True, slots=True)
class TokenRejected:
    """Why a token is not accepted. `message` is one sentence with what to do about it."""

    code: RefusalCode
    message: str
