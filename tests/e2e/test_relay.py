"""`tether relay` as a process of its own beside a server: what it carries, and how it goes.

Law: the relays are real processes; the server runs here, so that its record can be asked, and the ends
of tunnels are played, so that every frame and word can be seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.server.test_carriers import ask, meet, same_agent
from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, Program, free_port, wait_for
from tests.support.server.live_server import JoinedTunnel, LiveServer, Peer, join, running
from tests.support.server.log_reader import ADMIN
from tether.net.transport.streams import MessageStream, StreamLost
from tether.protocol.messages.derp import DerpMap, PeerGone, RelayGoodbye, Restarting, decode_word
from tether.protocol.messages.tunnel import CarrierDenied, CarrierGrant, TunnelGrant
from tether.server.settings import Graces

pytestmark = [pytest.mark.anyio, pytest.mark.long]

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("TETHER")}


class Site:
    """A server here, and relays as processes."""

    def __init__(self, live: LiveServer, root: Path) -> None:
        self.live, self.root = live, root
        self.relays: dict[str, Program] = {}
        self.token = root / "relay-token"

    async def relay(self, region: str, *options: str, wait: bool = True) -> Program:
        """Start a relay; wait until the server has it."""
        if not self.token.exists():
            issued = await self.live.server.accounts.issue_relay_token("test", ADMIN)
            self.token.write_text(issued.token)
        argv = [*TETHER, "relay", "--listen", "127.0.0.1:0", "--region", region]
        argv += ["--server", f"http://127.0.0.1:{self.live.port}"]
        argv += ["--token-file", str(self.token), "--log-format", "json", *options]
        program = Program(argv, self.root / f"relay-{region}.log", ENVIRONMENT)
        self.relays[region] = program
        if wait:
            await event(program, "relay ready")
        return program

    def url(self, region: str) -> str:
        found: str = self.relays[region].events("relay ready")[-1]["url"]
        return found


async def event(program: Program, name: str) -> None:
    await asyncio.to_thread(program.wait_event, name, DEADLINE_S)


@asynccontextmanager
async def site(tmp_path: Path, port: int = 0) -> AsyncIterator[Site]:
    # with a test's short waits, a server that stops slowly would give its agents up meanwhile
    async with running(tmp_path, port=port, graces=Graces()) as live:
        here = Site(live, tmp_path)
        try:
            yield here
        finally:
            for program in here.relays.values():
                program.process.kill()
                program.process.wait()


async def tunnel_of(live: LiveServer) -> tuple[Peer, Peer, JoinedTunnel, str]:
    _, token = await live.workspace()
    agent, client = await live.agent(token), await live.client()
    return client, agent, await join(client, agent), token


async def echoes(client: MessageStream, agent: MessageStream) -> bool:
    for leg, other in ((client, agent), (agent, client)):
        await leg.send(b"on")
        if await asyncio.wait_for(other.recv(), DEADLINE_S) != b"on":
            return False
    return True


async def word(leg: MessageStream) -> object:
    raw = await asyncio.wait_for(leg.recv(), DEADLINE_S)
    assert isinstance(raw, str)
    return decode_word(raw)


async def newest_map(peer: Peer, until: str, status: str | None) -> None:
    """Wait until this peer has been told of the region's status; None: it is off the map."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            told = await peer.maps.get()
            assert isinstance(told, DerpMap)
            seen = {one.name: [node.status for node in one.nodes] for one in told.regions}
            if seen.get(until) == (None if status is None else [status]):
                return


async def told_by_relay(live: LiveServer, connection_id: str, kind: str) -> list[dict[str, Any]]:
    """What relays have told of the tunnel's carriers, once they have told something of the kind."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            row = await live.row(connection_id)
            found = [
                dict(one["values"])
                for one in row["evidence"]
                if one["vantage"] == "relay" and one["kind"] == kind
            ]
            if found:
                return found
            await asyncio.sleep(0.02)


async def seen_by_relay(live: LiveServer, connection_id: str) -> list[tuple[str, str]]:
    """How relays saw the tunnel's legs end."""
    told = await told_by_relay(live, connection_id, "stream_ended")
    return [(one["peer"], one["how"]) for one in told]


def fetch(url: str) -> str:
    at = url.replace("ws://", "http://")
    with urllib.request.urlopen(at, timeout=DEADLINE_S) as answer:
        text: str = answer.read().decode()
    return text


async def test_a_tunnel_goes_over_a_relay_of_its_own_and_survives_its_death(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await asyncio.gather(here.relay("ams"), here.relay("fra"))
        client, agent, tunnel, _ = await tunnel_of(here.live)
        assert (tunnel.grant.region, tunnel.grant.relay_url) == ("ams", here.url("ams"))
        assert await echoes(tunnel.client, tunnel.agent)
        here.relays["ams"].process.send_signal(signal.SIGKILL)
        for leg in (tunnel.client, tunnel.agent):
            with pytest.raises(StreamLost):
                await asyncio.wait_for(leg.recv(), DEADLINE_S)
        ask(client, tunnel.connection_id, 2, region="ams", avoid=[here.url("ams")])
        grant = await client.expect(CarrierGrant)
        assert grant.region == "fra"
        await newest_map(client, "ams", None)
        agent.inbox.get_nowait()  # the offer of that carrier, which nobody dials
        legs = await meet(client, agent, tunnel, carrier=3)
        assert await echoes(*legs)
        assert (await here.live.row(tunnel.connection_id))["status"] == "ongoing"


async def test_what_a_relay_saw_is_evidence_and_no_end(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.relay("fra")
        _client, _agent, tunnel, _ = await tunnel_of(here.live)
        tunnel.client._ws.transport.abort()  # type: ignore[attr-defined]
        assert await word(tunnel.agent) == PeerGone(how="eof")
        assert await seen_by_relay(here.live, tunnel.connection_id) == [("client", "eof")]
        row = await here.live.row(tunnel.connection_id)
        assert (row["status"], row["disconnect_cause"]) == ("ongoing", None)
        assert row["detached_since"] is not None
        numbers = fetch(here.url("fra").replace("/derp", "/metrics"))
        assert 'tether_relay_carriers_ended_total{by="client"} 1.0' in numbers
        assert json.loads(fetch(here.url("fra").replace("/derp", "/healthz"))) == {"status": "ok"}


async def test_a_relay_that_was_killed_tells_at_its_next_start_what_it_had_carried(
    tmp_path: Path,
) -> None:
    data = tmp_path / "relay-data"
    async with site(tmp_path) as here:
        killed = await here.relay("fra", "--data-dir", str(data))
        _client, _agent, tunnel, _ = await tunnel_of(here.live)
        assert await echoes(tunnel.client, tunnel.agent)
        carried = data / "carriers.json"
        await asyncio.to_thread(
            wait_for,
            "the tunnel to be on the relay's list",
            lambda: (carried.exists() and tunnel.connection_id in carried.read_text()) or None,
        )
        killed.process.kill()
        killed.process.wait()
        await here.relay("fra", "--data-dir", str(data))
        (died,) = await told_by_relay(here.live, tunnel.connection_id, "previous_run_died")
        assert (died["party"], died["signal"], died["host_rebooted"]) == ("relay", 9, False)
        row = await here.live.row(tunnel.connection_id)
        assert (row["status"], row["disconnect_cause"]) == ("ongoing", None)


async def test_a_planned_restart_is_announced_and_tunnels_move_before_it(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await asyncio.gather(here.relay("ams"), here.relay("fra"))
        client, agent, tunnel, _ = await tunnel_of(here.live)
        here.relays["ams"].process.send_signal(signal.SIGTERM)
        for leg in (tunnel.client, tunnel.agent):
            assert await word(leg) == Restarting(reconnect_in_s=5.0)
        await newest_map(client, "ams", "draining")
        legs = await meet(client, agent, tunnel)
        assert await echoes(tunnel.client, tunnel.agent)  # nothing has ended yet
        assert await echoes(*legs)
        await tunnel.client.close(1000, "moved")
        assert await asyncio.to_thread(here.relays["ams"].process.wait, DEADLINE_S) == 0
        assert await seen_by_relay(here.live, tunnel.connection_id) == [("client", "closed")]
        assert await echoes(*legs)


async def test_legs_that_stay_are_told_goodbye_and_a_second_signal_does_not_wait(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.relay("fra")
        _client, _agent, tunnel, _ = await tunnel_of(here.live)
        for _ in range(2):
            here.relays["fra"].process.send_signal(signal.SIGTERM)
            assert isinstance(await word(tunnel.agent), Restarting | RelayGoodbye)
        goodbye = await word(tunnel.client), await word(tunnel.client)
        assert [type(one) for one in goodbye] == [Restarting, RelayGoodbye]
        assert isinstance(goodbye[1], RelayGoodbye)
        assert goodbye[1].cause == "relay.shutdown"
        assert goodbye[1].actor.startswith("signal:15 from pid ")
        assert await asyncio.to_thread(here.relays["fra"].process.wait, DEADLINE_S) == 0
        assert (await here.live.row(tunnel.connection_id))["status"] == "ongoing"


async def test_a_relay_carries_on_while_its_server_is_away_and_reports_when_it_is_back(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with site(tmp_path, port) as here:
        relay = await here.relay("fra")
        _client, agent, tunnel, token = await tunnel_of(here.live)
        await here.live.stop()
        await event(relay, "disconnected from server")
        assert await echoes(tunnel.client, tunnel.agent)
        tunnel.client._ws.transport.abort()  # type: ignore[attr-defined]
        assert await word(tunnel.agent) == PeerGone(how="eof")
        # the agent has time to come back
        async with running(tmp_path, port=port, graces=Graces()) as again:
            await same_agent(again, agent, token, tunnel)
            async with asyncio.timeout(DEADLINE_S):
                assert await seen_by_relay(again, tunnel.connection_id) == [("client", "eof")]
            assert (await again.row(tunnel.connection_id))["status"] == "ongoing"


async def test_a_region_that_is_taken_off_the_map_is_left_first(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await asyncio.gather(here.relay("ams"), here.relay("fra"))
        client, agent, tunnel, _ = await tunnel_of(here.live)
        await here.live.server._derp_maps.put({"regions": [{"name": "fra"}]}, ADMIN)
        for leg in (tunnel.client, tunnel.agent):
            assert await word(leg) == Restarting()
        await newest_map(client, "ams", None)
        legs = await meet(client, agent, tunnel)
        assert await echoes(*legs)
        assert await echoes(tunnel.client, tunnel.agent)
        await here.live.server._derp_maps.put(None, ADMIN)
        await newest_map(client, "ams", "ok")


async def test_without_any_relay_a_carrier_is_denied_for_now(tmp_path: Path) -> None:
    async with running(tmp_path, embedded_relay=False) as live:
        here = Site(live, tmp_path)
        try:
            await here.relay("fra")
            client, _agent, tunnel, _ = await tunnel_of(live)
            here.relays["fra"].process.send_signal(signal.SIGKILL)
            await newest_map(client, "fra", None)
            ask(client, tunnel.connection_id)
            denied = await client.expect(CarrierDenied)
            assert denied.code == "relay_unavailable"
        finally:
            here.relays["fra"].process.kill()
            here.relays["fra"].process.wait()


async def test_a_relay_whose_token_was_revoked_leaves_and_is_not_taken_back(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        relay = await here.relay("fra")
        (info,) = await here.live.server.accounts.list_relay_tokens(ADMIN)
        await here.live.server.accounts.revoke_token(info.token_id, ADMIN)
        await here.live.server.hub.revoke_tokens([info.token_id], "admin:admin")
        assert await asyncio.to_thread(relay.process.wait, DEADLINE_S) == 1
        refused = await here.relay("fra", wait=False)
        assert await asyncio.to_thread(refused.process.wait, DEADLINE_S) == 1
        (line,) = refused.events("the server does not take this relay")
        assert line["error"].endswith("this relay's token was revoked: use a new one")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--region", "Frankfurt"], "is no region's name"),
        (["--region", "embedded"], "is no region's name"),
        (["--region", "fra", "--listen", "0.0.0.0:0"], "give --url"),
        (["--region", "fra", "--url", "https://x"], "--url begins with ws://"),
        (["--region", "fra", "--token-file", "users-token"], "holds no relay's token"),
        (["--region", "fra", "--token-file", "none"], "cannot be read"),
    ],
)
def test_what_keeps_a_relay_from_starting_is_one_line(
    tmp_path: Path, options: list[str], complaint: str
) -> None:
    (tmp_path / "token").write_text("tether_relay_x")
    argv = [*TETHER, "relay", "--listen", "127.0.0.1:0", "--server", "http://127.0.0.1:1"]
    (tmp_path / "users-token").write_text("tether_user_x")
    options = [str(tmp_path / one) if one in ("users-token", "none") else one for one in options]
    argv += ["--token-file", str(tmp_path / "token"), *options]
    program = Program(argv, tmp_path / "relay.log", ENVIRONMENT)
    try:
        wait_for("the relay to give up", lambda: program.process.poll() is not None or None)
    finally:
        program.process.kill()
        program.process.wait()
    last = (tmp_path / "relay.log").read_text().splitlines()[-1]
    assert last.startswith("tether: ")
    assert complaint in last


async def test_a_real_agent_tells_its_home_and_leaves_it_when_it_goes_off_the_map(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await asyncio.gather(here.relay("ams"), here.relay("fra"))
        _, token = await here.live.workspace()
        (tmp_path / "agent-token").write_text(token)
        argv = [*TETHER, "agent", "--server", f"http://127.0.0.1:{here.live.port}"]
        argv += ["--token-file", str(tmp_path / "agent-token"), "--log-format", "json"]
        agent = Program([*argv, "--data-dir", str(tmp_path / "a")], tmp_path / "a.log", ENVIRONMENT)
        try:
            await event(agent, "home region changed")
            assert (await home(here.live, "ams")) == {
                "ams",
                "fra",
                "embedded",
            }  # as near: the first
            await here.live.server._derp_maps.put({"regions": [{"name": "fra"}]}, ADMIN)
            assert (await home(here.live, "fra")) == {"fra", "embedded"}
            client = await here.live.client()
            grant = await client.request()
            assert isinstance(grant, TunnelGrant)
            assert grant.region == "fra"
            changes = [
                (one["before"], one["region"]) for one in agent.events("home region changed")
            ]
            assert changes == [("", "ams"), ("ams", "fra")]
        finally:
            agent.stop()


async def home(live: LiveServer, region: str) -> set[str]:
    """Wait until the agent says that this is its home; the regions that it has measured."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            told = (await live.server.workspaces.get("dev", ADMIN)).agent_latency
            if told.home == region:
                return set(told.latency_s)
            await asyncio.sleep(0.02)


# -- the embedded relay ----------------------------------------------------------------------------


async def test_tunnels_of_the_embedded_relay_move_before_the_server_stops(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        client, agent, tunnel, _ = await tunnel_of(here.live)
        assert tunnel.grant.region == "embedded"
        await here.relay("fra")
        stopping = asyncio.create_task(here.live.stop())
        for leg in (tunnel.client, tunnel.agent):
            assert await word(leg) == Restarting(reconnect_in_s=5.0)
        await newest_map(client, "embedded", "draining")
        legs = await meet(client, agent, tunnel)
        assert await echoes(tunnel.client, tunnel.agent)  # nothing has ended yet
        await tunnel.client.close(1000, "moved")
        assert isinstance(await word(tunnel.agent), PeerGone)
        await asyncio.wait_for(stopping, DEADLINE_S)
        assert await echoes(*legs)


async def test_who_does_not_move_is_told_goodbye_and_a_hurried_server_does_not_wait(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        _client, _agent, tunnel, _ = await tunnel_of(here.live)
        await here.relay("fra")
        stopping = asyncio.create_task(here.live.stop())
        assert isinstance(await word(tunnel.client), Restarting)
        here.live.server.hurry()
        goodbye = await word(tunnel.client)
        assert isinstance(goodbye, RelayGoodbye)
        assert (goodbye.cause, goodbye.actor) == ("server.shutdown", "signal:15 from pid 1 uid 0")
        await asyncio.wait_for(stopping, DEADLINE_S)


async def test_the_embedded_relay_alone_says_goodbye_at_once(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        _client, _agent, tunnel, _ = await tunnel_of(here.live)
        stopping = asyncio.create_task(here.live.stop())
        for leg in (tunnel.client, tunnel.agent):
            assert isinstance(await word(leg), RelayGoodbye)
        await asyncio.wait_for(stopping, DEADLINE_S)
