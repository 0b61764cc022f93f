"""A server that has just started, and those who were connected to the run before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server.live_server import running
from tether.protocol.messages.tunnel import TunnelDenied, TunnelGrant, TunnelOffer
from tether.server.control import agents

pytestmark = pytest.mark.anyio


async def test_a_user_who_comes_before_the_agent_waits_for_it(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        _, token = await live.workspace()
        before = await live.agent(token)
    async with running(tmp_path) as live:
        client = await live.client()
        asked = client.tasks.spawn(client.request(), "request")
        agent = await live.agent(token, journal_id=before.hello.journal_id)
        assert isinstance(await agent.expect(TunnelOffer), TunnelOffer)
        assert isinstance(await asked, TunnelGrant)


async def test_an_agent_that_was_not_connected_is_not_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        await live.workspace()
    async with running(tmp_path) as live:
        answer = await (await live.client()).request()
        assert isinstance(answer, TunnelDenied)
        assert answer.code == "agent_not_connected"


async def test_an_agent_that_stays_away_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "RETURN_S", 0.2)
    async with running(tmp_path) as live:
        _, token = await live.workspace()
        await live.agent(token)
    async with running(tmp_path) as live:
        answer = await (await live.client()).request()
        assert isinstance(answer, TunnelDenied)
        assert answer.code == "agent_not_connected"
