"""Redeeming relay tickets: EdDSA-signed JWTs that let one leg of one carrier in, once.

Law: a ticket is verified with public keys alone, so that a relay needs nobody to do it. It is good for
one minute, for one leg at one region, one time; the memory of spent tickets is bounded by their own
life, and by a cap that fails closed. Tickets never reach a log line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tether.attribution.vocabulary import Party
from tether.net.clock import Clock
from tether.protocol.derp.pairing import CarrierId

TICKET_LIFE_S = 60.0
MAX_TICKET_CHARS = 2048
MAX_SPENT = 200_000
"""Spent tickets remembered at most; beyond it new ones are refused until old ones expire."""

MAX_CARRIER = 1 << 31

AUDIENCE, ALGORITHM = "relay", "EdDSA"
_LEGS = (Party.CLIENT, Party.AGENT)
_REQUIRED = ["aud", "cid", "car", "leg", "reg", "jti", "exp", "iat"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a verified ticket allows."""

    connection_id: str
    leg: Party
    carrier: int = 1

    @property
    def carrier_id(self) -> CarrierId:
        return CarrierId(self.connection_id, self.carrier)


class TicketRefused(Exception):
    """The ticket is not good. `code` is for programs, the text one sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TicketGate:
    """Redeems tickets for one region's relay."""

    def __init__(
        self,
        region: str,
        clock: Clock,
        keys: Sequence[Ed25519PublicKey] = (),
        *,
        capacity: int = MAX_SPENT,
    ) -> None:
        self._region, self._clock, self._capacity = region, clock, capacity
        self.keys = tuple(keys)
        """Who may sign; a relay learns them from its server."""
        self._spent: dict[str, float] = {}  # jti -> expiry, in the order of spending

    def redeem(self, token: str) -> Ticket:
        """Verify `token` and spend it.

        Raises:
            TicketRefused: it is forged, expired, spent, or not for this relay.
        """
        now = self._clock.now().wall
        claims = self._verified(token)
        try:
            ticket = Ticket(str(claims["cid"]), Party(claims["leg"]), int(claims["car"]))
            jti, expires = str(claims["jti"]), float(claims["exp"])
            if ticket.leg not in _LEGS or not 0 < ticket.carrier < MAX_CARRIER:
                raise ValueError("no leg of a carrier")
        except (ValueError, TypeError) as wrong:
            raise _invalid() from wrong
        if claims["reg"] != self._region:
            raise TicketRefused("ticket_invalid", "this ticket is for the relay of another region")
        if expires <= now:
            raise TicketRefused("ticket_expired", "the relay ticket has expired: connect again")
        self._forget(now)
        if jti in self._spent:
            raise TicketRefused("ticket_spent", "the relay ticket was used before: connect again")
        if len(self._spent) >= self._capacity:
            raise TicketRefused("relay_busy", "the relay is overloaded: try again in a minute")
        self._spent[jti] = expires
        return ticket

    def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TICKET_CHARS:
            raise _invalid()
        if not self.keys:
            raise TicketRefused("relay_busy", "this relay is not ready: try again in a moment")
        for key in self.keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=[ALGORITHM],
                    audience=AUDIENCE,
                    # our own clock decides about time, not the library's
                    options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
                )
            except (jwt.InvalidTokenError, ValueError, TypeError):
                continue
            return claims
        raise _invalid()

    def _forget(self, now: float) -> None:
        while self._spent:
            oldest = next(iter(self._spent))
            # spent in order, expiring nearly in order: at worst one minute's worth stays longer
            if self._spent[oldest] > now:
                return
            del self._spent[oldest]


def _invalid() -> TicketRefused:
    return TicketRefused("ticket_invalid", "this is no ticket of this server's relay")
