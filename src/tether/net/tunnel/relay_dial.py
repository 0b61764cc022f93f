"""Dials a leg at a relay, and waits until the other leg of the carrier is there.

Law: whatever goes wrong until then is a failed dial, never a disconnect.
"""

from __future__ import annotations

import asyncio

from tether.net.transport.streams import (
    DialFailed,
    MessageStream,
    StreamLost,
    unforeseen_failure,
)
from tether.net.transport.ws_client import dial
from tether.protocol.messages.base import Garbage
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME
from tether.protocol.messages.derp import Paired, PeerGone, RelayGoodbye, decode_word

PAIRING_TIMEOUT_S = 20.0
"""How long the other leg may take: a little longer than the relay itself waits for it."""


async def dial_relay(url: str, ticket: str, small_segments: bool = False) -> MessageStream:
    """Dial one leg, and wait until the other one is there; see `connect_tcp` for `small_segments`.

    Raises:
        DialFailed: the relay could not be reached, refused the ticket, or the other leg did not come.
    """
    stream = await dial(url, token=ticket, max_size=MAX_TUNNEL_FRAME, small_segments=small_segments)
    try:
        async with asyncio.timeout(PAIRING_TIMEOUT_S):
            while True:
                raw = await stream.recv()
                if not isinstance(raw, str):
                    raise DialFailed("the relay sent data before it had paired the tunnel")
                match decode_word(raw):
                    case Paired():
                        return stream
                    case RelayGoodbye(detail=detail, cause=cause):
                        raise DialFailed(detail or "the relay refused the tunnel", cause=cause)
                    case PeerGone():
                        raise DialFailed("the other end of the tunnel left before it was joined")
    except TimeoutError:
        await stream.close(1001, "not paired in time")
        raise DialFailed("the other end of the tunnel did not come to the relay in time") from None
    except StreamLost as lost:
        raise DialFailed(f"the relay ended the tunnel before it was joined: {lost}") from lost
    except Garbage as garbage:
        await stream.close(1002, "not a relay's word")
        raise DialFailed(f"the relay does not speak this protocol: {garbage}") from garbage
    except BaseException as wrong:
        await stream.close(1001, "not joined")
        if isinstance(wrong, DialFailed) or not isinstance(wrong, Exception):
            raise
        raise unforeseen_failure(wrong, "the relay") from wrong
