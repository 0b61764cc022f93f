"""The lines of this client's control plane: one for each end, with the fields of the contract.

Law: for developers, under TETHER_DEBUG only; otherwise this module is not even imported, for its parts
take longer than many an `ssh` lives. A dial or an opening that fails is no disconnect and has none of
its fields. What is told here goes to no server: the record is made of facts.
"""

from __future__ import annotations

from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType
from tether.log import disconnected, get_logger
from tether.net.link.coordination import Event
from tether.net.transport.streams import DialFailed
from tether.protocol.coordination.client import CoordinationEnded, OpenFailed, StreamOpened, Warned
from tether.protocol.coordination.peers import PeerChanged, PeerReady

_CONNECT_TYPE = ConnectType.CLIENT_TO_SERVER


class ControlLines:
    """One client's."""

    def __init__(self) -> None:
        self._log = get_logger("control")

    def link_up(self, connection_id: str, server_version: str) -> None:
        """A link was welcomed."""
        self._log.info(
            "connected to server", connection_id=connection_id, server_version=server_version
        )

    def link_over(self, connection_id: str, facts: tuple[Evidence, ...], lived_s: float) -> None:
        """A link that was welcomed is over."""
        disconnected(
            self._log,
            "disconnected from server",
            classify(_CONNECT_TYPE, facts).disconnect,
            connection_id=connection_id,
            duration_s=round(lived_s, 3),
        )

    def dial_failed(self, failed: DialFailed, retry_in_s: float) -> None:
        """No link came up."""
        self._log.warning(
            "failed to dial server",
            error=str(failed),
            cause=failed.cause,
            retry_in_s=round(retry_in_s, 2),
        )

    def coordination(self, connection_id: str, event: Event) -> None:
        """Something happened to the coordination stream of a link, or to a peer."""
        match event:
            case StreamOpened(peer_id=peer_id):
                self._log.info(
                    "connected to coordination RPC", connection_id=connection_id, peer_id=peer_id
                )
            case CoordinationEnded():
                disconnected(
                    self._log,
                    "disconnected from coordination RPC",
                    classify(_CONNECT_TYPE, event.facts).disconnect,
                    connection_id=connection_id,
                    duration_s=round(event.lived_s, 3),
                    acknowledged=event.acknowledged,
                    retry_in_s=event.retry_in_s,
                )
            case OpenFailed():
                self._log.warning(
                    "failed to open coordination RPC",
                    connection_id=connection_id,
                    error=event.error,
                    cause=event.cause,
                    retry_in_s=event.retry_in_s,
                )
            case Warned(error=error):
                self._log.warning("coordination warning", connection_id=connection_id, error=error)
            case PeerChanged(update=update):
                self._log.debug(
                    "tunnel peer changed",
                    peer_id=update.id,
                    change=update.kind,
                    reason=update.reason,
                    cause=update.cause,
                )
            case PeerReady():
                pass  # nothing waits for it: whoever holds the tunnel's key is let in at any time
