"""Control links over real sockets: who gets in, who is told what, and what the record says of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import pytest
from structlog.testing import capture_logs

from tests.support.deadline import DEADLINE_S
from tests.support.server.live_server import (
    HOST_KEY,
    AheadClock,
    JoinedTunnel,
    LiveServer,
    Peer,
    device_key,
    ended,
    join,
    running,
)
from tests.support.server.log_reader import ADMIN
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.net.clock import SystemClock
from tether.net.derp.tickets import TICKET_LIFE_S
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, StreamLost
from tether.net.transport.ws_client import ClientStream, dial
from tether.net.tunnel.relay_dial import dial_relay
from tether.protocol.link.link import LinkState
from tether.protocol.messages.base import records_of
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE, PROTOCOL, decode, encode
from tether.protocol.messages.control import (
    ROLE_HEADER,
    EndConnections,
    Goodbye,
    Hello,
    Ping,
    Pong,
    Unsupported,
    WorkspaceStart,
    WorkspaceStop,
)
from tether.protocol.messages.derp import RelayGoodbye, decode_word
from tether.protocol.messages.reports import LifecycleRecord, Opened, SessionRecord
from tether.protocol.messages.tunnel import (
    OfferDeclined,
    TunnelDenied,
    TunnelGrant,
    TunnelOffer,
    TunnelRequest,
)
from tether.server import shutdown
from tether.server.control import handshake
from tether.server.control.slots import Holder
from tether.server.settings import Graces, LinkTimes
from tether.server.workspaces import StopReason
from tether.version import VERSION

pytestmark = pytest.mark.anyio


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveServer]:
    async with running(tmp_path) as here:
        yield here


@pytest.fixture
async def token(live: LiveServer) -> str:
    """The token of the agent of workspace dev, which belongs to the administrator."""
    return (await live.workspace())[1]


def truth(row: dict[str, Any]) -> tuple[str, str, str, bool]:
    return (
        row["disconnect_cause"],
        row["disconnect_reason"],
        row["disconnect_initiator"],
        row["disconnect_expected"],
    )


async def raw_link(live: LiveServer, token: str) -> ClientStream:
    return await dial(
        live.control_url, token=token, max_size=MAX_CONTROL_MESSAGE, timeout=DEADLINE_S
    )


async def the_only_row(live: LiveServer, **filters: Any) -> dict[str, Any]:
    (row,) = await live.rows(**filters)
    return await live.closed(row["id"])


def stream_ended(peer: Party, how: StreamEnd = StreamEnd.EOF) -> Any:
    fact = ev.StreamEnded(vantage=Vantage.AGENT, at=SystemClock().now().wall, peer=peer, how=how)
    return records_of((fact,))[0]


# -- an agent's life ----------------------------------------------------------------------------


def state(agent: Peer, word: str, at: float) -> LifecycleRecord:
    return LifecycleRecord(instance_id=agent.hello.instance_id, at=at, state=word)


async def shown_state(live: LiveServer) -> tuple[str | None, float | None]:
    info = await live.server.workspaces.get("dev", ADMIN)
    return info.agent_state, info.agent_state_at


async def test_the_states_of_an_agents_life_are_shown_and_explain_its_link(
    live: LiveServer, token: str
) -> None:
    assert await shown_state(live) == (None, None)
    agent = await live.agent(token)
    await agent.report(
        *(state(agent, w, n) for n, w in enumerate(("created", "starting", "ready")))
    )
    assert await shown_state(live) == ("ready", 2.0)
    await agent.report(state(agent, "shutting_down", 7.0), state(agent, "ready", 8.0))
    assert await shown_state(live) == ("shutting_down", 7.0), "a life goes forward only"
    told = (await live.row(agent.connection_id))["agent_states"]
    assert [one["state"] for one in told] == ["created", "starting", "ready", "shutting_down"]
    assert told[3]["at"] == "1970-01-01T00:00:07.000Z"


async def test_a_new_run_begins_anew_and_an_older_one_changes_nothing_any_more(
    live: LiveServer, token: str
) -> None:
    older = await live.agent(token)
    await older.report(state(older, "created", 1.0), state(older, "ready", 2.0))
    newer = await live.agent(token)
    await newer.report(state(newer, "starting", 3.0))  # what came before was lost with its journal
    again = await live.agent(
        token, instance_id=older.hello.instance_id, journal_id=older.hello.journal_id
    )
    await again.report(state(again, "off", 4.0), first_seq=3)
    assert await shown_state(live) == ("starting", 3.0)
    newest = await live.agent(
        token, instance_id=newer.hello.instance_id, journal_id=newer.hello.journal_id
    )
    await newest.report(state(newest, "ready", 5.0), first_seq=2)
    assert await shown_state(live) == ("ready", 5.0), "the newer run is the newest still"


async def test_only_an_agent_tells_of_its_life(live: LiveServer, token: str) -> None:
    agent, client = await live.agent(token), await live.client()
    await client.report(state(agent, "off", 1.0))
    await agent.report(*(state(agent, "created", at) for at in (float("nan"), -1.0, 1e300)))
    assert await shown_state(live) == (None, None)


# -- getting in ---------------------------------------------------------------------------------


async def test_an_agent_is_welcomed_and_its_workspace_knows_it(
    live: LiveServer, token: str
) -> None:
    agent = await live.agent(token)
    assert agent.welcome.workspace == "dev"
    assert agent.welcome.workspace_running is True
    assert agent.welcome.user_ca_key.startswith("ssh-ed25519 ")
    (info,) = await live.server.workspaces.list(ADMIN)
    assert (info.agent_status, info.agent_hostname, info.host_key) == (
        "connected",
        "testhost",
        HOST_KEY,
    )
    row = await live.row(agent.connection_id)
    assert (row["status"], row["type"], row["connect_type"], row["workspace"], row["agent"]) == (
        "ongoing",
        "control",
        "server_to_agent",
        "dev",
        "main",
    )


async def test_a_client_is_welcomed_by_name(live: LiveServer) -> None:
    _, user_token = await live.user("alice")
    client = await live.client(user_token)
    assert (client.welcome.user, client.welcome.workspace) == ("alice", "")
    row = await live.row(client.connection_id)
    assert (row["connect_type"], row["user"], row["workspace"]) == (
        "client_to_server",
        "alice",
        None,
    )


async def test_the_log_says_who_connected(live: LiveServer, token: str) -> None:
    with capture_logs() as lines:
        agent = await live.agent(token)
    (line,) = [line for line in lines if line["event"] == "control link connected"]
    assert {name: line[name] for name in ("role", "workspace", "client_ip", "instance_id")} == {
        "role": "agent",
        "workspace": "dev",
        "client_ip": "127.0.0.1",
        "instance_id": agent.hello.instance_id,
    }
    assert token not in str(lines)


@pytest.mark.parametrize(
    "bad",
    ["", "nonsense", "tether_agent_" + "x" * 43, "tether_user_" + "y" * 43],
    ids=["none", "nonsense", "made up agent", "made up user"],
)
async def test_a_token_that_is_not_known_is_refused_before_the_upgrade(
    live: LiveServer, bad: str
) -> None:
    with capture_logs() as lines, pytest.raises(DialFailed) as refused:
        await raw_link(live, bad)
    assert (refused.value.status, refused.value.cause) == (401, "token_unknown")
    assert ("handshake refused", "token_unknown", "127.0.0.1") in [
        (line["event"], line.get("code"), line.get("client_ip")) for line in lines
    ]
    assert await live.rows() == []


async def test_each_refusal_has_its_own_code(live: LiveServer) -> None:
    _, rotated = await live.workspace("rotated")
    await live.server.workspaces.rotate_token("rotated", ADMIN, at_once=True)
    _, deleted = await live.workspace("deleted")
    await live.server.workspaces.delete("deleted", ADMIN)
    _, revoked = await live.user("mallory")
    await live.server.accounts.revoke_user("mallory", ADMIN)
    codes = []
    for bad in (rotated, deleted, revoked):
        with pytest.raises(DialFailed) as refused:
            await raw_link(live, bad)
        codes.append(refused.value.cause)
    assert codes == ["token_revoked", "workspace_deleted", "user_revoked"]


async def test_who_fails_too_often_is_told_to_wait(live: LiveServer) -> None:
    codes = set()
    for _ in range(25):
        with pytest.raises(DialFailed) as refused:
            await raw_link(live, "nonsense")
        codes.add((refused.value.status, refused.value.cause))
    assert codes == {(401, "token_unknown"), (429, "too_many_failures")}


async def test_an_unknown_websocket_path_is_refused(live: LiveServer) -> None:
    with pytest.raises(DialFailed) as refused:
        await dial(live.control_url + "/else", token="x", max_size=1000)
    assert (refused.value.status, refused.value.cause) == (404, "websocket_not_found")


async def test_a_peer_that_says_nothing_is_let_go_and_leaves_no_row(tmp_path: Path) -> None:
    async with running(tmp_path, link_times=LinkTimes(hello_s=0.2)) as live:
        _, token = await live.workspace()
        stream = await raw_link(live, token)
        with capture_logs() as lines, pytest.raises(StreamLost) as end:
            await asyncio.wait_for(stream.recv(), DEADLINE_S)
        assert end.value.close_code == 1008
        assert [line["code"] for line in lines if line["event"] == "handshake refused"] == [
            "hello_timeout"
        ]
        assert await live.rows() == []


async def test_a_peer_that_leaves_before_its_hello_leaves_no_row(
    live: LiveServer, token: str
) -> None:
    stream = await raw_link(live, token)
    with capture_logs() as lines:
        await stream.close(1000, "")
        async with asyncio.timeout(DEADLINE_S):
            while not lines:
                await asyncio.sleep(0.01)
    assert [line["code"] for line in lines] == ["hello_missing"]
    assert await live.rows() == []


# -- breaking the protocol ----------------------------------------------------------------------

HELLO = Hello(protocol=PROTOCOL, role="agent", version="1", instance_id="i-1", journal_id="j-1")


@pytest.mark.parametrize(
    ("first", "what"),
    [
        (b"\xff\x00garbage", "not a message"),
        ("text", "a text message"),
        (encode(Ping(n=1)), "the first message is no hello"),
        (encode(Hello(protocol=PROTOCOL, role="agent", version="1", instance_id="")), "ids"),
        (
            encode(
                Hello(
                    protocol=PROTOCOL,
                    role="agent",
                    version="1",
                    instance_id="i",
                    ssh_host_key="ssh-ed25519 AAAA",
                )
            ),
            "bad SSH host key",
        ),
        (
            encode(
                Hello(
                    protocol=PROTOCOL,
                    role="agent",
                    version="1",
                    instance_id="i",
                    hostname="x" * 300,
                )
            ),
            "a host name that is none",
        ),
    ],
    ids=["garbage", "text", "no hello", "instance", "host key", "host name"],
)
async def test_an_agents_first_message_that_makes_no_sense_is_its_protocol_error(
    live: LiveServer, token: str, first: bytes | str, what: str
) -> None:
    stream = await raw_link(live, token)
    await stream.send(first)
    raw = await asyncio.wait_for(stream.recv(), DEADLINE_S)
    assert isinstance(raw, bytes)
    goodbye = decode(raw)
    assert isinstance(goodbye, Goodbye)
    assert goodbye.cause == "agent.protocol_error"
    assert what in goodbye.detail
    await stream.close(1000, "")
    row = await the_only_row(live, workspace="dev")
    assert truth(row) == ("agent.protocol_error", "protocol_error", "agent", False)
    assert what in row["disconnect_detail"]


async def _answer_to(stream: ClientStream, hello: Hello) -> Goodbye:
    await stream.send(encode(hello))
    raw = await asyncio.wait_for(stream.recv(), DEADLINE_S)
    assert isinstance(raw, bytes)
    goodbye = decode(raw)
    assert isinstance(goodbye, Goodbye)
    await stream.close(1000, "")
    return goodbye


async def test_an_agent_of_another_protocol_is_outdated_and_told_to_come_back_much_later(
    live: LiveServer, token: str
) -> None:
    hello = Hello(protocol=(1, 0), role="agent", version="0.9", instance_id="i")
    goodbye = await _answer_to(await raw_link(live, token), hello)
    assert (goodbye.cause, goodbye.retry_after_s) == ("agent.outdated", 300.0)
    assert goodbye.detail == (
        f"this agent (version 0.9) speaks protocol 1 and this server (version {VERSION}) 2: update this"
        " agent to the version of the other"
    )
    row = await the_only_row(live, workspace="dev")
    assert truth(row) == ("agent.outdated", "protocol_error", "server", False)


async def test_who_did_not_say_at_the_door_that_its_token_is_wrong_leaves_no_row_either(
    live: LiveServer, token: str
) -> None:
    hello = Hello(protocol=PROTOCOL, role="client", version="1", instance_id="i")
    goodbye = await _answer_to(await raw_link(live, token), hello)
    assert (goodbye.cause, goodbye.retry_after_s) == ("unknown", handshake.TURNED_AWAY_S)
    assert goodbye.detail == (
        "this is the token of a workspace's agent: people log in with `tether login`"
    )
    older = Hello(protocol=(1, 0), role="client", version="1", instance_id="i")
    goodbye = await _answer_to(await raw_link(live, await live.admin_token()), older)
    assert goodbye.detail.startswith("this client (version 1) speaks protocol 1 and this server")
    assert await live.rows() == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x93\x01\x02\x03",
        b"",
        "text",
        encode(TunnelOffer(connection_id="c", relay_url="u", ticket="t", user="x", public_key="k")),
        encode(HELLO),
    ],
    ids=["garbage", "empty", "text", "a server's message", "a second hello"],
)
async def test_garbage_on_a_link_is_its_senders_protocol_error(
    live: LiveServer, token: str, garbage: bytes | str
) -> None:
    agent, client = await live.agent(token), await live.client()
    causes = []
    for peer in (agent, client):
        await peer.stream.send(garbage)
        goodbye = await peer.over()
        assert goodbye is not None
        row = await live.closed(peer.connection_id)
        assert row["disconnect_cause"] == goodbye.cause
        causes.append(goodbye.cause)
    assert causes == ["agent.protocol_error", "client.protocol_error"]


async def test_a_message_that_is_too_large_is_a_protocol_error(
    live: LiveServer, token: str
) -> None:
    agent = await live.agent(token)
    await agent.stream.send(b"x" * (MAX_CONTROL_MESSAGE + 1))
    await agent.over()
    row = await live.closed(agent.connection_id)
    assert row["disconnect_cause"] == "agent.protocol_error"


async def test_a_message_of_a_newer_peer_is_answered_and_logged_once_a_type(
    live: LiveServer, token: str
) -> None:
    agent = await live.agent(token)
    with capture_logs() as lines:
        for name in ("teleport", "teleport", "levitate"):
            await agent.stream.send(msgspec.msgpack.encode((name, {})))
            assert await agent.expect(Unsupported) == Unsupported(message_type=name)
    assert [
        (line["message_type"], line["log_level"])
        for line in lines
        if line["event"] == "message of another version"
    ] == [("teleport", "warning"), ("levitate", "warning")]
    assert (await live.row(agent.connection_id))["status"] == "ongoing"


# -- ends of control links ----------------------------------------------------------------------


async def test_an_agents_goodbye_is_its_rows_end(live: LiveServer, token: str) -> None:
    agent = await live.agent(token)
    agent.driver.leave("agent.shutdown", actor="signal:15 from pid 1 uid 0")
    await agent.over()
    row = await live.closed(agent.connection_id)
    assert truth(row) == ("agent.shutdown", "server_shutdown", "agent", True)
    assert row["disconnect_actor"] == "signal:15 from pid 1 uid 0"
    assert live.server.hub.agent_heard_at(agent.welcome.workspace_id) is None


@pytest.mark.parametrize("party", [Party.AGENT, Party.CLIENT])
async def test_a_killed_peer_vanished(live: LiveServer, token: str, party: Party) -> None:
    peer = await (live.agent(token) if party is Party.AGENT else live.client())
    await peer.vanish()
    row = await live.closed(peer.connection_id)
    assert truth(row) == (f"{party}.vanished", "process_crashed", str(party), False)


async def test_a_peer_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    times = LinkTimes(ping_every_s=0.05, patience_s=0.5, hello_s=DEADLINE_S)
    async with running(tmp_path, link_times=times) as live:
        _, token = await live.workspace()
        stream = await raw_link(live, token)
        await stream.send(encode(HELLO))
        with contextlib.suppress(StreamLost):
            while True:  # the welcome, the map, and pings that nobody answers
                await asyncio.wait_for(stream.recv(), DEADLINE_S)
        row = await the_only_row(live)
    # its kernel still acknowledges: it is the process that does not answer
    assert truth(row) == ("agent.unresponsive", "peer_unresponsive", "agent", False)


async def test_a_link_is_kept_alive_by_pings(tmp_path: Path) -> None:
    times = LinkTimes(ping_every_s=0.02, patience_s=2.0, hello_s=DEADLINE_S)
    async with running(tmp_path, link_times=times) as live:
        _, token = await live.workspace()
        stream = await raw_link(live, token)
        await stream.send(encode(HELLO))
        welcome, _the_map = [await asyncio.wait_for(stream.recv(), DEADLINE_S) for _ in range(2)]
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.5 * times.patience_s
        while loop.time() < until:
            raw = await asyncio.wait_for(stream.recv(), DEADLINE_S)
            assert isinstance(raw, bytes)
            ping = decode(raw)
            assert isinstance(ping, Ping)
            await stream.send(encode(Pong(n=ping.n)))
        assert [row["status"] for row in await live.rows()] == ["ongoing"]
        assert isinstance(welcome, bytes)
        await stream.close(1000, "")


async def test_a_second_agent_takes_over_and_the_first_is_told_who_did(
    live: LiveServer, token: str
) -> None:
    first = await live.agent(token, hostname="old")
    second = await live.agent(token, hostname="clone")
    goodbye = await first.over()
    assert goodbye is not None
    assert (goodbye.cause, goodbye.retry_after_s) == ("agent.superseded", 60.0)
    assert "clone" in goodbye.detail
    row = await live.closed(first.connection_id)
    assert truth(row) == ("agent.superseded", "superseded", "server", False)
    assert (await live.row(second.connection_id))["status"] == "ongoing"
    assert live.server.hub.agent_heard_at(second.welcome.workspace_id) is not None


async def test_two_agents_that_fight_over_a_workspace_are_told_apart_from_a_successor(
    live: LiveServer, token: str
) -> None:
    first = await live.agent(token, instance_id="one")
    second = await live.agent(token, instance_id="two")
    await first.over()
    again = await live.agent(token, instance_id="one")
    await second.over()
    rows = [await live.closed(peer.connection_id) for peer in (first, second)]
    causes = [row["disconnect_cause"] for row in rows]
    assert causes == ["agent.superseded", "agent.duplicate"]
    assert (await live.row(again.connection_id))["status"] == "ongoing"


async def test_the_same_agent_that_comes_back_is_no_rival(live: LiveServer, token: str) -> None:
    first = await live.agent(token, instance_id="same")
    second = await live.agent(token, instance_id="same")
    row = await live.closed(first.connection_id)
    assert row["disconnect_cause"] == "agent.unreachable"
    assert (await live.row(second.connection_id))["status"] == "ongoing"


async def test_a_superseded_agents_tunnel_lives_on_and_is_reported_later(
    live: LiveServer, token: str
) -> None:
    journal = {"journal_id": "j-old", "instance_id": "i-old"}
    first, client = await live.agent(token, **journal), await live.client()
    tunnel = await join(client, first)
    second = await live.agent(token)
    await first.over()
    await tunnel.client.send(b"still here")
    assert await tunnel.agent.recv() == b"still here"
    await tunnel.client.close(1000, "")
    await second.vanish()
    back = await live.agent(token, open_connections=[tunnel.connection_id], **journal)
    await back.report(ended(tunnel.connection_id, stream_ended(Party.CLIENT)), first_seq=2)
    row = await live.row(tunnel.connection_id)
    assert row["status"] == "closed"


# -- tunnels ------------------------------------------------------------------------------------


async def test_a_tunnel_is_granted_joined_and_recorded(live: LiveServer, token: str) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    assert (tunnel.grant.workspace, tunnel.grant.host_key) == ("dev", HOST_KEY)
    await tunnel.client.send(b"\x00hello")
    assert await tunnel.agent.recv() == b"\x00hello"
    row = await live.row(tunnel.connection_id)
    assert (row["status"], row["type"], row["user"], row["connection_method"]) == (
        "ongoing",
        "tunnel",
        "admin",
        "derp",
    )


async def test_the_grants_certificate_is_for_this_user_key_and_workspace(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    key = device_key()
    grant = await client.request(public_key=key)
    assert isinstance(grant, TunnelGrant)
    certificate: Any = asyncssh.import_certificate(grant.certificate)  # its fields have no types
    ca = asyncssh.import_public_key(agent.welcome.user_ca_key)
    now = SystemClock().now().wall
    assert certificate.principals == [grant.workspace_id]
    assert certificate._key_id == "user:admin"
    assert (
        certificate.key.export_public_key() == asyncssh.import_public_key(key).export_public_key()
    )
    assert certificate.signing_key.export_public_key() == ca.export_public_key()
    assert certificate._valid_after <= now <= certificate._valid_before <= now + 301


async def test_the_agent_is_told_whose_key_it_is(live: LiveServer, token: str) -> None:
    agent, client = await live.agent(token), await live.client()
    key = device_key()
    further = device_key()
    grant = await client.request(public_key=f"{key} me@laptop", further_public_keys=[further])
    offer = await agent.expect(TunnelOffer)
    assert isinstance(grant, TunnelGrant)
    assert (offer.connection_id, offer.user, offer.client_ip) == (
        grant.connection_id,
        "admin",
        "127.0.0.1",
    )
    assert offer.client_port == client.stream._ws.local_address[1]
    assert offer.public_key.split()[:2] == key.split()[:2]
    assert offer.further_public_keys == [further]
    assert offer.relay_url == grant.relay_url == f"ws://127.0.0.1:{live.port}/derp"
    assert offer.ticket != grant.ticket


async def test_both_ends_are_told_one_secret_that_is_made_anew_for_each_tunnel(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    keys = []
    for _ in range(2):
        grant = await client.request()
        offer = await agent.expect(TunnelOffer)
        assert isinstance(grant, TunnelGrant)
        assert grant.tunnel_key == offer.tunnel_key
        keys.append(base64.b64decode(grant.tunnel_key, validate=True))
    assert [len(key) for key in keys] == [32, 32]
    assert keys[0] != keys[1]


async def test_both_ends_are_told_the_policy_the_purpose_and_the_region(tmp_path: Path) -> None:
    async with running(tmp_path, resume_s=90.0) as live:
        _, token = await live.workspace()
        agent, client = await live.agent(token), await live.client()
        grant = await client.request(purpose="probe")
        offer = await agent.expect(TunnelOffer)
        assert isinstance(grant, TunnelGrant)
        assert (grant.resume_s, grant.region) == (90.0, "embedded")
        assert (offer.resume_s, offer.region, offer.purpose) == (90.0, "embedded", "probe")
        row = await live.row(grant.connection_id)
    assert row["type"] == "tunnel"


async def test_a_tunnel_for_a_purpose_that_nobody_knows_is_denied(
    live: LiveServer, token: str
) -> None:
    await live.agent(token)
    client = await live.client()
    assert await denied(client, purpose="mining") == (
        "unknown_purpose",
        "this server knows no tunnel for 'mining': update the server",
    )


async def test_a_ticket_is_good_once_and_for_one_leg(live: LiveServer, token: str) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    for used in (tunnel.grant.ticket, "made.up.ticket", ""):
        with pytest.raises(DialFailed) as refused:
            await dial_relay(tunnel.grant.relay_url, used)
        assert refused.value.status == 401
    assert await echoes(tunnel)


async def test_an_expired_ticket_is_refused(tmp_path: Path) -> None:
    clock = AheadClock()
    async with running(tmp_path, clock=clock) as live:
        _, token = await live.workspace()
        await live.agent(token)
        client = await live.client()
        grant = await client.request()
        assert isinstance(grant, TunnelGrant)
        clock.ahead = TICKET_LIFE_S + 1
        with pytest.raises(DialFailed) as refused:
            await dial_relay(grant.relay_url, grant.ticket)
    assert (refused.value.status, refused.value.cause) == (401, "ticket_expired")


async def echoes(tunnel: JoinedTunnel) -> bool:
    await tunnel.client.send(b"on")
    return await asyncio.wait_for(tunnel.agent.recv(), DEADLINE_S) == b"on"


async def denied(client: Peer, *arguments: Any, **more: Any) -> tuple[str, str]:
    answer = await client.request(*arguments, **more)
    assert isinstance(answer, TunnelDenied), answer
    return answer.code, answer.message


@pytest.mark.parametrize("name", ["nope", "", "x" * 500, "Dev", "dev;--"])
async def test_a_workspace_that_is_not_there_is_denied(live: LiveServer, name: str) -> None:
    client = await live.client()
    code, message = await denied(client, name)
    assert (code, message) == (
        "workspace_not_found",
        f"there is no workspace {name[:40]!r} of yours",
    )


async def test_anothers_workspace_does_not_exist_for_a_member(live: LiveServer, token: str) -> None:
    await live.agent(token)
    _, user_token = await live.user("alice")
    client = await live.client(user_token)
    assert (await denied(client))[0] == "workspace_not_found"


async def test_an_administrator_may_use_anothers_workspace(live: LiveServer) -> None:
    alice, _ = await live.user("alice")
    _, agent_token = await live.workspace("hers", alice)
    agent, client = await live.agent(agent_token), await live.client()
    assert await echoes(await join(client, agent, "hers"))


async def test_an_agent_that_never_came_is_said_to_never_have_come(
    live: LiveServer, token: str
) -> None:
    client = await live.client()
    assert await denied(client) == (
        "agent_not_connected",
        "the agent of workspace dev has never connected: start it there with `tether agent` and the"
        " workspace's token",
    )


async def test_an_agent_that_left_is_said_to_have_left_and_why(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    agent.driver.leave("agent.shutdown", actor="signal:15")
    await agent.over()
    await live.closed(agent.connection_id)
    code, message = await denied(client)
    assert code == "agent_not_connected"
    assert re.sub(r"\d+ s", "N s", message) == (
        "the agent of workspace dev is not connected (last seen N s ago: The workspace's agent was"
        " asked to stop (signal 15) and ended its sessions in order.)"
    )


async def test_an_agent_without_a_host_key_gets_no_clients(live: LiveServer, token: str) -> None:
    await live.agent(token, ssh_host_key="")
    client = await live.client()
    assert (await denied(client))[0] == "no_host_key"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "garbage",
        "ssh-ed25519 AAAA",
        f"{HOST_KEY}\n{HOST_KEY}",
        "ssh-ed25519 " + "A" * 10_000,
        asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode(),
    ],
    ids=["none", "garbage", "cut", "two", "long", "private"],
)
async def test_a_key_that_is_none_is_denied(live: LiveServer, token: str, key: str) -> None:
    await live.agent(token)
    client = await live.client()
    assert (await denied(client, public_key=key))[0] == "bad_public_key"


async def test_requests_that_nobody_uses_are_bounded(live: LiveServer, token: str) -> None:
    await live.agent(token)
    client, key = await live.client(), device_key()
    codes = []
    for number in range(66):
        answer = await client.request(public_key=key, request_id=number)
        assert answer.request_id == number
        codes.append(answer.code if isinstance(answer, TunnelDenied) else "granted")
    assert codes == ["granted"] * 64 + ["too_many_requests"] * 2


async def test_a_grant_that_was_used_makes_room_for_another(live: LiveServer, token: str) -> None:
    agent, client = await live.agent(token), await live.client()
    for _ in range(70):
        tunnel = await join(client, agent)
        await tunnel.client.close(1000, "")


async def test_an_offer_that_is_declined_reaches_the_user(live: LiveServer, token: str) -> None:
    agent, client = await live.agent(token), await live.client()
    grant = await client.request()
    assert isinstance(grant, TunnelGrant)
    offer = await agent.expect(TunnelOffer)
    agent.send(OfferDeclined(connection_id=offer.connection_id, message="the disk of dev is full"))
    with pytest.raises(DialFailed, match="the disk of dev is full"):
        await dial_relay(grant.relay_url, grant.ticket)


async def test_an_agent_cannot_decline_what_it_was_not_offered(
    live: LiveServer, token: str
) -> None:
    _, other_token = await live.workspace("other")
    agent, rogue = await live.agent(token), await live.agent(other_token)
    client = await live.client()
    grant = await client.request()
    offer = await agent.expect(TunnelOffer)
    assert isinstance(grant, TunnelGrant)
    rogue.send(OfferDeclined(connection_id=offer.connection_id, message="no"))
    rogue.send(OfferDeclined(connection_id="no-such", message="no"))
    await rogue.report(Opened(connection_id="flush", at=0.0))
    legs = await asyncio.gather(
        dial_relay(grant.relay_url, grant.ticket), dial_relay(offer.relay_url, offer.ticket)
    )
    assert len(legs) == 2


async def test_the_agents_report_closes_the_row(live: LiveServer, token: str) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    session = SessionRecord(
        connection_id=tunnel.connection_id,
        session_id="s1",
        session_type="ssh",
        started_at=SystemClock().now().wall,
    )
    await agent.report(Opened(connection_id=tunnel.connection_id, at=0.0), session)
    await tunnel.client.close(1000, "")
    await agent.report(
        ended(tunnel.connection_id, stream_ended(Party.CLIENT), rx_bytes=3, tx_bytes=4)
    )
    row = await live.closed(tunnel.connection_id)
    assert (row["type"], row["rx_bytes"], row["tx_bytes"]) == ("ssh", 3, 4)
    assert row["disconnect_cause"] == "client.vanished"


async def test_a_report_is_acknowledged_after_it_is_committed_and_applied_once(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    item = ended(tunnel.connection_id, stream_ended(Party.CLIENT))
    assert await agent.report(item) == 2
    assert (await live.row(tunnel.connection_id))["status"] == "closed"
    again = await live.agent(
        token, journal_id=agent.hello.journal_id, instance_id=agent.hello.instance_id
    )
    before = await live.row(tunnel.connection_id)
    assert await again.report(item, item, first_seq=1) == 2
    assert await live.row(tunnel.connection_id) == before


# -- agents that do not report ------------------------------------------------------------------


async def test_a_killed_agent_that_never_returns_is_closed_after_the_grace(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    tunnel.agent._ws.transport.abort()  # type: ignore[attr-defined]
    await agent.vanish()
    row = await live.closed(tunnel.connection_id)
    assert truth(row) == ("agent.vanished", "process_crashed", "agent", False)
    kinds = {one["kind"] for one in row["evidence"]}
    assert {"stream_ended", "never_returned"} <= kinds


async def test_a_tunnel_whose_carrier_ended_waits_for_its_agents_word(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    tunnel.client._ws.transport.abort()  # type: ignore[attr-defined]
    await tunnel.agent.recv()
    await asyncio.sleep(0.5)  # longer than any grace
    row = await live.row(tunnel.connection_id)
    assert row["status"] == "ongoing"
    assert row["detached_since"] is not None
    await agent.report(ended(tunnel.connection_id, stream_ended(Party.CLIENT)))
    assert (await live.row(tunnel.connection_id))["disconnect_cause"] == "client.vanished"


async def test_a_tunnel_whose_client_said_goodbye_is_closed_though_its_agent_says_nothing(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    bye = ev.GoodbyeSaid(
        vantage=Vantage.CLIENT,
        at=SystemClock().now().wall,
        by=Party.CLIENT,
        cause="client.closed",
    )
    await client.report(ended(tunnel.connection_id, records_of((bye,))[0]))
    row = await live.closed(tunnel.connection_id)
    assert row["disconnect_cause"] == "client.closed"
    assert "never_returned" not in {one["kind"] for one in row["evidence"]}


async def test_an_agent_that_returns_in_time_tells_it_first(tmp_path: Path) -> None:
    async with running(tmp_path, graces=Graces(report_s=30.0, agent_s=30.0)) as live:
        _, token = await live.workspace()
        agent, client = await live.agent(token, journal_id="j-1"), await live.client()
        tunnel = await join(client, agent)
        tunnel.agent._ws.transport.abort()  # type: ignore[attr-defined]
        await agent.vanish()
        died = ev.PreviousRunDied(
            vantage=Vantage.AGENT, at=time.time(), party=Party.AGENT, host_rebooted=False
        )
        back = await live.agent(token, journal_id="j-1", open_connections=[tunnel.connection_id])
        await back.report(ended(tunnel.connection_id, records_of((died,))[0]), first_seq=2)
        row = await live.row(tunnel.connection_id)
    assert (row["disconnect_cause"], row["revision"]) == ("agent.crashed", 1)


async def test_a_tunnel_that_lives_is_never_closed_for_its_agents_lost_link(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    await agent.vanish()
    await live.closed(agent.connection_id)
    left = await live.server.connections.wait_closed([tunnel.connection_id], 0.6)
    assert left == {tunnel.connection_id}
    assert await echoes(tunnel)


# -- decisions ----------------------------------------------------------------------------------


async def test_a_stop_is_told_to_the_agent_and_waits_for_its_reports(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    tasks = Tasks("test")
    stopping = tasks.spawn(live.server.workspaces.stop("dev", StopReason.USER, ADMIN), "stop")
    stop = await agent.expect(WorkspaceStop)
    assert stop == WorkspaceStop(cause="workspace.stopped", actor="user:admin")
    assert not stopping.done()
    said = ev.GoodbyeSaid(
        vantage=Vantage.AGENT,
        at=SystemClock().now().wall,
        by=Party.SERVER,
        cause=stop.cause,
        actor=stop.actor,
    )
    await agent.report(ended(tunnel.connection_id, records_of((said,))[0]))
    goodbye = await agent.over()
    assert goodbye is not None
    assert (goodbye.cause, goodbye.actor) == ("workspace.stopped", "user:admin")
    info = await stopping
    assert info.agent_status == "disconnected"
    for connection_id in (tunnel.connection_id, agent.connection_id):
        row = await live.row(connection_id)
        assert truth(row) == ("workspace.stopped", "workspace_stopped", "server", True)
        assert row["disconnect_actor"] == "user:admin"


async def test_an_agent_that_leaves_during_a_stop_left_because_of_it(
    live: LiveServer, token: str
) -> None:
    agent = await live.agent(token)
    tasks = Tasks("test")
    stopping = tasks.spawn(live.server.workspaces.stop("dev", StopReason.AUTOSTOP, ADMIN), "stop")
    await agent.expect(WorkspaceStop)
    await agent.vanish()
    await stopping
    row = await live.row(agent.connection_id)
    assert row["disconnect_cause"] == "workspace.autostop"
    assert row["disconnect_actor"] == "policy:autostop"
    assert row["disconnect_detail"] == "asked for by user:admin"


async def test_a_stop_without_an_agent_closes_its_tunnels_itself(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    await agent.vanish()
    await live.closed(agent.connection_id)
    await live.server.workspaces.stop("dev", StopReason.USER, ADMIN)
    row = await live.row(tunnel.connection_id)
    assert truth(row) == ("workspace.stopped", "workspace_stopped", "server", True)
    for leg in (tunnel.client, tunnel.agent):
        raw = await asyncio.wait_for(leg.recv(), DEADLINE_S)
        assert isinstance(raw, str)
        assert decode_word(raw) == RelayGoodbye(cause="workspace.stopped", actor="user:admin")


async def test_a_stopped_workspace_has_its_agent_on_standby_and_grants_nothing(
    live: LiveServer, token: str
) -> None:
    await live.server.workspaces.stop("dev", StopReason.USER, ADMIN)
    agent, client = await live.agent(token), await live.client()
    assert agent.welcome.workspace_running is False
    assert await denied(client) == (
        "workspace_stopped",
        "workspace dev is stopped: start it with `tether workspace start dev`",
    )
    await live.server.workspaces.start("dev", ADMIN)
    await agent.expect(WorkspaceStart)
    assert await echoes(await join(client, agent))


async def test_a_deleted_workspaces_agent_is_told_not_to_come_back(
    live: LiveServer, token: str
) -> None:
    agent = await live.agent(token)
    tasks = Tasks("test")
    deleting = tasks.spawn(live.server.workspaces.delete("dev", ADMIN), "delete")
    await agent.expect(WorkspaceStop)
    goodbye = await agent.over()
    assert goodbye is not None
    assert (goodbye.cause, goodbye.retry_after_s) == ("workspace.deleted", -1.0)
    await deleting
    assert (await live.row(agent.connection_id))["disconnect_cause"] == "workspace.deleted"
    with pytest.raises(DialFailed) as refused:
        await raw_link(live, token)
    assert refused.value.cause == "workspace_deleted"


async def test_a_revoked_users_tunnels_and_links_end(live: LiveServer) -> None:
    alice, user_token = await live.user("alice")
    _, agent_token = await live.workspace("hers", alice)
    agent, client = await live.agent(agent_token), await live.client(user_token)
    mine = await live.client()
    tunnel, other = await join(client, agent, "hers"), await join(mine, agent, "hers")
    await live.server.accounts.revoke_user("alice", ADMIN)
    tasks = Tasks("test")
    revoking = tasks.spawn(live.server.hub.revoke_user("alice", "admin:admin"), "revoke")
    told = await agent.expect(EndConnections)
    assert told == EndConnections(
        connection_ids=[tunnel.connection_id], cause="auth.user_revoked", actor="admin:admin"
    )
    goodbye = await client.over()
    assert goodbye is not None
    assert (goodbye.cause, goodbye.retry_after_s) == ("auth.user_revoked", -1.0)
    said = ev.GoodbyeSaid(
        vantage=Vantage.AGENT, at=0.0, by=Party.SERVER, cause=told.cause, actor=told.actor
    )
    await agent.report(ended(tunnel.connection_id, records_of((said,))[0]))
    await revoking
    for connection_id in (tunnel.connection_id, client.connection_id):
        row = await live.row(connection_id)
        assert truth(row) == ("auth.user_revoked", "access_revoked", "server", True)
    assert await echoes(other)


async def test_a_revoked_users_tunnel_ends_even_if_its_agent_is_away(live: LiveServer) -> None:
    alice, user_token = await live.user("alice")
    _, agent_token = await live.workspace("hers", alice)
    agent, client = await live.agent(agent_token), await live.client(user_token)
    tunnel = await join(client, agent, "hers")
    await agent.vanish()
    await live.closed(agent.connection_id)
    await live.server.hub.revoke_user("alice", "admin:admin")
    raw = await asyncio.wait_for(tunnel.agent.recv(), DEADLINE_S)
    assert isinstance(raw, str)
    assert decode_word(raw) == RelayGoodbye(cause="auth.user_revoked", actor="admin:admin")
    assert (await live.row(tunnel.connection_id))["disconnect_cause"] == "auth.user_revoked"


async def test_an_agent_that_is_back_ends_the_tunnels_that_their_clients_left_meanwhile(
    live: LiveServer, token: str
) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel, other = await join(client, agent), await join(client, agent)
    await agent.vanish()
    await live.closed(agent.connection_id)
    left = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=time.time())
    await client.report(ended(tunnel.connection_id, records_of((left,))[0]))
    both = [tunnel.connection_id, other.connection_id]
    same = {"journal_id": agent.hello.journal_id, "instance_id": agent.hello.instance_id}
    again = await live.agent(token, open_connections=both, **same)
    assert await again.expect(EndConnections) == EndConnections(
        connection_ids=[tunnel.connection_id], cause="client.closed", by_client=True
    )


async def test_a_withdrawn_token_ends_what_it_opened_and_nothing_else(live: LiveServer) -> None:
    first = await live.server.accounts.issue_token("admin", "first")
    client, other = await live.client(first.token), await live.client()
    await live.server.accounts.revoke_token(first.token_id, ADMIN)
    await live.server.hub.revoke_tokens([first.token_id], "admin:admin")
    goodbye = await client.over()
    assert goodbye is not None
    assert goodbye.cause == "auth.token_revoked"
    row = await live.row(client.connection_id)
    assert truth(row) == ("auth.token_revoked", "access_revoked", "server", True)
    assert other.link.state is LinkState.OPEN


async def test_a_link_ends_with_the_token_that_it_stands_on(live: LiveServer) -> None:
    short = await live.server.accounts.issue_token("admin", "short", expires_in_s=1.0)
    client, other = await live.client(short.token), await live.client()
    goodbye = await client.over()
    assert goodbye is not None
    assert (goodbye.cause, goodbye.retry_after_s) == ("auth.token_expired", -1.0)
    row = await live.closed(client.connection_id)
    assert truth(row) == ("auth.token_expired", "session_expired", "server", True)
    assert other.link.state is LinkState.OPEN


async def test_an_agent_whose_token_was_replaced_is_told_to_come_again(
    live: LiveServer, token: str
) -> None:
    agent = await live.agent(token)
    await live.server.workspaces.rotate_token("dev", ADMIN, at_once=True)
    goodbye = await agent.over()
    assert goodbye is not None
    assert (goodbye.cause, goodbye.actor, goodbye.retry_after_s) == (
        *("auth.token_revoked", "user:admin"),
        1.0,
    )
    row = await live.closed(agent.connection_id)
    assert truth(row) == ("auth.token_revoked", "access_revoked", "server", True)


async def test_a_withdrawn_token_ends_the_sessions_that_it_opened_and_no_others(
    live: LiveServer, token: str
) -> None:
    laptop = await live.server.accounts.issue_token("admin", "laptop")
    agent, client = await live.agent(token), await live.client(laptop.token)
    other = await live.client()
    tunnel = await join(client, agent)
    await join(other, agent)
    await live.server.accounts.revoke_token(laptop.token_id, ADMIN)
    revoking = Tasks("test").spawn(
        live.server.hub.revoke_tokens([laptop.token_id], "admin:admin"), "revoke"
    )
    assert await agent.expect(EndConnections) == EndConnections(
        connection_ids=[tunnel.connection_id], cause="auth.token_revoked", actor="admin:admin"
    )
    said = ev.GoodbyeSaid(
        vantage=Vantage.AGENT,
        at=time.time(),
        by=Party.SERVER,
        cause="auth.token_revoked",
        actor="admin:admin",
    )
    await agent.report(ended(tunnel.connection_id, records_of((said,))[0]))
    await revoking
    row = await live.row(tunnel.connection_id)
    assert truth(row) == ("auth.token_revoked", "access_revoked", "server", True)
    assert row["disconnect_actor"] == "admin:admin"
    assert other.link.state is LinkState.OPEN


async def test_a_token_of_another_kind_is_refused_at_the_door_with_what_to_do(
    live: LiveServer, token: str
) -> None:
    for role, wrong, told in (
        ("agent", await live.admin_token(), "an agent needs its workspace's"),
        ("client", token, "people log in with `tether login`"),
        ("relay", token, "a relay needs one of its own"),
    ):
        with pytest.raises(DialFailed) as refused:
            await dial(live.control_url, token=wrong, headers={ROLE_HEADER: role}, max_size=100_000)
        assert (refused.value.status, refused.value.cause) == (403, "wrong_token")
        assert told in str(refused.value)
    assert await live.rows() == []


# -- the end of the server ----------------------------------------------------------------------


async def test_a_stopping_server_says_goodbye_to_all_and_leaves_the_tunnels_to_their_ends(
    tmp_path: Path,
) -> None:
    actor = "signal:15 from pid 1 uid 0"
    async with running(tmp_path, graces=Graces()) as live:  # it stops in less, however slowly
        _, token = await live.workspace()
        agent, client = await live.agent(token), await live.client()
        tunnel = await join(client, agent)
        _, others = await live.workspace("other")
        orphan = await join(client, await live.agent(others), "other")
        tasks = Tasks("test")
        stopping = tasks.spawn(live.stop(actor), "stop")
        raw = await asyncio.wait_for(tunnel.agent.recv(), DEADLINE_S)
        assert isinstance(raw, str)
        assert decode_word(raw) == RelayGoodbye(cause="server.shutdown", actor=actor)
        goodbyes = [await agent.over(), await client.over()]
        await stopping
    assert [(g.cause, g.actor, g.retry_after_s) for g in goodbyes if g] == [
        ("server.shutdown", actor, 1.0)
    ] * 2
    clock = AheadClock()
    async with running(tmp_path, clock, graces=Graces()) as again:
        hello = agent.hello
        back = await again.agent(
            token,
            instance_id=hello.instance_id,
            journal_id=hello.journal_id,
            open_connections=[tunnel.connection_id],
        )
        clock.ahead = 3600.0  # longer than any grace
        await again.agent((await again.workspace("third"))[1])  # the janitor looks again
        await again.closed(orphan.connection_id)  # the other agent did not come back
        row = await again.row(tunnel.connection_id)
        assert (row["status"], row["disconnect_cause"]) == ("ongoing", None)
        await back.vanish()


async def test_a_client_that_leaves_because_its_tunnel_ended_was_still_ended_by_the_server(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as live:
        _, token = await live.workspace()
        agent, client = await live.agent(token), await live.client()
        tunnel = await join(client, agent)
        tasks = Tasks("test")
        stopping = tasks.spawn(live.stop(), "stop")
        await asyncio.wait_for(tunnel.client.recv(), DEADLINE_S)
        client.driver.leave("client.closed")
        await client.over()
        await stopping
    async with running(tmp_path) as again:
        rows = [await again.row(c.connection_id) for c in (client, agent)]
    assert {truth(row) for row in rows} == {("server.shutdown", "server_shutdown", "server", True)}
    assert {row["disconnect_actor"] for row in rows} == {"signal:15 from pid 1 uid 0"}


async def test_a_stopping_server_takes_nothing_new(live: LiveServer, token: str) -> None:
    agent, client = await live.agent(token), await live.client()
    tunnel = await join(client, agent)
    user_token = await live.admin_token()
    tasks = Tasks("test")
    stopping = tasks.spawn(live.stop(), "stop")
    await asyncio.wait_for(tunnel.agent.recv(), DEADLINE_S)
    client.send(TunnelRequest(request_id=9, workspace="dev", public_key=device_key()))
    answer = await asyncio.wait_for(client.inbox.get(), DEADLINE_S)
    assert isinstance(answer, TunnelDenied)
    assert answer.code == "server_stopping"
    codes = []
    for url, ticket in ((live.control_url, user_token), (tunnel.grant.relay_url, "x")):
        with pytest.raises(DialFailed) as refused:
            await dial(url, token=ticket, max_size=1000)
        codes.append((refused.value.status, refused.value.cause))
    assert codes == [(503, "server_stopping")] * 2
    status, body = await asyncio.to_thread(get, live.port, "/api/v1/whoami")
    assert (status, body["error"]["code"]) == (503, "server_stopping")
    live.server.hurry()
    await stopping


def get(port: int, path: str) -> tuple[int, Any]:
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_a_hurried_server_waits_for_nobody_and_still_closes_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "LINKS_S", 10 * DEADLINE_S)
    async with running(tmp_path) as live:
        _, token = await live.workspace()
        stream = await raw_link(live, token)  # an agent that never answers
        await stream.send(encode(HELLO))
        await asyncio.wait_for(stream.recv(), DEADLINE_S)
        live.server.hurry()
        await asyncio.wait_for(live.stop(), DEADLINE_S)
    async with running(tmp_path) as again:
        rows = await again.rows()
    assert [(row["status"], row["disconnect_cause"]) for row in rows] == [
        ("closed", "server.shutdown")
    ]


async def test_rows_are_closed_even_if_no_peer_says_goodbye(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        _, token = await live.workspace()
        stream = await raw_link(live, token)
        await stream.send(encode(HELLO))
        await asyncio.wait_for(stream.recv(), DEADLINE_S)
        await live.stop()
    async with running(tmp_path) as again:
        assert [row["disconnect_cause"] for row in await again.rows()] == ["server.shutdown"]


# -- decisions that fall between a token and a welcome --------------------------------------------


async def test_a_token_that_is_withdrawn_before_the_hello_opens_nothing(live: LiveServer) -> None:
    _, user_token = await live.user("alice")
    stream = await raw_link(live, user_token)
    await live.server.accounts.revoke_user("alice", ADMIN)
    await live.server.hub.revoke_user("alice", "admin:admin")
    hello = Hello(protocol=PROTOCOL, role="client", version="1", instance_id="i-1")
    await stream.send(encode(hello))
    goodbye = None
    while not isinstance(goodbye, Goodbye):  # behind the welcome
        raw = await asyncio.wait_for(stream.recv(), DEADLINE_S)
        assert isinstance(raw, bytes)
        goodbye = decode(raw)
    assert (goodbye.cause, goodbye.retry_after_s) == ("auth.user_revoked", -1.0)
    await stream.close(1000, "")
    assert (await the_only_row(live))["disconnect_cause"] == "auth.user_revoked"


async def test_an_agent_of_a_workspace_that_is_deleted_before_the_hello_is_sent_away(
    live: LiveServer, token: str
) -> None:
    stream = await raw_link(live, token)
    await live.server.workspaces.delete("dev", ADMIN)
    await stream.send(encode(HELLO))
    with pytest.raises(StreamLost) as end:
        await asyncio.wait_for(stream.recv(), DEADLINE_S)
    assert end.value.close_code == 1008
    assert live.server.hub.agent_heard_at((await live.workspace("dev"))[0]) is None


async def test_the_number_of_handshakes_under_way_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(handshake.MAX_PENDING, Holder.ALL, 8)
    async with running(tmp_path, link_times=LinkTimes(hello_s=DEADLINE_S)) as live:
        user_token = await live.admin_token()
        waiting = await asyncio.gather(*(raw_link(live, user_token) for _ in range(8)))
        with pytest.raises(DialFailed) as refused:
            await raw_link(live, user_token)
        assert (refused.value.status, refused.value.cause) == (503, "server_busy")
        await waiting[0].close(1000, "")
        await live.client(user_token)
        for stream in waiting:
            stream._ws.transport.abort()


async def test_an_agent_that_is_too_old_is_turned_away_with_a_sentence(tmp_path: Path) -> None:
    async with running(tmp_path, min_agent_version="1.2") as live:
        _, token = await live.workspace()
        old = await Peer.dial(live, token, Party.AGENT, version="1.1.9")
        old.start()
        goodbye = await old.over()
        detail = "this server takes agents from version 1.2 on, and this one is 1.1.9: update it"
        assert goodbye == Goodbye(cause="agent.outdated", detail=detail, retry_after_s=300.0)
        (row,) = await live.rows(type="control")
        closed = await live.closed(row["connection_id"])
        assert closed["disconnect_cause"] == "agent.outdated"
        assert (closed["disconnect_initiator"], closed["disconnect_expected"]) == ("server", False)
        new = await live.agent(token, version="1.2.0")
        assert new.welcome.workspace == "dev"
