"""Accepting a leg at a relay's port: first its ticket, then the upgrade, then the relay.

Law: the one place that does it, for the embedded relay and a standalone one. A leg without a good
ticket is answered with an HTTP error before the upgrade: 503 where it may try again, else 401.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from tether.net.derp.relay import Relay
from tether.net.derp.tickets import TicketGate, TicketRefused
from tether.net.transport.streams import StreamLost
from tether.net.transport.ws_server import ServerStream


async def accept_leg(
    stream: ServerStream,
    token: str,
    *,
    gate: TicketGate,
    relay: Relay,
    client_ip: str,
    refuse: Callable[[int, str, str], Awaitable[None]],
) -> None:
    """Serve one leg until it is over, or turn it away.

    Args:
        stream: the WebSocket, whose upgrade is not answered yet.
        token: its ticket.
        gate: what redeems the ticket.
        relay: what serves the leg.
        client_ip: where the leg comes from.
        refuse: turns the upgrade away with an HTTP status, a code and a sentence.
    """
    try:
        ticket = gate.redeem(token)
    except TicketRefused as refused:
        relay.counts.refused(refused.code)
        await refuse(503 if refused.code == "relay_busy" else 401, refused.code, str(refused))
        return
    with contextlib.suppress(StreamLost):
        await stream.accept()
        await relay.serve(stream, ticket, client_ip)
