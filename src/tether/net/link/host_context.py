"""What a link that ends asks about the machine that it runs on.

Law: the interface, and small implementations that everybody can afford to import; the one that watches
the machine is in `net.host.watch`.
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
    """Facts about the machine and the process that may have to do with the end of a link."""

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        """What happened lately.

        Args:
            silence_s: for how long nothing had come; facts go back so far, and one minute at least.
            local_address: our end of the stream; "" where that is not known.
        """


class NoHostContext:
    """For links whose machine nobody watches."""

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        return ()


class LazyHostContext:
    """For a process that is often over within a second: it begins to watch the machine later."""

    def __init__(self) -> None:
        self._real: HostContext = NoHostContext()

    def begin(self, real: HostContext) -> None:
        """Ask `real` from now on; until then there are no facts."""
        self._real = real

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        return self._real.since(silence_s, local_address)


class SharedHostContext:
    """For a party that lives in the process of another one, as the embedded relay does in the server's.

    What happened to the process or the machine happened to both, and is told as a fact about the guest.
    """

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
