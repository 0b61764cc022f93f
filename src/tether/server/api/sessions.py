"""`/api/v1/session`, `/sessions`, `/sign-in-links` and `/password`: browsers that are signed in.

Law: translation only; `auth/sessions.py` and `auth/passwords.py` decide. A secret leaves in a cookie
that no script can read, and nowhere else. What was withdrawn is committed first, then the hub ends what
it had opened.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from tether.server.api.models import ApiModel, Model, Time
from tether.server.api.parts import (
    Parts,
    PartsOf,
    Unauthenticated,
    User,
    admit,
    check_own_pages,
    may_fail,
)
from tether.server.auth.sessions import SessionInfo
from tether.server.db.tables.accounts import Role
from tether.server.db.tables.web import SignInMethod
from tether.server.identity import Identity, TokenRejected
from tether.server.times import iso

router = APIRouter(tags=["sign-in"])


class SignIn(Model):
    """Exactly one of: a token, a link's secret, or a name and its password."""

    token: Annotated[str, Field(max_length=200, examples=["tether_user_…"])] = ""
    link: Annotated[str, Field(max_length=200)] = ""
    user: Annotated[str, Field(max_length=64, examples=["alice"])] = ""
    password: Annotated[str, Field(max_length=1024)] = ""

    @model_validator(mode="after")
    def _one_way(self) -> SignIn:
        ways = (bool(self.token), bool(self.link), bool(self.user or self.password))
        if sum(ways) != 1:
            raise ValueError("give a token, or a link, or a user with a password")
        return self


class BrowserSession(ApiModel):
    """One signed-in browser."""

    session_id: str
    user: Annotated[str, Field(examples=["alice"])]
    method: SignInMethod
    """How it was signed in."""
    created_at: Time
    last_seen_at: Time
    """May lag by a minute."""
    expires_at: Time
    client_ip: str
    user_agent: str
    current: bool = False
    """Whether it is the one that asks."""


class Me(ApiModel):
    """Who is signed in here."""

    user: Annotated[str, Field(examples=["alice"])]
    role: Role
    session_id: Annotated[str | None, Field(examples=["9f3c2a1b00d4e5f6"])] = None
    """Null where a token asks."""
    server_version: Annotated[str, Field(examples=["0.1.0"])]
    now: Time
    """The server's clock."""


class SignInLink(ApiModel):
    url: Annotated[str, Field(examples=["http://127.0.0.1:7080/sign-in#link=…"])]
    """Signs one browser in, once."""
    expires_at: Time


class SessionEndedView(ApiModel):
    session_id: str
    ended: Literal[True] = True


class NewPassword(Model):
    password: Annotated[str, Field(max_length=1024)]
    """12 to 256 characters."""


class PasswordSet(ApiModel):
    user: str
    password: Literal["set", "removed"]


@router.post(
    "/session",
    status_code=201,
    response_model=Me,
    responses=may_fail(403),
    summary="Sign this browser in",
)
async def sign_in(body: SignIn, parts: PartsOf, request: Request, response: Response) -> Me:
    """The answer sets the session's cookie. Only for pages of this server."""
    check_own_pages(request)
    identity, method = await _who(body, parts)
    if isinstance(identity, TokenRejected):
        raise Unauthenticated(identity, admit(parts, request, identity.code))
    issued, info = await parts.accounts.sessions.begin(
        identity,
        method,
        client_ip=parts.client_ip(request.scope),
        user_agent=request.headers.get("user-agent", ""),
    )
    response.headers["set-cookie"] = parts.browsers.cookie.set(
        issued.token, info.expires_at - info.created_at
    )
    return _me(parts, identity, info.session_id)


async def _who(body: SignIn, parts: Parts) -> tuple[Identity | TokenRejected, SignInMethod]:
    if body.link:
        return await parts.accounts.sessions.redeem(body.link), SignInMethod.LINK
    if body.token:
        found = await parts.accounts.authenticate(body.token.strip())
        if isinstance(found, Identity) and found.kind != "user":
            found = TokenRejected("token_unknown", "this is no user's token: sign in with your own")
        return found, SignInMethod.TOKEN
    return await parts.passwords.check(body.user, body.password), SignInMethod.PASSWORD


@router.get("/session", response_model=Me, summary="Who is signed in here?")
async def current(parts: PartsOf, user: User, request: Request) -> Me:
    """Of a browser, its session, too."""
    return _me(parts, user, user.token_id if parts.browsers.cookie.read(request.scope) else None)


@router.delete("/session", status_code=204, summary="Sign this browser out")
async def sign_out(parts: PartsOf, user: User, request: Request) -> Response:
    """Ends the session and what it has open. With a token: nothing."""
    if parts.browsers.cookie.read(request.scope):
        await parts.accounts.sessions.end(user.token_id, user)
        await parts.hub.revoke_tokens([user.token_id], user.actor(user.user))
    return Response(status_code=204, headers={"set-cookie": parts.browsers.cookie.clear()})


@router.get("/sessions", response_model=list[BrowserSession], summary="List one's own sessions")
async def sessions(parts: PartsOf, user: User) -> list[BrowserSession]:
    """The browsers that are signed in as the caller, used last first."""
    found = await parts.accounts.sessions.list(user.user)
    return [_session(info, user) for info in found]


@router.delete(
    "/sessions/{session_id}",
    response_model=SessionEndedView,
    responses=may_fail(403, 404),
    summary="Sign a browser out",
)
async def end(session_id: str, parts: PartsOf, user: User) -> SessionEndedView:
    """One's own; administrators any. What it has open ends."""
    await parts.accounts.sessions.end(session_id, user)
    await parts.hub.revoke_tokens([session_id], user.actor())
    return SessionEndedView(session_id=session_id)


@router.post(
    "/sign-in-links",
    status_code=201,
    response_model=SignInLink,
    responses=may_fail(403),
    summary="Make a link that signs a browser in",
)
async def make_link(parts: PartsOf, user: User) -> SignInLink:
    """As the caller, once, within ten minutes."""
    link = await parts.accounts.sessions.make_link(user)
    return SignInLink(
        url=f"{parts.browsers.url}/sign-in#link={link.secret}", expires_at=iso(link.expires_at)
    )


@router.put(
    "/password",
    response_model=PasswordSet,
    responses=may_fail(403),
    summary="Set one's own password",
)
async def set_password(body: NewPassword, parts: PartsOf, user: User) -> PasswordSet:
    """In the place of an earlier one. Tokens and links work as before."""
    await parts.passwords.set(user.user, body.password)
    return PasswordSet(user=user.user, password="set")


@router.delete(
    "/password",
    response_model=PasswordSet,
    responses=may_fail(403),
    summary="Remove one's own password",
)
async def remove_password(parts: PartsOf, user: User) -> PasswordSet:
    """From now on, sign in by token or link."""
    await parts.passwords.remove(user.user)
    return PasswordSet(user=user.user, password="removed")


def _me(parts: Parts, identity: Identity, session_id: str | None) -> Me:
    return Me(
        user=identity.user,
        role=Role(identity.role),
        session_id=session_id,
        server_version=parts.version,
        now=iso(parts.clock.now().wall),
    )


def _session(info: SessionInfo, user: Identity) -> BrowserSession:
    return BrowserSession(
        session_id=info.session_id,
        user=info.user,
        method=info.method,
        created_at=iso(info.created_at),
        last_seen_at=iso(info.last_seen_at),
        expires_at=iso(info.expires_at),
        client_ip=info.client_ip,
        user_agent=info.user_agent,
        current=info.session_id == user.token_id,
    )
