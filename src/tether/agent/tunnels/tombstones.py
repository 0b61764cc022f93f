"""Tunnels that have ended in this run of the agent, so that a client that comes back learns why.

Law: bounded in number and in time. Only a client that proves to hold the tunnel's key is told; to
anybody else, a tunnel that has ended is one that never was.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import Party
from tether.protocol.timestamp import Timestamp
from tether.protocol.tunnel.join import (
    TUNNEL_OVER,
    TUNNEL_UNKNOWN,
    Join,
    JoinRefused,
    TunnelKey,
    UsedNumbers,
    check_join,
)

KEPT = 1024
KEPT_S = 24 * 3600.0

MAX_TOLD = 300
"""Bytes of an actor or a detail: the refusal must fit a carrier's first frame."""

_NOTHING = UsedNumbers()


@dataclass(frozen=True, slots=True)
class _Stone:
    key: TunnelKey
    refusal: JoinRefused
    until: float


class Tombstones:
    """The ended tunnels of one agent."""

    def __init__(self, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._stones: dict[str, _Stone] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._stones)

    def add(
        self, connection_id: str, key: TunnelKey, disconnect: Disconnect, now: Timestamp
    ) -> None:
        """This tunnel has ended."""
        refusal = JoinRefused(
            code=TUNNEL_OVER,
            cause=disconnect.cause,
            actor=_short(disconnect.actor),
            detail=_short(disconnect.detail),
        )
        self._stones.pop(connection_id, None)
        self._stones[connection_id] = _Stone(key, refusal, now.mono + KEPT_S)
        while len(self._stones) > self._kept:
            del self._stones[next(iter(self._stones))]

    def refusal(self, attach: Join, now: Timestamp) -> JoinRefused:
        """The answer to a client that wants to join a tunnel which is not served."""
        self._forget(now)
        stone = self._stones.get(attach.connection_id)
        if stone is None or check_join(
            attach,
            key=stone.key,
            connection_id=attach.connection_id,
            peer=Party.CLIENT,
            used=_NOTHING,
        ):
            return JoinRefused(code=TUNNEL_UNKNOWN)
        return stone.key.refuse(stone.refusal, attach.connection_id, attach.carrier)

    def code(self, connection_id: str, now: Timestamp) -> str:
        """The code for the server, which learns the rest by the journal."""
        self._forget(now)
        return TUNNEL_OVER if connection_id in self._stones else TUNNEL_UNKNOWN

    def _forget(self, now: Timestamp) -> None:
        while self._stones:
            oldest = next(iter(self._stones))
            if self._stones[oldest].until > now.mono:
                return
            del self._stones[oldest]


def _short(text: str) -> str:
    return text.encode()[:MAX_TOLD].decode(errors="ignore")
