"""How many connections a listener has, and who gives way when they are too many.

Law: nobody who is silent keeps out somebody who is not. A connection that has not asked for anything yet
gives way to a newer one when there are too many of its kind: the oldest of the address that has the most
of them, so that whoever crowds the door loses first. Beyond the number that leaves descriptors for
everything else, connections are answered about the process's health only.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable
from typing import Protocol

RESERVED = 128
"""Descriptors that connections of others never take: the database's, the log's, those of health checks
and of whoever is being turned away."""

MAX_SILENT = 256
"""Connections of one listener whose request has not come; a request takes a round trip or two."""

MAX_DESCRIPTORS = 1 << 20
"""More are not asked for, where the system would give any number."""


class Silent(Protocol):
    """A connection whose request has not come."""

    def give_way(self) -> None:
        """Drop it."""


class Crowd:
    """The connections of one listener."""

    def __init__(
        self,
        *,
        most: int | None = None,
        most_silent: int = MAX_SILENT,
        gave_way: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            most: connections that are served; None: as many as there are.
            most_silent: of those, the ones whose request has not come.
            gave_way: is called for each that is dropped for another.
        """
        self.most = most
        self._most_silent = most_silent if most is None else max(1, min(most_silent, most // 2))
        self._gave_way = gave_way
        self._silent: dict[Silent, str] = {}  # in the order in which they fell silent -> address
        self._hosts: Counter[str] = Counter()

    def is_full(self, connections: int) -> bool:
        """Whether so many connections are too many."""
        return self.most is not None and connections > self.most

    def waits(self, connection: Silent, host: str) -> None:
        """A connection from `host` waits for its request; of too many, one gives way."""
        self.speaks(connection)
        if len(self._silent) >= self._most_silent:
            ((crowding, _),) = self._hosts.most_common(1)
            victim = next(one for one, of in self._silent.items() if of == crowding)
            self.speaks(victim)
            victim.give_way()
            self._gave_way()
        self._silent[connection] = host
        self._hosts[host] += 1

    def speaks(self, connection: Silent) -> None:
        """Its request has come, or it is gone."""
        host = self._silent.pop(connection, None)
        if host is not None:
            self._hosts[host] -= 1
            if self._hosts[host] <= 0:
                del self._hosts[host]


def raise_descriptor_limit() -> int:
    """Take as many descriptors as the system allows this process; how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):  # a container that allows less than it says
            return soft
        return wanted
    return soft if soft != resource.RLIM_INFINITY else MAX_DESCRIPTORS


def most_connections() -> int:
    """How many connections this process may have, with `RESERVED` descriptors left for the rest."""
    return max(RESERVED, raise_descriptor_limit() - RESERVED)
