"""The opening of a control link: our hello, the server's welcome.

Law: until the welcome there is no link, so whatever goes wrong is a failed dial: one sentence, and
never a disconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tether.attribution.disconnect import Disconnect
from tether.attribution.explain import explain
from tether.attribution.vocabulary import Basis, ConnectType
from tether.net.transport.streams import DialFailed, MessageStream, StreamLost
from tether.protocol.messages.base import Garbage
from tether.protocol.messages.codec import PROTOCOL, decode, encode
from tether.protocol.messages.control import Goodbye, GoodbyeAck, Hello, Welcome

WELCOME_TIMEOUT_S = 10.0


class WelcomeRefused(DialFailed):
    """The server answered our hello with a goodbye."""

    def __init__(self, goodbye: Goodbye, who: str) -> None:
        judged = Disconnect(
            connect_type=ConnectType.SERVER_TO_AGENT,
            cause=goodbye.cause,
            basis=Basis.DECLARED,
            actor=goodbye.actor,
        )
        sentence = goodbye.detail or explain(judged).sentence
        super().__init__(f"the server turned this {who} away: {sentence}", cause=goodbye.cause)
        self.goodbye = goodbye


async def greet(
    stream: MessageStream, hello: Callable[[], Awaitable[Hello]], who: str = "agent"
) -> Welcome:
    """Say hello on a fresh stream; the server's welcome. `who` we are, for people.

    Raises:
        DialFailed: there was none; the stream is closed.
    """
    welcomed = False
    try:
        greeting = encode(await hello())
        async with asyncio.timeout(WELCOME_TIMEOUT_S):
            await stream.send(greeting)
            welcome = await _answer(stream, who)
        welcomed = True
    except StreamLost as lost:
        raise DialFailed(f"the server hung up before it welcomed this {who}: {lost}") from lost
    except TimeoutError:
        raise DialFailed("the server took the connection and then said nothing") from None
    except Garbage as garbage:
        raise DialFailed(f"the server does not speak Tether's protocol: {garbage}") from garbage
    finally:
        if not welcomed:
            await stream.close(1000, "not welcomed")
    return welcome


async def _answer(stream: MessageStream, who: str) -> Welcome:
    while True:
        raw = await stream.recv()
        if isinstance(raw, str):
            raise Garbage("a text message")
        match decode(raw):
            case Welcome(protocol=(major, _)) if major != PROTOCOL[0]:
                raise DialFailed(
                    f"the server speaks protocol {major} and this {who} {PROTOCOL[0]}: upgrade "
                    f"the older of the two"
                )
            case Welcome() as welcome:
                return welcome
            case Goodbye() as goodbye:
                with contextlib.suppress(StreamLost):
                    await stream.send(encode(GoodbyeAck()))
                raise WelcomeRefused(goodbye, who)
            case _:
                pass  # nothing else is owed an answer before the welcome
