"""Minting relay tickets: EdDSA-signed JWTs that let one leg of one carrier in, once.

Law: whoever has the public key can verify a ticket (`net/derp/tickets.py`), and nobody but this server
can make one. Tickets never reach a log line.
"""

from __future__ import annotations

import base64
import secrets

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tether.attribution.vocabulary import Party
from tether.net.clock import Clock
from tether.net.derp.tickets import ALGORITHM, AUDIENCE, TICKET_LIFE_S
from tether.protocol.derp.pairing import CarrierId


class Tickets:
    """Mints tickets."""

    def __init__(self, key: Ed25519PrivateKey, clock: Clock) -> None:
        self._private, self._clock = key, clock
        self.public_key = key.public_key()

    @property
    def public_keys(self) -> list[str]:
        """What a relay needs to verify tickets: raw keys, base64."""
        return [base64.b64encode(self.public_key.public_bytes_raw()).decode()]

    def mint(self, carrier: CarrierId, leg: Party, region: str) -> str:
        """A fresh ticket for one leg of `carrier` at the relay of `region`."""
        now = self._clock.now().wall
        claims = {
            "aud": AUDIENCE,
            "cid": carrier.connection_id,
            "car": carrier.number,
            "leg": str(leg),
            "reg": region,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + TICKET_LIFE_S,
        }
        return jwt.encode(claims, self._private, algorithm=ALGORITHM)
