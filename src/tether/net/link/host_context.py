"""What a link asks of the machine that it runs on when it ends. Small, for everybody imports it.

Law: an interface, its empty form, and forms that pass on; `net.host.watch` has the full one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from tether.attribution.evidence import Evidence, LoopStalled, Pressure, Suspended
from tether.attribution.vocabulary import Party, Vantage

SHARED = (Suspended, LoopStalled, Pressure)
"""What happens to a whole process or machine."""


class HostContext(Protocol):
    """Facts of the machine and the process that may have to do with an end."""

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        """What happened in the last minute, or during a silence of `silence_s` where that is
        longer, seen from a stream whose own end is `local_address` ("" where it is not known)."""


class NoHostContext:
    """For links whose machine nobody watches."""

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        return ()


class LazyHostContext:
    """For a process that is often over within a second: the machine is watched, and paid for, later.

    `begin` is given the real ones when it is time for them.
    """

    def __init__(self) -> None:
        self._real: HostContext = NoHostContext()

    def begin(self, real: HostContext) -> None:
        """From now on `real` is asked."""
        self._real = real

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        return self._real.since(silence_s, local_address)


class SharedHostContext:
    """Of a process that two parties share (a server and the relay in it), told as the guest's: what the
    host's loop or machine suffered, the guest's did, too."""

    def __init__(self, real: HostContext, *, host: Party, guest: Party) -> None:
        self._real = real
        self._host = host
        self._guest = guest

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        vantage = Vantage(str(self._guest))
        return [
            replace(fact, party=self._guest, vantage=vantage)
            for fact in self._real.since(silence_s, local_address)
            if isinstance(fact, SHARED) and fact.party is self._host
        ]
