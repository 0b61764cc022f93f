"""Further carriers of a tunnel that lives: who gets one, and who is told why not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.server.live_server import JoinedTunnel, LiveServer, Peer, ended, join, running
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Vantage
from tether.net.clock import SystemClock
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream
from tether.net.tunnel.relay_dial import dial_relay
from tether.protocol.messages.base import records_of
from tether.protocol.messages.tunnel import (
    CarrierDenied,
    CarrierGrant,
    CarrierOffer,
    CarrierRequest,
    OfferDeclined,
)
from tether.server.control import agents, carriers
from tether.server.settings import Graces

pytestmark = pytest.mark.anyio


def ask(client: Peer, connection_id: str, carrier: int = 2, **more: Any) -> None:
    client.send(
        CarrierRequest(request_id=carrier, connection_id=connection_id, carrier=carrier, **more)
    )


async def meet(
    client: Peer, agent: Peer, tunnel: JoinedTunnel, carrier: int = 2
) -> tuple[MessageStream, MessageStream]:
    """Another carrier, joined: client's leg, agent's leg."""
    ask(client, tunnel.connection_id, carrier)
    grant, offer = await client.expect(CarrierGrant), await agent.expect(CarrierOffer)
    assert (grant.request_id, grant.carrier, offer.carrier) == (carrier, carrier, carrier)
    assert grant.connection_id == offer.connection_id == tunnel.connection_id
    legs = await asyncio.gather(
        dial_relay(grant.relay_url, grant.ticket), dial_relay(offer.relay_url, offer.ticket)
    )
    return legs[0], legs[1]


async def denied(client: Peer) -> tuple[str, str]:
    answer = await client.expect(CarrierDenied)
    return answer.code, answer.message


async def tunnel_of(live: LiveServer) -> tuple[Peer, Peer, JoinedTunnel, str]:
    """A client, an agent and a tunnel between them; the agent's token."""
    _, token = await live.workspace()
    agent, client = await live.agent(token), await live.client()
    return client, agent, await join(client, agent), token


async def same_agent(live: LiveServer, agent: Peer, token: str, *tunnels: JoinedTunnel) -> Peer:
    """The same run of an agent, with a new control link."""
    return await live.agent(
        token,
        instance_id=agent.hello.instance_id,
        journal_id=agent.hello.journal_id,
        open_connections=[tunnel.connection_id for tunnel in tunnels],
    )


async def test_both_ends_meet_on_a_further_carrier_while_the_first_one_lives(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as live:
        client, agent, tunnel, _ = await tunnel_of(live)
        theirs, ours = await meet(client, agent, tunnel)
        for leg, other, frame in ((theirs, ours, b"second"), (tunnel.client, tunnel.agent, b"one")):
            await leg.send(frame)
            assert await asyncio.wait_for(other.recv(), DEADLINE_S) == frame


async def test_the_agent_is_told_that_small_segments_are_wanted(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        client, agent, tunnel, _ = await tunnel_of(live)
        ask(client, tunnel.connection_id, 2)
        ask(client, tunnel.connection_id, 3, small_segments=True)
        offers = [await agent.expect(CarrierOffer) for _ in range(2)]
        assert {one.carrier: one.small_segments for one in offers} == {2: False, 3: True}


async def test_a_tunnel_goes_on_over_a_new_server_with_a_new_carrier(tmp_path: Path) -> None:
    async with running(tmp_path, graces=Graces()) as live:  # it stops in less, however slowly
        _client, agent, tunnel, token = await tunnel_of(live)
        user_token = await live.admin_token()
        await live.stop()
    async with running(tmp_path, graces=Graces()) as again:  # the agent has time to come back
        returned = await same_agent(again, agent, token, tunnel)
        legs = await meet(await again.client(user_token), returned, tunnel, carrier=7)
        await legs[0].send(b"on")
        assert await asyncio.wait_for(legs[1].recv(), DEADLINE_S) == b"on"


async def test_a_tunnel_that_is_over_says_why(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        client, agent, tunnel, _ = await tunnel_of(live)
        exited = ev.SessionEnded(
            vantage=Vantage.AGENT, at=SystemClock().now().wall, exit_code=0, open_sessions=0
        )
        await agent.report(ended(tunnel.connection_id, *records_of((exited,))))
        row = await live.closed(tunnel.connection_id)
        ask(client, tunnel.connection_id)
        answer = await client.expect(CarrierDenied)
        assert (answer.code, answer.cause, answer.message) == (
            "tunnel_over",
            row["disconnect_cause"],
            row["sentence"],
        )


async def test_anothers_tunnel_and_no_tunnel_look_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        client, _agent, tunnel, _ = await tunnel_of(live)
        _, user_token = await live.user("mallory")
        mallory = await live.client(user_token)
        answers = []
        for who, connection_id, carrier in (
            (mallory, tunnel.connection_id, 2),
            (mallory, "f" * 32, 2),
            (client, client.connection_id, 2),  # a control link is no tunnel
            (client, tunnel.connection_id, 1),  # the first one comes with the grant
            (client, tunnel.connection_id, 1 << 40),
        ):
            ask(who, connection_id, carrier)
            answers.append(await denied(who))
        assert answers == [("tunnel_unknown", "there is no such tunnel of yours")] * 5


async def test_a_request_waits_for_the_agents_link_to_come_back(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        client, agent, tunnel, token = await tunnel_of(live)
        await agent.vanish()
        await live.closed(agent.connection_id)
        ask(client, tunnel.connection_id)
        returned = await same_agent(live, agent, token, tunnel)
        grant, offer = await client.expect(CarrierGrant), await returned.expect(CarrierOffer)
        assert (grant.carrier, offer.carrier) == (2, 2)


async def test_other_requests_of_the_link_do_not_wait_for_it(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        client, agent, tunnel, _ = await tunnel_of(live)
        await agent.vanish()
        await live.closed(agent.connection_id)
        ask(client, tunnel.connection_id)
        ask(client, "e" * 32, 3)
        assert (await denied(client))[0] == "tunnel_unknown"


async def test_an_agent_that_stays_away_is_told_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carriers, "WAIT_FOR_AGENT_S", 0.05)
    async with running(tmp_path) as live:
        client, agent, tunnel, _ = await tunnel_of(live)
        await agent.vanish()
        await live.closed(agent.connection_id)
        ask(client, tunnel.connection_id)
        assert await denied(client) == (
            "agent_not_connected",
            "the agent of workspace dev is not connected now",
        )


async def test_a_new_run_of_the_agent_gets_no_carrier_of_the_old_ones_tunnel(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as live:
        client, agent, tunnel, token = await tunnel_of(live)
        await agent.vanish()
        await live.closed(agent.connection_id)
        ask(client, tunnel.connection_id)
        await live.agent(token, journal_id=agent.hello.journal_id)
        code, _ = await denied(client)
        assert code == "tunnel_over"
        assert (await live.row(tunnel.connection_id))["status"] == "closed"


async def test_a_tunnel_that_its_agent_does_not_know_is_over_and_the_client_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "REPORT_S", 0.05)
    async with running(tmp_path) as live:
        client, agent, tunnel, _ = await tunnel_of(live)
        ask(client, tunnel.connection_id)
        grant, offer = await client.expect(CarrierGrant), await agent.expect(CarrierOffer)
        tasks = Tasks("test")
        dialling = tasks.spawn(dial_relay(grant.relay_url, grant.ticket), "dial")
        agent.send(
            OfferDeclined(
                connection_id=offer.connection_id,
                carrier=2,
                code="tunnel_unknown",
                message="the agent does not serve this connection any more",
            )
        )
        row = await live.closed(tunnel.connection_id)
        assert [one["kind"] for one in row["evidence"]] == ["report_missing"]
        with pytest.raises(DialFailed, match="does not serve this connection any more") as failed:
            await dialling
        assert failed.value.cause == row["disconnect_cause"]
        ask(client, tunnel.connection_id, 3)
        assert await denied(client) == ("tunnel_over", row["sentence"])


async def test_an_agent_that_cannot_take_a_carrier_now_ends_no_tunnel(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        client, agent, tunnel, _ = await tunnel_of(live)
        ask(client, tunnel.connection_id)
        grant, offer = await client.expect(CarrierGrant), await agent.expect(CarrierOffer)
        agent.send(
            OfferDeclined(connection_id=offer.connection_id, carrier=2, message="too many carriers")
        )
        with pytest.raises(DialFailed, match="too many carriers"):
            await dial_relay(grant.relay_url, grant.ticket)
        assert (await live.row(tunnel.connection_id))["status"] == "ongoing"
        await meet(client, agent, tunnel, carrier=3)


async def test_a_flood_of_requests_is_refused_and_the_tunnel_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        client, _agent, tunnel, _ = await tunnel_of(live)
        for number in range(2, 102):
            ask(client, tunnel.connection_id, number)
        answers = [await asyncio.wait_for(client.inbox.get(), DEADLINE_S) for _ in range(100)]
        refused = {one.code for one in answers if isinstance(one, CarrierDenied)}
        granted = [one for one in answers if isinstance(one, CarrierGrant)]
        assert refused == {"too_many_requests"}
        assert len(granted) <= carriers.BURST + 2
        await tunnel.client.send(b"on")
        assert await asyncio.wait_for(tunnel.agent.recv(), DEADLINE_S) == b"on"


async def test_a_carrier_that_was_offered_to_an_agent_just_lost_is_declined_at_once(
    tmp_path: Path,
) -> None:
    """Nobody else would decline it, and the client would wait at the relay for 15 s."""
    async with running(tmp_path) as live:
        client, agent, tunnel, _ = await tunnel_of(live)
        ask(client, tunnel.connection_id)
        grant, _ = await client.expect(CarrierGrant), await agent.expect(CarrierOffer)
        tasks = Tasks("test")
        dialling = tasks.spawn(dial_relay(grant.relay_url, grant.ticket), "dial")
        await agent.vanish()
        with pytest.raises(DialFailed, match="agent's connection to the server was lost"):
            await asyncio.wait_for(dialling, DEADLINE_S)
        await tunnel.client.send(b"the joined one goes on")
        assert await asyncio.wait_for(tunnel.agent.recv(), DEADLINE_S) == b"the joined one goes on"
