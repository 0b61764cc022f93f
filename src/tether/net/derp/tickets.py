"""Relay tickets: EdDSA-signed JWTs that let one leg of one carrier in, once.

Law: only the server, which has the private key, mints tickets. A relay redeems them with the public key
and asks nobody. A ticket is good for one minute, for one leg at one region, and once. Spent tickets are
remembered until they would have expired; where too many are remembered, new ones are refused. Tickets
never reach a log line.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tether.attribution.vocabulary import Party
from tether.net.clock import Clock
from tether.protocol.derp.pairing import CarrierId

TICKET_LIFE_S = 60.0
MAX_TICKET_CHARS = 2048
"""A longer text is refused before anything is computed over it."""

MAX_SPENT = 200_000
"""Spent tickets remembered at most; beyond it new ones are refused until old ones expire."""

MAX_CARRIER = 1 << 31
"""Numbers of carriers are below this."""

_AUDIENCE = "relay"
_ALGORITHM = "EdDSA"
_LEGS = (Party.CLIENT, Party.AGENT)


class _Claims(msgspec.Struct, frozen=True):
    """What a ticket says (RFC 7519 section 4)."""

    aud: str
    """Always `relay`, so that no other token signed with this key is taken for a ticket."""
    cid: str
    """The connection id."""
    car: int
    """The carrier's number."""
    leg: Party
    """Whose leg may come."""
    reg: str
    """The region at whose relay."""
    jti: str
    """What makes it different from every other ticket, so that it is spent once."""
    iat: float
    """When it was minted (wall clock)."""
    exp: float
    """When it expires (wall clock)."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a verified ticket allows: one leg of one carrier."""

    connection_id: str
    leg: Party
    carrier: int = 1

    @property
    def carrier_id(self) -> CarrierId:
        return CarrierId(self.connection_id, self.carrier)


class Tickets:
    """Mints tickets, at the server."""

    def __init__(self, key: Ed25519PrivateKey, clock: Clock) -> None:
        self._private = key
        self._clock = clock
        self.public_key = key.public_key()

    @property
    def public_keys(self) -> list[str]:
        """The public keys as a relay is told them: raw, in base64."""
        return [base64.b64encode(self.public_key.public_bytes_raw()).decode()]

    def mint(self, carrier: CarrierId, leg: Party, region: str) -> str:
        """A fresh ticket for one leg of `carrier` at the relay of `region`."""
        now = self._clock.now().wall
        claims = _Claims(
            aud=_AUDIENCE,
            cid=carrier.connection_id,
            car=carrier.number,
            leg=leg,
            reg=region,
            jti=secrets.token_urlsafe(16),
            iat=now,
            exp=now + TICKET_LIFE_S,
        )
        return jwt.encode(msgspec.structs.asdict(claims), self._private, algorithm=_ALGORITHM)


class TicketRefused(Exception):
    """The ticket is not good. `code` is for programs, the text one sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TicketGate:
    """Redeems tickets, at the relay of one region."""

    def __init__(
        self,
        region: str,
        clock: Clock,
        keys: Sequence[Ed25519PublicKey] = (),
        *,
        capacity: int = MAX_SPENT,
    ) -> None:
        self._region = region
        self._clock = clock
        self._capacity = capacity
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
        if claims.leg not in _LEGS or not 0 < claims.car < MAX_CARRIER:
            raise _invalid()
        if claims.reg != self._region:
            raise TicketRefused("ticket_invalid", "this ticket is for the relay of another region")
        if claims.exp <= now:
            raise TicketRefused("ticket_expired", "the relay ticket has expired: connect again")
        self._forget(now)
        if claims.jti in self._spent:
            raise TicketRefused("ticket_spent", "the relay ticket was used before: connect again")
        if len(self._spent) >= self._capacity:
            raise TicketRefused("relay_busy", "the relay is overloaded: try again in a minute")
        self._spent[claims.jti] = claims.exp
        return Ticket(claims.cid, claims.leg, claims.car)

    def _verified(self, token: str) -> _Claims:
        if len(token) > MAX_TICKET_CHARS:
            raise _invalid()
        if not self.keys:
            raise TicketRefused("relay_busy", "this relay is not ready: try again in a moment")
        for key in self.keys:
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[_ALGORITHM],
                    audience=_AUDIENCE,
                    # our own clock decides about time, not the library's
                    options={"verify_exp": False, "verify_iat": False},
                )
            except (jwt.InvalidTokenError, ValueError, TypeError):
                continue
            try:
                return msgspec.convert(claims, _Claims)
            except msgspec.ValidationError as wrong:
                raise _invalid() from wrong
        raise _invalid()

    def _forget(self, now: float) -> None:
        while self._spent:
            oldest = next(iter(self._spent))
            # They expire nearly in the order of spending: what is kept too long is a minute's worth.
            if self._spent[oldest] > now:
                return
            del self._spent[oldest]


def _invalid() -> TicketRefused:
    return TicketRefused("ticket_invalid", "this is no ticket of this server's relay")
