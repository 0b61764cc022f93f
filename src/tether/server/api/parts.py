"""What every endpoint needs: the server's parts, and who is asking.

Law: endpoints are module-level functions that find their collaborators through the request's app, so
one process may run several servers. Whoever cannot be identified gets the reason, once, here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from tether.net.clock import Clock
from tether.server.api.models import Error
from tether.server.auth.accounts import Accounts
from tether.server.auth.passwords import Passwords
from tether.server.auth.throttle import FailureThrottle
from tether.server.connlog.log import ConnectionLog
from tether.server.connlog.pages import LogPages
from tether.server.db.store import Store
from tether.server.db.tables.connections import ConnectionRow
from tether.server.derp.map import Regions
from tether.server.derp.map_store import DerpMaps
from tether.server.errors import Forbidden
from tether.server.health import DatabaseHealth
from tether.server.identity import Identity, TokenRejected
from tether.server.metrics import Metrics
from tether.server.status import ServerStatus
from tether.server.web.cookies import SAFE_METHODS, SessionCookie, from_our_pages
from tether.server.workspaces import Workspaces

ClientIp = Callable[[Scope], str]
"""Who is at the other end of an ASGI scope."""


def peer_ip(scope: Scope) -> str:
    """The address that the connection came from, whatever its headers say."""
    client = scope.get("client")
    return str(client[0]) if client else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Browsers:
    """What there is for browsers besides the API."""

    cookie: SessionCookie = field(default_factory=lambda: SessionCookie("tether", secure=False))
    url: str = ""
    """Where people reach the server."""
    regions: Regions = field(default_factory=lambda: Regions(None))
    """The relays that are known."""


class LiveLinks(Protocol):
    """What the API needs of the control links; `control.hub.Hub` says what each does."""

    async def revoke_user(self, user: str, actor: str) -> None: ...

    async def revoke_tokens(self, token_ids: Collection[str], actor: str) -> None: ...

    async def end_connection(self, row: ConnectionRow, actor: str, detail: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The collaborators of the API."""

    store: Store
    accounts: Accounts
    workspaces: Workspaces
    connections: ConnectionLog
    hub: LiveLinks
    derp_maps: DerpMaps
    metrics: Metrics
    clock: Clock
    health: DatabaseHealth
    throttle: FailureThrottle
    client_ip: ClientIp
    version: str
    passwords: Passwords
    browsers: Browsers
    warnings: Callable[[], list[str]]
    pages: LogPages
    status: ServerStatus


class Unauthenticated(Exception):
    """No valid token. `retry_after_s` is 0 unless the address fails too often."""

    def __init__(self, refusal: TokenRejected, retry_after_s: int = 0) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.retry_after_s = retry_after_s


def parts_of(request: Request) -> Parts:
    """The parts of the server that this request came to."""
    parts: Parts = request.app.state.parts
    return parts


_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A user's token: `Authorization: Bearer tether_user_…`.",
)
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


_HOLDERS = {"agent": "an agent", "relay": "a relay"}


async def _user(request: Request, credentials: _Credentials) -> Identity:
    parts = parts_of(request)
    token = credentials.credentials if credentials is not None else ""
    if not token and (token := parts.browsers.cookie.read(request.scope)):
        check_own_pages(request)
    request.state.token = token
    identity = await parts.accounts.authenticate(token)
    if isinstance(identity, TokenRejected):
        raise Unauthenticated(identity, admit(parts, request, identity.code))
    if identity.kind != "user":
        raise Forbidden(
            "user_only",
            f"this is the token of {_HOLDERS[identity.kind]}: the API is for users' tokens",
        )
    return identity


def credentials_of(request: Request) -> str:
    """What an admitted request was admitted with."""
    token: str = request.state.token
    return token


def admit(parts: Parts, request: Request, code: str) -> int:
    """Note a failure to authenticate.

    Returns:
        How many seconds its address has to wait before it may try again; mostly 0.
    """
    wait = parts.throttle.failed(parts.client_ip(request.scope))
    parts.metrics.refused("too_many_failures" if wait else code)
    return wait


def check_own_pages(request: Request) -> None:
    """A browser that changes something has to say that a page of ours asks.

    Raises:
        Forbidden: it says otherwise.
    """
    if request.method not in SAFE_METHODS and not from_our_pages(request.scope):
        raise Forbidden(
            "cross_site", "a page of another site asked for this: open it here and try again"
        )


PartsOf = Annotated[Parts, Depends(parts_of)]
User = Annotated[Identity, Depends(_user)]


def may_fail(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that an endpoint documents, besides those that every endpoint has."""
    return {status: {"model": Error, "description": DESCRIPTIONS[status]} for status in statuses}


DESCRIPTIONS = {
    400: "The request's body is not JSON.",
    401: "The token is missing, unknown, revoked or expired; the code says which.",
    403: "The token's owner may not do this.",
    404: "There is no such thing, or it is not the caller's to see.",
    409: "It contradicts what is already so.",
    413: "The request's body is larger than 64 KiB.",
    422: "The request's words make no sense; the message says which.",
    429: "This address failed to authenticate too often; `Retry-After` says when to try again.",
    503: "The server's database does not work now; the message says why.",
}
"""Status -> what it means here."""
