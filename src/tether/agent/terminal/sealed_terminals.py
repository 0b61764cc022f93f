"""Terminals in browsers: tunnels of the purpose `terminal`, served and recorded like any other.

Law: knows no SSH. What `sealed_terminal.py` does on one tunnel, this does for all of them: an attach is
a session of the connection, of the type `reconnecting_pty`, told at its start and at its end.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tether.agent.terminal.sealed_terminal import SealedTerminal
from tether.agent.terminal.terminals import Terminals
from tether.agent.tunnels.service import ConnectionEnd, end_of, leave_each
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectionType
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.e2e_channel import AgentChannel, read_public_line
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.reports import ReportItem, SessionRecord
from tether.protocol.messages.tunnel import TunnelOffer

_log = get_logger("terminal")


class SealedTerminals:
    """Serves tunnels of the purpose `terminal`."""

    def __init__(
        self,
        *,
        terminals: Callable[[], Terminals],
        host_key: Ed25519PrivateKey,
        workspace: Callable[[], str],
        clock: Clock,
        on_item: Callable[[ReportItem], object],
    ) -> None:
        """`terminals` are those that take attaches now; `on_item` is given what is to be reported."""
        self._terminals, self._host_key, self._workspace = terminals, host_key, workspace
        self._clock, self._on_item = clock, on_item
        self._served: dict[str, SealedTerminal] = {}

    async def serve(self, stream: TunnelStream, offer: TunnelOffer) -> ConnectionEnd:
        """Serve one tunnel to its end.

        Raises:
            ValueError: the offer's key is none of a sealed channel: the server checks that.
        """
        connected_at, attach_id = self._clock.now(), uuid.uuid4().hex
        key = read_public_line(offer.public_key)
        terminal = SealedTerminal(
            stream,
            AgentChannel(offer.connection_id, key, self._host_key),
            self._terminals(),
            offer=offer,
            workspace=self._workspace(),
            attach_id=attach_id,
            clock=self._clock,
        )
        session = SessionRecord(
            connection_id=offer.connection_id,
            session_id=attach_id,
            session_type=ConnectionType.RECONNECTING_PTY,
            started_at=connected_at.wall,
            pty=True,
        )
        self._on_item(session)
        self._served[offer.connection_id] = terminal
        try:
            await terminal.run()
        finally:
            del self._served[offer.connection_id]
            now = self._clock.now()
            self._on_item(_ended(session, terminal, now.wall))
            end = end_of(_log, "terminal tunnel closed", terminal.tunnel, offer, connected_at, now)
        return end

    def end(
        self,
        connection_ids: Iterable[str] | None,
        *,
        fact: Evidence,
        cause: str,
        actor: str = "",
        detail: str = "",
        announcement: str = "",
    ) -> None:
        """End these tunnels, or all of them; the terminals live on unless they are abandoned."""
        tunnels = {name: terminal.tunnel for name, terminal in self._served.items()}
        leave_each(tunnels, connection_ids, fact, cause=cause, actor=actor, detail=detail)


def _ended(session: SessionRecord, terminal: SealedTerminal, at: float) -> SessionRecord:
    status = None if terminal.attach_end is None else terminal.attach_end.status
    return msgspec.structs.replace(
        session,
        ended_at=at,
        exit_code=None if status is None else status.code,
        exit_signal=None if status is None else status.signal,
    )
