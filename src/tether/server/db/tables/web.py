"""The tables behind the web interface: signed-in browsers, ways to sign in, saved views."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from sqlalchemy import Index, UniqueConstraint

from tether.server.db.tables.base import Key, Row, column, table


class SignInMethod(StrEnum):
    """How a browser was signed in."""

    TOKEN = "token"
    LINK = "link"
    PASSWORD = "password"


class WebSessionRow(Row, frozen=True, kw_only=True):
    session_id: Key
    secret_hash: Annotated[str, column(unique=True)]  # SHA-256, hexadecimal
    user: Annotated[str, column(refers_to="users.name")]
    token_id: str = ""  # that it was begun with, or ''
    method: SignInMethod
    created_at: float
    last_seen_at: float  # written in batches; may lag by a minute
    expires_at: float
    client_ip: str
    user_agent: str
    revoked_at: float | None  # NULL: it may still be used
    revoked_by: str | None  # an actor


web_sessions = table("web_sessions", WebSessionRow, Index(None, "user"))
"""One row per signed-in browser. It is refused, too, once its user or its token is."""


class SignInLinkRow(Row, frozen=True, kw_only=True):
    link_hash: Key  # SHA-256, hexadecimal
    user: Annotated[str, column(refers_to="users.name")]
    token_id: str = ""  # of whoever asked for it
    created_at: float
    expires_at: float
    used_at: float | None  # NULL: it may still be used, once


sign_in_links = table("sign_in_links", SignInLinkRow)


class PasswordRow(Row, frozen=True, kw_only=True):
    user: Annotated[str, column(refers_to="users.name", primary_key=True)]
    hash: str  # argon2id, with its salt and its parameters
    changed_at: float


passwords = table("passwords", PasswordRow)


class SavedViewRow(Row, frozen=True, kw_only=True):
    view_id: Key
    user: Annotated[str, column(refers_to="users.name")]
    name: str
    page: str  # the page that it is of
    query: str  # of its address, which reproduces it
    created_at: float


saved_views = table("saved_views", SavedViewRow, UniqueConstraint("user", "name"))
