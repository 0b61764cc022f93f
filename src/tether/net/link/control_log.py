"""The log lines of a control link and of its logical streams: the same words whoever dials.

Law: one line for each end, with the disconnect fields of the contract; a dial or an opening that fails
is no disconnect and has none of them. Clients import this under TETHER_DEBUG only, for its parts take
longer than many an `ssh` lives.
"""

from __future__ import annotations

from collections.abc import Sequence

from tether.attribution.causes.codes import SERVER_DATABASE_UNAVAILABLE
from tether.attribution.classify import classify
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType
from tether.log import disconnected, get_logger
from tether.net.link.coordination import Event
from tether.net.transport.streams import DialFailed
from tether.protocol.coordination.client import CoordinationEnded, OpenFailed, StreamOpened, Warned
from tether.protocol.coordination.peers import PeerChanged

NO_DATABASE = frozenset({"database_unavailable", SERVER_DATABASE_UNAVAILABLE})
"""The server's words for a database that does not answer: of its 503, and of its goodbye."""

_log = get_logger("control")
_coordination_log = get_logger("coordination")


def dialling() -> None:
    """A dial begins."""
    _log.info("connecting to server")


def dial_failed(failed: DialFailed, retry_in_s: float) -> None:
    """No link came up; the next dial is in `retry_in_s` seconds."""
    told = {"error": str(failed), "cause": failed.cause, "retry_in_s": round(retry_in_s, 2)}
    if failed.cause in NO_DATABASE:
        _log.warning("control plane lost connection to database, retrying", **told)
    else:
        _log.warning("failed to dial server", **told)


class ControlLog:
    """The lines of an agent, or of a client."""

    def __init__(self, connect_type: ConnectType) -> None:
        """`connect_type` is that of the control link: the one of which every end is told here."""
        self._connect_type = connect_type

    def dial_failed(self, failed: DialFailed, retry_in_s: float) -> None:
        """See `dial_failed` of this module."""
        dial_failed(failed, retry_in_s)

    def link_up(self, connection_id: str, server_version: str) -> None:
        """A link was welcomed."""
        _log.info("connected to server", connection_id=connection_id, server_version=server_version)

    def link_over(
        self, connection_id: str, facts: Sequence[Evidence], lived_s: float
    ) -> Disconnect:
        """A link that was welcomed is over; what its end was judged to be."""
        judged = self._judge(facts)
        disconnected(
            _log,
            "disconnected from server",
            judged,
            connection_id=connection_id,
            duration_s=round(lived_s, 3),
        )
        return judged

    def map_up(self, connection_id: str, regions: int) -> None:
        """The first DERP map came in over a link."""
        _coordination_log.info(
            "connected to derp map RPC", connection_id=connection_id, regions=regions
        )

    def map_over(self, connection_id: str, facts: Sequence[Evidence], lived_s: float) -> None:
        """No further DERP map comes over this link."""
        disconnected(
            _coordination_log,
            "disconnected from derp map RPC",
            self._judge(facts),
            connection_id=connection_id,
            duration_s=round(lived_s, 3),
        )

    def coordination(self, connection_id: str, event: Event) -> Disconnect | None:
        """Something happened to the coordination stream of a link, or to a peer; of the stream's end,
        what it was judged to be."""
        match event:
            case StreamOpened(peer_id=peer_id):
                _coordination_log.info(
                    "connected to coordination RPC", connection_id=connection_id, peer_id=peer_id
                )
            case CoordinationEnded():
                return self._coordination_over(connection_id, event)
            case OpenFailed():
                _coordination_log.warning(
                    "failed to open coordination RPC",
                    connection_id=connection_id,
                    error=event.error,
                    cause=event.cause,
                    retry_in_s=event.retry_in_s,
                )
            case Warned(error=error):
                _coordination_log.warning(
                    "coordination warning", connection_id=connection_id, error=error
                )
            case PeerChanged(update=update):
                _coordination_log.debug(
                    "tunnel peer changed",
                    peer_id=update.id,
                    change=update.kind,
                    reason=update.reason,
                    cause=update.cause,
                )
        return None

    def _coordination_over(self, connection_id: str, ended: CoordinationEnded) -> Disconnect:
        judged = self._judge(ended.facts)
        disconnected(
            _coordination_log,
            "disconnected from coordination RPC",
            judged,
            connection_id=connection_id,
            duration_s=round(ended.lived_s, 3),
            acknowledged=ended.acknowledged,
            retry_in_s=ended.retry_in_s,
        )
        return judged

    def _judge(self, facts: Sequence[Evidence]) -> Disconnect:
        return classify(self._connect_type, tuple(facts)).disconnect
