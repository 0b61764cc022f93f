"""When a tunnel that nobody reports is closed, told by a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest

from tests.support.clock import EPOCH, HandClock
from tests.support.server.rows import closed_row, connection_row
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectionMethod, ConnectType, Party, Vantage
from tether.server.connlog.janitor import AGAIN_S, Janitor
from tether.server.connlog.judge import classify_end
from tether.server.connlog.log import ConnectionLog
from tether.server.connlog.rows import ClientLeft, ClientLostAgent, RowClosed
from tether.server.connlog.runs import PreviousRun
from tether.server.db.store import StoreUnavailable
from tether.server.db.tables.connections import ConnectionRow, ConnectionStatus
from tether.server.settings import Graces

pytestmark = pytest.mark.anyio

DAY = 86400.0
ONGOING, PENDING = ConnectionStatus.ONGOING, ConnectionStatus.PENDING


def tunnel(
    connection_id: str,
    journal_id: str = "j",
    instance_id: str = "run-1",
    status: ConnectionStatus = ONGOING,
    **more: Any,
) -> ConnectionRow:
    return connection_row(
        connection_id,
        status=status,
        **more,
        workspace_id="w",
        journal_id=journal_id,
        agent_instance=instance_id,
    )


class Log:
    """As much of a connection log as the janitor uses: keeps what it is asked to close."""

    def __init__(self, *tunnels: ConnectionRow) -> None:
        self.open = {one.connection_id: one for one in tunnels}
        self.closed: dict[str, list[str]] = {}
        self.ended_at: dict[str, float | None] = {}
        self.broken = False

    async def open_tunnels(self, *, journal_id: str) -> Sequence[ConnectionRow]:
        if self.broken:
            raise StoreUnavailable("the disk is full")
        return [one for one in self.open.values() if one.journal_id == journal_id]

    async def close_tunnel(
        self, connection_id: str, facts: Iterable[ev.Evidence], *, ended_at: float | None = None
    ) -> None:
        if self.broken:
            raise StoreUnavailable("the disk is full")
        self.open.pop(connection_id, None)
        self.closed[connection_id] = [type(fact).__name__ for fact in facts]
        self.ended_at[connection_id] = ended_at


class Site:
    """A janitor whose clock stands still."""

    def __init__(self, *tunnels: ConnectionRow, **graces: Any) -> None:
        self.clock, self.log, self.carried = HandClock(100.0), Log(*tunnels), set[str]()
        self.janitor = Janitor(
            log=cast(ConnectionLog, self.log),
            is_carried=self.carried.__contains__,
            end_left=self._end_left,
            clock=self.clock,
            graces=Graces(**graces),
        )
        self.ended_at_agents: list[str] = []

    async def _end_left(self, connection_ids: list[str]) -> None:
        self.ended_at_agents += connection_ids

    def client_left(self, connection_id: str) -> None:
        self.janitor.log_changed(ClientLeft(connection_row(connection_id)))

    async def at(self, mono: float) -> dict[str, list[str]]:
        """What is closed by then."""
        self.clock.mono = mono
        await self.janitor.close_due()
        return self.log.closed


# -- while the agent is there ---------------------------------------------------------------------


async def test_a_tunnel_whose_agent_is_there_is_the_agents_however_long_it_is_detached() -> None:
    site = Site(tunnel("c1"))
    site.janitor.agent_here("j", "run-1")
    assert await site.at(100.0 + 30 * DAY) == {}
    assert site.janitor.next_due() is None


async def test_a_tunnel_whose_client_left_is_closed_if_its_agent_does_not_report_in_time() -> None:
    site = Site(tunnel("c1"))
    site.janitor.agent_here("j", "run-1")
    site.clock.mono = 200.0
    site.client_left("c1")
    site.clock.mono = 210.0
    site.client_left("c1")  # said twice is not longer
    assert (await site.at(214.9), site.ended_at_agents) == ({}, [])
    assert (await site.at(215.0), site.ended_at_agents) == ({"c1": []}, ["c1"])


async def test_a_report_in_time_leaves_nothing_to_close() -> None:
    site = Site(tunnel("c1"))
    site.janitor.agent_here("j", "run-1")
    site.client_left("c1")
    verdict = classify_end(ConnectType.AGENT_TO_CLIENT, ())
    site.janitor.log_changed(RowClosed(closed_row(verdict), verdict))
    assert await site.at(1000.0) == {}


async def test_a_new_run_of_the_agent_has_the_time_to_report_what_the_old_one_left() -> None:
    site = Site(tunnel("c1"), tunnel("c2", instance_id="run-2"))
    site.janitor.agent_here("j", "run-2")
    assert await site.at(114.9) == {}
    assert await site.at(115.0) == {"c1": []}


# -- while it is gone -----------------------------------------------------------------------------


async def test_an_agent_whose_stream_ended_and_who_stays_away_never_returned() -> None:
    site = Site(tunnel("c1"), tunnel("c2"), tunnel("c3", "another"))
    site.janitor.agent_here("j", "run-1")
    site.clock.mono = 200.0
    site.janitor.agent_gone("j", lambda: True)
    assert await site.at(214.9) == {}
    assert await site.at(215.0) == {"c1": ["NeverReturned"], "c2": ["NeverReturned"]}
    assert site.log.ended_at["c1"] == EPOCH + 200.0


async def test_an_agent_that_fell_silent_is_waited_for_as_long_as_tunnels_are_kept() -> None:
    site = Site(tunnel("c1"))
    site.janitor.agent_here("j", "run-1")
    site.clock.mono = 200.0
    site.janitor.agent_gone("j", lambda: False)
    assert await site.at(200.0 + DAY - 1) == {}
    assert await site.at(200.0 + DAY) == {"c1": ["NeverReturned"]}


DIRECT = ConnectionMethod.DIRECT


async def test_a_direct_carrier_may_outlive_every_control_link() -> None:
    site = Site(
        tunnel("direct", connection_method=DIRECT),
        tunnel("relayed", connection_method=ConnectionMethod.DERP),
        tunnel("detached", connection_method=DIRECT, detached_since=EPOCH),
    )
    site.janitor.agent_gone("j", lambda: True)
    gone = {"relayed": ["NeverReturned"], "detached": ["NeverReturned"]}
    assert await site.at(115.0) == gone
    assert await site.at(100.0 + DAY - 1) == gone
    assert await site.at(100.0 + DAY) == {**gone, "direct": ["NeverReturned"]}


async def test_a_client_that_saw_its_agent_end_is_the_second_witness() -> None:
    direct = tunnel("c1", connection_method=DIRECT)
    site = Site(direct, tunnel("c2", connection_method=DIRECT))
    site.janitor.agent_gone("j", lambda: True)
    assert await site.at(115.0) == {}
    site.janitor.log_changed(ClientLostAgent(direct))
    assert await site.at(116.0) == {"c1": ["NeverReturned"]}


async def test_a_post_mortem_of_the_client_is_told_to_the_agent_at_once() -> None:
    site = Site(tunnel("c1"))
    site.janitor.agent_here("j", "run-1")
    site.janitor.log_changed(ClientLeft(tunnel("c1"), died=True))
    await asyncio.sleep(0)
    assert (await site.at(100.0), site.ended_at_agents) == ({}, ["c1"])


async def test_an_agent_that_comes_back_as_the_same_run_has_lost_nothing() -> None:
    site = Site(tunnel("c1"))
    site.janitor.agent_here("j", "run-1")
    site.janitor.agent_gone("j", lambda: True)
    site.clock.mono = 114.0
    site.janitor.agent_here("j", "run-1")
    assert await site.at(10_000.0) == {}


async def test_a_tunnel_that_a_relay_carries_is_closed_when_it_does_not_any_more() -> None:
    site = Site(tunnel("c1"))
    site.janitor.agent_gone("j", lambda: True)
    site.carried.add("c1")
    assert await site.at(1000.0) == {}
    site.carried.clear()
    assert await site.at(1000.0 + AGAIN_S - 0.1) == {}
    assert await site.at(1000.0 + AGAIN_S) == {"c1": ["NeverReturned"]}


async def test_a_grant_that_was_not_used_is_not_closed_but_spared_while_its_agent_is_gone() -> None:
    granted = tunnel("c1", status=PENDING)
    site = Site(granted)
    site.janitor.agent_here("j", "run-1")
    assert not site.janitor.is_spared(granted)
    site.janitor.agent_gone("j", lambda: True)
    assert site.janitor.is_spared(granted)
    assert await site.at(1000.0) == {}
    assert not site.janitor.is_spared(granted)


# -- after a restart of the server ------------------------------------------------------------------


DEATH = ev.PreviousRunDied(
    vantage=Vantage.SERVER, at=EPOCH, party=Party.SERVER, host_rebooted=False, last_alive_at=EPOCH
)


def previous(*tunnels: ConnectionRow, **more: Any) -> PreviousRun:
    return PreviousRun(True, EPOCH + 90.0, tunnels, 0, **more)


async def test_tunnels_of_the_last_run_wait_a_minute_for_their_agents() -> None:
    site = Site(tunnel("c1"), tunnel("c2", "k"))
    site.janitor.inherit(previous(*site.log.open.values(), death=(DEATH,)))
    site.clock.mono = 130.0
    site.janitor.agent_here("k", "run-1")
    assert await site.at(159.9) == {}
    assert await site.at(160.0) == {"c1": ["NeverReturned", "PreviousRunDied"]}
    assert site.log.ended_at["c1"] == EPOCH + 90.0


async def test_an_agent_that_slept_through_a_restart_is_waited_for_as_before() -> None:
    site = Site(tunnel("c1"))
    site.janitor.inherit(previous(tunnel("c1"), silent=frozenset({"j"})))
    assert await site.at(100.0 + DAY - 1) == {}
    assert await site.at(100.0 + DAY) == {"c1": ["NeverReturned"]}


# -- trouble ----------------------------------------------------------------------------------------


async def test_what_cannot_be_closed_now_is_closed_later() -> None:
    site = Site(tunnel("c1"), tunnel("c2", "k", "run-0"), tunnel("c3", "l"))
    site.janitor.agent_gone("j", lambda: True)
    site.janitor.agent_here("k", "run-1")
    site.client_left("c3")
    site.log.broken = True
    assert await site.at(200.0) == {}
    site.log.broken = False
    assert await site.at(200.0 + AGAIN_S - 0.1) == {}
    assert set(await site.at(200.0 + AGAIN_S)) == {"c1", "c2", "c3"}


@pytest.mark.parametrize("silent", [True, False])
async def test_too_many_lost_agents_shorten_the_longest_wait(
    silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tether.server.connlog.janitor.MAX_JOURNALS", 2)
    site = Site(tunnel("c1", "j1"), tunnel("c2", "j2"))
    for number in (1, 2, 3):
        site.janitor.agent_gone(f"j{number}", lambda: not silent)
    assert await site.at(100.0) == {"c1": ["NeverReturned"]}
