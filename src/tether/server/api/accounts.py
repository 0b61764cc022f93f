"""`/api/v1/whoami`, `/users` and `/tokens`.

Law: translation only; `accounts.py` decides who may do what. What was withdrawn is committed first, and
then the hub ends what it had opened.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from tether.server.api.models import (
    CreatedToken,
    CreatedUser,
    NewToken,
    NewUser,
    RevokedToken,
    RevokedUser,
    Token,
    User,
    Whoami,
)
from tether.server.api.parts import PartsOf, User as Caller, may_fail
from tether.server.auth.accounts import TokenInfo
from tether.server.db.tables.accounts import Role, UserRow
from tether.server.times import iso, iso_or_none

router = APIRouter(tags=["accounts"])


@router.get("/whoami", response_model=Whoami, summary="Who am I here?")
async def whoami(parts: PartsOf, caller: Caller) -> Whoami:
    """The token's user and role, and the version of this server."""
    return Whoami(user=caller.user, role=Role(caller.role), server_version=parts.version)


@router.post(
    "/users",
    status_code=201,
    response_model=CreatedUser,
    responses=may_fail(403, 409),
    summary="Create a user (administrators)",
)
async def create_user(body: NewUser, parts: PartsOf, caller: Caller) -> CreatedUser:
    """The answer has the user's first token, which is shown only here."""
    issued = await parts.accounts.create_user(body.name, body.role, caller)
    return CreatedUser(name=body.name, role=body.role, token=issued.token)


@router.get(
    "/users",
    response_model=list[User],
    responses=may_fail(403),
    summary="List users (administrators)",
)
async def list_users(parts: PartsOf, caller: Caller) -> list[User]:
    """Every user, also those whose access was withdrawn."""
    return [_user(info) for info in await parts.accounts.list_users(caller)]


@router.delete(
    "/users/{name}",
    response_model=RevokedUser,
    responses=may_fail(403, 404, 409),
    summary="Withdraw a user's access (administrators)",
)
async def revoke_user(name: str, parts: PartsOf, caller: Caller) -> RevokedUser:
    """All tokens of the user are refused at once, and what the user has open ends."""
    await parts.accounts.revoke_user(name, caller)
    await parts.hub.revoke_user(name, caller.actor())
    return RevokedUser(name=name)


@router.post(
    "/tokens",
    status_code=201,
    response_model=CreatedToken,
    responses=may_fail(403),
    summary="Create a token for oneself, or for a relay",
)
async def create_token(body: NewToken, parts: PartsOf, caller: Caller) -> CreatedToken:
    """The token is shown only in this answer. It runs out no later than the one that it is asked for
    with, and falls with it. Administrators make the tokens of relays, too."""
    if body.kind == "relay":
        issued = await parts.accounts.issue_relay_token(body.name, caller, body.expires_in_s)
    else:
        issued = await parts.accounts.issue_token(
            caller.user, body.name, body.expires_in_s, made_with=caller
        )
    return CreatedToken(token_id=issued.token_id, token=issued.token)


@router.get(
    "/tokens",
    response_model=list[Token],
    responses=may_fail(403),
    summary="List one's own tokens",
)
async def list_tokens(
    parts: PartsOf,
    caller: Caller,
    kind: Annotated[
        Literal["user", "relay"], Query(description="`relay`: those of relays (administrators).")
    ] = "user",
) -> list[Token]:
    """The tokens that are not revoked, without their secrets, which are never shown again."""
    if kind == "relay":
        return [_token(info) for info in await parts.accounts.list_relay_tokens(caller)]
    return [_token(info) for info in await parts.accounts.list_tokens(caller.user)]


@router.delete(
    "/tokens/{token_id}",
    response_model=RevokedToken,
    responses=may_fail(404),
    summary="Revoke a token",
)
async def revoke_token(token_id: str, parts: PartsOf, caller: Caller) -> RevokedToken:
    """Users may revoke their own tokens, administrators any. The links and the sessions that it opened
    end, and every token that was made with it falls with it."""
    fallen = await parts.accounts.revoke_token(token_id, caller)
    await parts.hub.revoke_tokens(fallen, caller.actor())
    return RevokedToken(token_id=token_id)


def _user(info: UserRow) -> User:
    return User(
        name=info.name,
        role=info.role,
        created_at=iso(info.created_at),
        revoked_at=iso_or_none(info.revoked_at),
        revoked_by=info.revoked_by,
    )


def _token(info: TokenInfo) -> Token:
    return Token(
        token_id=info.token_id,
        name=info.label,
        created_at=iso(info.created_at),
        expires_at=iso_or_none(info.expires_at),
        last_used_at=iso_or_none(info.last_used_at),
    )
