"""The ports that clients of this agent listen on, and which connection holds each.

Law: as with sshd, a port is its holder's for as long as that is there. But a client that has vanished
keeps its tunnel for a day, and would keep its ports from the same person's next connection: so whoever
asks for a port that is held makes us ask the holder, and one that does not answer gives it up.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Protocol

from asyncssh.listener import SSHForwardListener

from tether.log import get_logger

_log = get_logger("forwards")


class Holder(Protocol):
    """A connection that holds ports."""

    @property
    def connection_id(self) -> str: ...

    async def answers(self) -> bool:
        """Whether its client is still there: it is asked, and given some seconds."""


class Listeners:
    """Every listener of every connection of one agent."""

    def __init__(self) -> None:
        self._held: dict[SSHForwardListener, Holder] = {}

    async def listen(
        self, holder: Holder, port: int, bind: Callable[[], Awaitable[SSHForwardListener]]
    ) -> SSHForwardListener:
        """What `bind` makes, for `holder`; a port that somebody holds who is gone is freed first.

        Raises:
            OSError: it cannot be bound.
        """
        try:
            listener = await bind()
        except OSError as wrong:
            if not _is_taken(wrong) or not await self._free(port):
                raise
            listener = await bind()
        self._held[listener] = holder
        return listener

    def forget(self, holder: Holder) -> None:
        """Its connection is over; asyncssh has closed its listeners."""
        self._held = {each: by for each, by in self._held.items() if by is not holder}

    async def _free(self, port: int) -> bool:
        """Close the listeners on `port` whose holders do not answer; whether there was one."""
        freed = False
        for listener, holder in list(self._held.items()):
            if listener.get_port() != port or await holder.answers():
                continue
            listener.close()
            self._held.pop(listener, None)
            _log.warning(
                "port taken from a client that is gone",
                connection_id=holder.connection_id,
                port=port,
            )
            freed = True
        return freed


def _is_taken(wrong: OSError) -> bool:
    """asyncio words the error anew where several addresses are bound, and keeps the number."""
    return wrong.errno == errno.EADDRINUSE
