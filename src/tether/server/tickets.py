"""Relay tickets: EdDSA-signed JWTs that let one leg of one connection in, once.

Law: a ticket is verified without the database. It is good for one minute, for one leg, one time; the
memory of spent tickets is bounded by their own life, and by a cap that fails closed. Tickets never
reach a log line.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tether.attribution.vocabulary import Party
from tether.net.clock import Clock

TICKET_LIFE_S = 60.0
MAX_TICKET_CHARS = 2048
MAX_SPENT = 200_000
"""Spent tickets remembered at most; beyond it new ones are refused until old ones expire."""

_AUDIENCE, _ALGORITHM = "relay", "EdDSA"
_LEGS = (Party.CLIENT, Party.AGENT)
_REQUIRED = ["aud", "cid", "leg", "jti", "exp", "iat"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a verified ticket allows."""

    connection_id: str
    leg: Party


class TicketRefused(Exception):
    """The ticket is not good. `code` is for programs, the text one sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Tickets:
    """Mints tickets and redeems them."""

    def __init__(self, key: Ed25519PrivateKey, clock: Clock, *, capacity: int = MAX_SPENT) -> None:
        self._capacity = capacity
        self._private, self._public = key, key.public_key()
        self._clock = clock
        self._spent: dict[str, float] = {}  # jti -> expiry, in the order of spending

    def mint(self, connection_id: str, leg: Party) -> str:
        """A fresh ticket for one leg of `connection_id`."""
        now = self._clock.now().wall
        claims = {
            "aud": _AUDIENCE,
            "cid": connection_id,
            "leg": str(leg),
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + TICKET_LIFE_S,
        }
        return jwt.encode(claims, self._private, algorithm=_ALGORITHM)

    def redeem(self, token: str) -> Ticket:
        """Verify `token` and spend it.

        Raises:
            TicketRefused: it is forged, expired, spent, or not for this relay.
        """
        now = self._clock.now().wall
        if len(token) > MAX_TICKET_CHARS:
            raise TicketRefused("ticket_invalid", "this is no ticket of this server's relay")
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                # our own clock decides about time, not the library's
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
            )
            ticket = Ticket(str(claims["cid"]), Party(claims["leg"]))
            jti, expires = str(claims["jti"]), float(claims["exp"])
            if ticket.leg not in _LEGS:
                raise ValueError(f"no leg of a tunnel: {ticket.leg}")
        except (jwt.InvalidTokenError, ValueError, TypeError) as wrong:
            raise TicketRefused(
                "ticket_invalid", "this is no ticket of this server's relay"
            ) from wrong
        if expires <= now:
            raise TicketRefused("ticket_expired", "the relay ticket has expired: connect again")
        self._forget(now)
        if jti in self._spent:
            raise TicketRefused("ticket_spent", "the relay ticket was used before: connect again")
        if len(self._spent) >= self._capacity:
            raise TicketRefused("relay_busy", "the relay is overloaded: try again in a minute")
        self._spent[jti] = expires
        return ticket

    def _forget(self, now: float) -> None:
        while self._spent:
            oldest = next(iter(self._spent))
            # spent in order, expiring nearly in order: at worst one minute's worth stays longer
            if self._spent[oldest] > now:
                return
            del self._spent[oldest]
