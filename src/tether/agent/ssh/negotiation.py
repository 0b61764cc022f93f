"""What two offers of algorithms have in common: MSG_KEXINIT of RFC 4253 section 7.1.

Law: pure, and total over what the peer may send. asyncssh finds out the same a turn of the loop later,
when the client may have left already; who reads the offers as they arrive is never late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asyncssh.packet import PacketDecodeError, SSHPacket

HOST_KEY_TYPES = 1
"""The place of the list that the host key's algorithm is chosen from."""

_PURPOSES = (
    "key exchange",
    "host key type",
    "cipher",
    "cipher",
    "MAC",
    "MAC",
    "compression",
    "compression",
)
"""What each list of names in the message is for, in its order; ciphers and what follows both ways."""

_MAC_OF = {4: 2, 5: 3}
"""A list of MACs -> the list of ciphers whose choice says whether one is needed."""

_MARKERS = (b"ext-info-", b"kex-strict-")
"""Names among the key exchanges that are none: what a party can do besides (RFC 8308)."""

SHOWN = 300
"""So many characters of an offer are kept."""


@dataclass(frozen=True, slots=True)
class NothingInCommon:
    """For one purpose the client's offer (`theirs`) and the agent's have nothing in common."""

    purpose: str
    theirs: str
    ours: str


def nothing_in_common(
    ours: bytes, theirs: bytes, needs_mac: Callable[[bytes], bool]
) -> NothingInCommon | None:
    """The first purpose for which two offers have nothing in common; None where they can go on.

    Args:
        ours: the agent's MSG_KEXINIT without its type.
        theirs: the client's, likewise.
        needs_mac: whether a cipher needs a MAC beside it.
    """
    try:
        mine, peers = _lists(ours), _lists(theirs)
    except PacketDecodeError:
        return None  # asyncssh says what is wrong with it
    chosen: list[bytes | None] = []
    for place, purpose in enumerate(_PURPOSES):
        known = set(mine[place])
        chosen.append(next((name for name in peers[place] if name in known), None))
        cipher = chosen[_MAC_OF[place]] if place in _MAC_OF else None
        if cipher is not None and not needs_mac(cipher):
            continue
        if chosen[place] is None:
            return NothingInCommon(purpose, _shown(peers[place]), _shown(mine[place]))
    return None


def chosen_algorithm(ours: bytes, theirs: bytes, place: int) -> bytes:
    """What two offers come to in the list at `place`; b"" where they have nothing in common there."""
    try:
        mine, peers = _lists(ours), _lists(theirs)
    except PacketDecodeError:
        return b""  # asyncssh says what is wrong with it
    known = set(mine[place])
    return next((name for name in peers[place] if name in known), b"")


def _lists(message: bytes) -> list[list[bytes]]:
    packet = SSHPacket(message)
    packet.get_bytes(16)  # the cookie
    lists = [list(packet.get_namelist()) for _ in _PURPOSES]
    lists[0] = [name for name in lists[0] if not name.startswith(_MARKERS)]
    return lists


def _shown(names: list[bytes]) -> str:
    return b",".join(names).decode("ascii", "replace")[:SHOWN]
