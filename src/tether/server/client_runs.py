"""Which runs of clients are here: a run that dials anew explains how its link before that ended.

Law: a client has one control link at a time, so what is left of an older one of the same run is dead,
whatever its stream looks like; it is asked once more, and cut. Bounded: of runs that left, the last are
remembered. Only a run's own user can come back as it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.net.clock import Clock
from tether.net.driver import LinkDriver

MOST = 4096
ANSWER_S = 1.0
"""How long what is left of an older link may take to say how it is: a reset tells more than we can."""

RETURN_S = 600.0
"""A return after more than this says nothing of the end before it."""


@dataclass(slots=True)
class _Run:
    connection_id: str
    client_ip: str
    driver: LinkDriver
    ended_at: float | None = None


class ClientRuns:
    """See the module's law. `here` for each welcomed link, `gone` when its row is closed."""

    def __init__(
        self, clock: Clock, judge_again: Callable[[str, ev.PeerReturned], Awaitable[None]]
    ) -> None:
        """`judge_again` is told of a closed link whose client has come back."""
        self._clock, self._judge_again = clock, judge_again
        self._asked: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._runs: dict[tuple[str, str], _Run] = {}

    async def here(
        self, user: str, instance_id: str, connection_id: str, client_ip: str, driver: LinkDriver
    ) -> None:
        """A link of this run is welcomed."""
        key, now = (user, instance_id), self._clock.now()
        last = self._runs.pop(key, None)
        self._runs[key] = _Run(connection_id, client_ip, driver)
        while len(self._runs) > MOST:
            del self._runs[next(iter(self._runs))]
        if last is None:
            return
        after_s = 0.0 if last.ended_at is None else now.mono - last.ended_at
        returned = ev.PeerReturned(
            vantage=Vantage.SERVER,
            at=now.wall,
            party=Party.CLIENT,
            after_s=round(after_s, 3),
            same_run=True,
            same_address=last.client_ip == client_ip,
        )
        if last.ended_at is not None:
            if after_s <= RETURN_S:
                await self._judge_again(last.connection_id, returned)
        elif not last.driver.cell.ended:
            last.driver.ask()
            self._asked[key] = asyncio.get_running_loop().call_later(
                ANSWER_S, self._replace, last.driver, returned
            )

    def _replace(self, driver: LinkDriver, returned: ev.PeerReturned) -> None:
        """What the old link's own way said to our question is known now, if it said anything."""
        if not driver.cell.ended:
            driver.cut(
                ev.StreamEnded(
                    vantage=Vantage.SERVER,
                    at=self._clock.now().wall,
                    peer=Party.CLIENT,
                    how=StreamEnd.SILENT,
                    silence_s=None,
                ),
                returned,
            )

    def gone(self, user: str, instance_id: str, connection_id: str) -> None:
        """This link's row is closed."""
        run = self._runs.get((user, instance_id))
        if run is not None and run.connection_id == connection_id:
            run.ended_at = self._clock.now().mono
