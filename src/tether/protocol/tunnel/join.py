"""How a carrier joins its tunnel: who it is for, and the proof that its dialler holds the tunnel's key.

Law: no I/O. The key comes over the control links and never goes onto a carrier; neither it nor a proof
is ever printed. A carrier's number is good once: what was used is remembered in bounded form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from tether.attribution.evidence import GoodbyeSaid
from tether.attribution.vocabulary import Party, Vantage
from tether.protocol.messages.base import Garbage

KEY_BYTES = 32

MAX_NUMBER = (1 << 53) - 1
"""The highest number of a carrier."""

TUNNEL_UNKNOWN = "tunnel_unknown"
TUNNEL_OVER = "tunnel_over"
BAD_PROOF = "bad_proof"
CARRIER_USED = "carrier_used"
TOO_MANY = "too_many_carriers"
NOT_JOINED = "not_attached"
"""Codes of a refusal. `NOT_JOINED` is never sent: it stands for an opening that was none."""


class Join(msgspec.Struct, frozen=True, kw_only=True, tag="attach", omit_defaults=True):
    """First on a carrier, from both ends, whose sender has consumed everything up to `received`.

    `missed_s` is for how many seconds the sender had had no carrier when it opened this one, the silence
    for which it had given up the last one included. The other end may not have noticed: a proxy's kernel
    answers for whoever is behind it.
    """

    connection_id: str
    carrier: int
    party: str
    received: int
    proof: bytes
    missed_s: float = 0.0

    def __repr__(self) -> str:
        return (
            f"Join(connection_id={self.connection_id!r}, carrier={self.carrier}, "
            f"party={self.party!r}, received={self.received})"
        )


class JoinRefused(msgspec.Struct, frozen=True, kw_only=True, tag="refused", omit_defaults=True):
    """The answer to a join that is not accepted.

    `cause`, `actor` and `detail` tell why a tunnel is over; `proof` is there where the refuser still
    holds the tunnel's key. Without a proof, anybody may have said this.
    """

    code: str
    cause: str = ""
    actor: str = ""
    detail: str = ""
    proof: bytes = b""

    def __repr__(self) -> str:
        return f"JoinRefused(code={self.code!r}, cause={self.cause!r}, actor={self.actor!r})"


Opening: TypeAlias = Join | JoinRefused


class TunnelKey:
    """The secret that both ends of a tunnel were given."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def read(cls, text: str) -> TunnelKey:
        """The key of a grant or an offer.

        Raises:
            Garbage: it is none.
        """
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise Garbage("no tunnel key") from None
        return cls(key)

    def __repr__(self) -> str:
        return "TunnelKey(…)"

    def join(
        self,
        party: Party,
        connection_id: str,
        carrier: int,
        received: int,
        missed_s: float = 0.0,
    ) -> Join:
        """The opening of a carrier, with its proof; see `Join`."""
        return Join(
            connection_id=connection_id,
            carrier=carrier,
            party=str(party),
            received=received,
            proof=self._prove("attach", str(party), connection_id, str(carrier), str(received)),
            missed_s=missed_s,
        )

    def proves(self, join: Join) -> bool:
        """Whether whoever made `join` holds the key."""
        expected = self._prove(
            "attach", join.party, join.connection_id, str(join.carrier), str(join.received)
        )
        return hmac.compare_digest(join.proof, expected)

    def of_frames(self, party: Party, connection_id: str, carrier: int) -> bytes:
        """The key of the frames that `party` sends on this carrier."""
        return self._prove("frames", str(party), connection_id, str(carrier))

    def refuse(self, refusal: JoinRefused, connection_id: str, carrier: int) -> JoinRefused:
        """`refusal` with its proof."""
        return msgspec.structs.replace(
            refusal, proof=self._prove_refusal(refusal, connection_id, carrier)
        )

    def proves_refusal(self, refusal: JoinRefused, connection_id: str, carrier: int) -> bool:
        """Whether whoever made `refusal` of this carrier holds the key."""
        return hmac.compare_digest(
            refusal.proof, self._prove_refusal(refusal, connection_id, carrier)
        )

    def _prove_refusal(self, refusal: JoinRefused, connection_id: str, carrier: int) -> bytes:
        return self._prove(
            "refused",
            connection_id,
            str(carrier),
            refusal.code,
            refusal.cause,
            refusal.actor,
            refusal.detail,
        )

    def _prove(self, *words: str) -> bytes:
        parts = [word.encode(errors="surrogatepass") for word in words]
        said = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, said, hashlib.sha256)


def said_by(refusal: JoinRefused, by: Party, vantage: Vantage, at: float) -> GoodbyeSaid:
    """What the other end said, by a proven refusal, about the end of the tunnel."""
    return GoodbyeSaid(
        vantage=vantage,
        at=at,
        by=by,
        cause=refusal.cause,
        actor=refusal.actor,
        detail=refusal.detail,
    )


REMEMBERED = 64
"""Numbers below the highest of which it is known whether they were used."""


@dataclass(slots=True)
class UsedNumbers:
    """Which numbers were used: the highest, and a bit for each of the `REMEMBERED` below it.

    Older ones count as used, because clients count up.
    """

    _highest: int = 0
    _below: int = 0

    def __contains__(self, number: int) -> bool:
        behind = self._highest - number
        if behind < 0:
            return False
        return behind >= REMEMBERED or bool(self._below >> behind & 1)

    def add(self, number: int) -> None:
        """`number` was used."""
        ahead = number - self._highest
        if ahead > 0:
            kept = self._below << ahead if ahead < REMEMBERED else 0
            self._highest = number
            self._below = (kept | 1) & ((1 << REMEMBERED) - 1)
        elif -ahead < REMEMBERED:
            self._below |= 1 << -ahead


def check_join(
    join: Join, *, key: TunnelKey, connection_id: str, peer: Party, used: UsedNumbers
) -> str:
    """The code of what speaks against `join`; "" for nothing. The proof comes first, so that whoever
    cannot prove anything is told nothing."""
    if join.connection_id != connection_id or join.party != str(peer):
        return BAD_PROOF
    if not 1 <= join.carrier <= MAX_NUMBER or not key.proves(join):
        return BAD_PROOF
    return CARRIER_USED if join.carrier in used else ""
