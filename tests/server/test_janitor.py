"""When a tunnel that nobody reports is closed, told by a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest

from tests.support.clock import HandClock
from tether.attribution import evidence as ev
from tether.server.connlog import ConnectionLog
from tether.server.janitor import Janitor, _Awaited
from tether.server.records import OpenTunnel
from tether.server.schema import ConnectionStatus
from tether.server.settings import Graces
from tether.server.store import StoreUnavailable

pytestmark = pytest.mark.anyio


class Closed:
    """As much of a connection log as the janitor uses: keeps what it is asked to close."""

    def __init__(self) -> None:
        self.tunnels: dict[str, list[str]] = {}
        self.broken = False

    async def close_tunnel(
        self, connection_id: str, facts: Iterable[ev.Evidence], *, ended_at: float | None = None
    ) -> None:
        if self.broken:
            raise StoreUnavailable("the disk is full")
        self.tunnels[connection_id] = [type(fact).__name__ for fact in facts]


class Site:
    """A janitor whose clock stands still."""

    def __init__(self, **graces: Any) -> None:
        self.clock, self.closed, self.alive = HandClock(100.0), Closed(), set[str]()
        self.janitor = Janitor(
            log=cast(ConnectionLog, self.closed),
            lives=self.alive.__contains__,
            clock=self.clock,
            graces=Graces(**graces),
        )

    async def at(self, mono: float) -> dict[str, list[str]]:
        """What is closed by then."""
        self.clock.mono = mono
        await self.janitor._close_due()
        return self.closed.tunnels


async def test_a_tunnel_is_closed_if_its_agent_does_not_report_in_time() -> None:
    site = Site()
    site.janitor.agent_here("j")
    site.clock.mono = 200.0
    site.janitor.tunnel_over("c1", "j")
    assert await site.at(214.9) == {}
    assert await site.at(215.0) == {"c1": []}


async def test_a_report_in_time_leaves_nothing_to_close() -> None:
    site = Site()
    site.janitor.tunnel_over("c1", "j")
    site.janitor.closed("c1")
    assert await site.at(1000.0) == {}


async def test_an_agent_that_is_killed_and_stays_away_never_returned() -> None:
    site = Site()
    site.janitor.agent_here("j")
    site.clock.mono = 200.0
    site.janitor.tunnel_over("c1", "j")
    site.clock.mono = 200.01
    site.janitor.agent_gone("j")
    assert await site.at(215.0) == {"c1": ["NeverReturned"]}


async def test_an_agent_lost_before_its_tunnel_ended_has_less_time() -> None:
    site = Site(report_s=15, agent_s=15)
    site.janitor.agent_here("j")
    site.clock.mono = 200.0
    site.janitor.agent_gone("j")
    site.clock.mono = 210.0
    site.janitor.tunnel_over("c1", "j")
    assert await site.at(214.9) == {}
    assert await site.at(215.0) == {"c1": ["NeverReturned"]}


async def test_a_tunnel_that_outlived_its_agents_link_for_long_is_closed_when_it_ends() -> None:
    site = Site()
    site.janitor.agent_here("j")
    site.janitor.agent_gone("j")
    site.clock.mono = 5000.0
    site.janitor.tunnel_over("c1", "j")
    assert await site.at(5000.0) == {"c1": ["NeverReturned"]}


async def test_an_agent_that_was_lost_just_now_is_not_said_to_have_stayed_away() -> None:
    site = Site(report_s=5, agent_s=15)
    site.janitor.agent_here("j")
    site.clock.mono = 200.0
    site.janitor.tunnel_over("c1", "j")
    site.clock.mono = 204.0
    site.janitor.agent_gone("j")
    assert await site.at(205.0) == {"c1": []}


async def test_an_agent_that_comes_back_gets_the_time_to_report_anew() -> None:
    site = Site()
    site.janitor.agent_here("j")
    site.clock.mono = 200.0
    site.janitor.tunnel_over("c1", "j")
    site.janitor.agent_gone("j")
    site.clock.mono = 214.0
    site.janitor.agent_here("j")
    assert await site.at(228.9) == {}
    assert await site.at(229.0) == {"c1": []}


async def test_a_tunnel_that_lives_is_left_alone() -> None:
    site = Site()
    site.janitor.tunnel_over("c1", "j")
    site.alive.add("c1")
    assert await site.at(1000.0) == {}


async def test_tunnels_of_the_last_run_wait_from_the_start_of_this_one() -> None:
    site = Site()
    tunnel = OpenTunnel("c1", ConnectionStatus.ONGOING, "w", "j")
    site.janitor.inherit([tunnel], ended_at=90.0)
    assert await site.at(114.9) == {}
    assert await site.at(115.0) == {"c1": ["NeverReturned"]}


async def test_what_cannot_be_closed_now_is_closed_later() -> None:
    site = Site()
    site.janitor.tunnel_over("c1", "j")
    site.closed.broken = True
    assert await site.at(200.0) == {}
    site.closed.broken = False
    assert await site.at(204.9) == {}
    assert await site.at(205.0) == {"c1": ["NeverReturned"]}


@pytest.mark.parametrize("here", [True, False])
async def test_nothing_is_waited_for_longer_than_the_grace(here: bool) -> None:
    site = Site(report_s=15, agent_s=1000)
    if here:
        site.janitor.agent_here("j")
    assert site.janitor.due_at(_Awaited("j", 200.0, None)) == 215.0
