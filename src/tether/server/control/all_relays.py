"""Every relay of this installation as one: the embedded one and those that have registered.

Law: asks and tells; decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.net.derp.relay import Relay
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.derp import RelayGoodbye
from tether.server.control.relays import RelayLinks


@dataclass(frozen=True, slots=True)
class Relays:
    """`embedded` is None where the server runs none of its own."""

    embedded: Relay | None
    links: RelayLinks

    def lives(self, connection_id: str) -> bool:
        """Whether a relay carries the tunnel, as far as is known here."""
        here = self.embedded is not None and self.embedded.lives(connection_id)
        return here or self.links.lives(connection_id)

    def end(self, connection_id: str, goodbye: RelayGoodbye) -> None:
        """Somebody decided that this tunnel shall end, or not come to be."""
        if self.embedded is not None:
            self.embedded.end(connection_id, goodbye)
        self.links.end(connection_id, goodbye)

    def decline(self, carrier: CarrierId, message: str, cause: str = "", actor: str = "") -> None:
        """The agent cannot take this carrier: its client is told where it waits."""
        if self.embedded is not None:
            self.embedded.decline(carrier, message, cause, actor)
        goodbye = RelayGoodbye(cause=cause, actor=actor, detail=message)
        self.links.end(carrier.connection_id, goodbye, carrier.number)
