"""What a link asks of the machine that it runs on when it ends. Small, for everybody imports it.

Law: an interface and its empty form; `net.host_watch` has the full one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tether.attribution.evidence import Evidence


class Surroundings(Protocol):
    """Facts of the machine and the process that may have to do with an end."""

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        """What happened in the last minute, or during a silence of `silence_s` where that is
        longer, seen from a stream whose own end is `local_address` ("" where it is not known)."""


class NoSurroundings:
    """For links whose machine nobody watches."""

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        return ()


def local_address(stream: object) -> str:
    """The address that `stream` runs from, where it tells."""
    told = getattr(stream, "local_address", "")
    return told if isinstance(told, str) else ""
