"""Which runs of clients are here: a run that dials anew explains how its link before that ended.

Law: a client has one control link at a time, so what is left of an older one of the same run is dead,
whatever its stream looks like; it is asked once more, and cut. A run whose process is known to have
ended its link, and that does not come back within seconds, is lost: the agents of its tunnels
get to know it, who see whether the tunnels' own streams ended in that way, too. Bounded: of runs that
left, the last are remembered, and of each the last tunnels. Only a run's own user can come back as it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver

MOST = 4096
ANSWER_S = 1.0
"""How long what is left of an older link may take to answer a ping: a reset proves more than silence."""

LOST_S = 10.0
"""How long a run that lives may take to dial anew: it tries at once, and often by then. What its user's
proxy or VPN needs to restart is to cost no session."""

MOST_TUNNELS = 64

RETURN_S = 600.0
"""A return after more than this proves nothing about the end before it."""


@dataclass(slots=True)
class _Run:
    connection_id: str
    client_ip: str
    driver: LinkDriver
    ended_at: float | None = None
    tunnels: dict[str, str] = field(default_factory=dict)
    """Connection ids and their workspaces'."""


class ClientRuns:
    """The runs of clients. Call `here` for each welcomed link, `gone` when its row is closed."""

    def __init__(
        self,
        clock: Clock,
        judge_again: Callable[[str, ev.PeerReturned], Awaitable[None]],
        lost: Callable[[dict[str, str]], None],
    ) -> None:
        """`judge_again` is called with a closed link whose client has come back; `lost` with the tunnels
        (and their workspaces) of a run that did not."""
        self._clock = clock
        self._judge_again = judge_again
        self._lost = lost
        self._asked: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._runs: dict[tuple[str, str], _Run] = {}

    async def here(
        self, user: str, instance_id: str, connection_id: str, client_ip: str, driver: LinkDriver
    ) -> None:
        """A link of this run is welcomed."""
        key, now = (user, instance_id), self._clock.now()
        last = self._runs.pop(key, None)
        tunnels = {} if last is None else last.tunnels
        self._runs[key] = _Run(connection_id, client_ip, driver, tunnels=tunnels)
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
            last.driver.ping()
            self._asked[key] = asyncio.get_running_loop().call_later(
                ANSWER_S, self._replace, last.driver, returned
            )

    def _replace(self, driver: LinkDriver, returned: ev.PeerReturned) -> None:
        """The old link had its time to answer our ping."""
        if not driver.cell.ended:
            driver.cut(
                ev.StreamEnded(
                    vantage=Vantage.SERVER,
                    at=self._clock.now().wall,
                    peer=Party.CLIENT,
                    how=StreamEnd.SILENT,
                    heard_ago_s=round(driver.heard_ago_s(), 3),
                ),
                returned,
            )

    def granted(self, user: str, instance_id: str, connection_id: str, workspace_id: str) -> None:
        """This run was granted a tunnel."""
        run = self._runs.get((user, instance_id))
        if run is not None:
            run.tunnels[connection_id] = workspace_id
            while len(run.tunnels) > MOST_TUNNELS:
                del run.tunnels[next(iter(run.tunnels))]

    def gone(
        self,
        user: str,
        instance_id: str,
        connection_id: str,
        is_certain: Callable[[], bool],
    ) -> None:
        """This link's row is closed. `is_certain` tells, seconds later, whether its process is known to
        have ended it."""
        run = self._runs.get((user, instance_id))
        if run is not None and run.connection_id == connection_id:
            run.ended_at = self._clock.now().mono
            if run.tunnels:
                asyncio.get_running_loop().call_later(
                    LOST_S, self._stays_away, user, instance_id, run, is_certain
                )

    def _stays_away(
        self, user: str, instance_id: str, run: _Run, is_certain: Callable[[], bool]
    ) -> None:
        if self._runs.get((user, instance_id)) is run and is_certain():
            self._lost(run.tunnels)
