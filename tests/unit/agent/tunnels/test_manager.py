"""Tunnels from offer to end, with the real SSH server, a real journal, and cables for relays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.support.agent.played_server import captured
from tests.support.deadline import DEADLINE_S
from tests.support.net.cable import Cable, CableEnd
from tests.support.net.tunnels import KEY, KEY_TEXT, client_over, direct, direct_pair, relayed
from tether.agent.journal.journal import Journal
from tether.agent.journal.previous_run import RunMarker
from tether.agent.ssh.host_key import load_or_create
from tether.agent.ssh.server import SshServer, SshSettings
from tether.agent.tunnels.manager import Tunnels
from tether.agent.tunnels.service import EndOrder
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, Party, StreamEnd, Vantage
from tether.net.clock import SystemClock
from tether.net.tasks import Tasks
from tether.net.transport.direct import DirectStream
from tether.net.transport.streams import DialFailed, MessageStream
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.protocol.link.link import LinkState
from tether.protocol.messages.base import facts_of
from tether.protocol.messages.derp import PeerGone, encode_word
from tether.protocol.messages.reports import Ended, Opened, PathRecord, ReportItem, SessionRecord
from tether.protocol.messages.tunnel import CarrierOffer, OfferDeclined, TunnelOffer
from tether.protocol.tunnel.events import Answered
from tether.protocol.tunnel.frames import encode_opening, parse_carrier_frame
from tether.protocol.tunnel.join import Join, JoinRefused

pytestmark = pytest.mark.anyio

RUN = RunMarker(instance_id="run-1", boot_id="b", pid=1, started_at=0.0)
ORDER = EndOrder(
    ev.GoodbyeSaid(
        vantage=Vantage.AGENT,
        at=1.0,
        by=Party.SERVER,
        cause="workspace.stopped",
        actor="user:alice",
        detail="lunch",
    ),
    "The workspace was stopped by alice.",
)


def offer(connection_id: str) -> TunnelOffer:
    return TunnelOffer(
        connection_id=connection_id,
        relay_url="relay",
        ticket=connection_id,
        user="alice",
        public_key="",
        tunnel_key=KEY_TEXT,
        region="eu",
    )


class ManagerRig:
    """Tunnels, and a relay that joins them when the test says so."""

    def __init__(self, directory: Path, journal: Journal, limit: int) -> None:
        self.clock = SystemClock()
        self.journal = journal
        self.joined = asyncio.Event()
        self.joined.set()
        self.refusal: DialFailed | None = None
        self.declined: list[OfferDeclined] = []
        self.tasks = Tasks("clients")
        self.clients: list[TunnelEndpoint] = []
        self.came = asyncio.Event()
        self.direct: list[DirectStream] = []
        self.cables: list[Cable] = []
        self.first: dict[str, Cable] = {}
        self.region = "eu"
        self.small: list[bool] = []
        """Of each dial, whether small segments were wanted."""
        self.ssh = SshServer(
            SshSettings(host_key=load_or_create(directory), login_timeout_s=60.0),
            clock=self.clock,
            on_item=self._keep,
        )
        self.tunnels = Tunnels(
            ssh=self.ssh, journal=journal, clock=self.clock, dial=self._dial, limit=limit
        )

    def _keep(self, item: ReportItem) -> None:
        self.journal.post(item)

    async def _dial(self, url: str, ticket: str, small: bool) -> MessageStream:
        self.small.append(small)
        await self.joined.wait()
        if self.refusal is not None:
            raise self.refusal
        cable = Cable(delay=0.0)
        self.first[ticket] = cable
        if ticket == "further":
            self.cables.append(cable)
            return cable.left
        client = self._client(cable.right, ticket)
        self.clients.append(client)
        self.tasks.spawn(client.run(), "client")
        return cable.left

    def _client(self, end: CableEnd, connection_id: str) -> TunnelEndpoint:
        return TunnelEndpoint(
            client_over(end, self.clock, connection_id=connection_id),
            me=Party.CLIENT,
            peer=Party.AGENT,
            clock=self.clock,
            version="test",
            on_data=lambda data: self.came.set(),
            on_message=lambda message: None,
        )

    def offered(self, connection_id: str) -> None:
        offered = msgspec.structs.replace(offer(connection_id), region=self.region)
        self.tunnels.offered(offered, self.declined.append)

    def further(self, connection_id: str, carrier: int, *, small: bool = False) -> None:
        """A further carrier, by relay."""
        offered = CarrierOffer(
            connection_id=connection_id,
            carrier=carrier,
            relay_url="relay",
            ticket="further",
            small_segments=small,
        )
        self.tunnels.carrier_offered(offered, self.declined.append)

    async def come(self, attach: Join) -> DirectStream:
        """A client dials the agent and introduces itself; its end."""
        left, right = await direct_pair()
        self.direct += [left, right]
        self.tasks.spawn(
            self.tunnels.join_directly(right, attach, encode_opening(attach)), "attach"
        )
        return left

    async def paths(self, connection_id: str) -> list[tuple[str, int, str]]:
        """What was reported of a tunnel's way."""
        await self.causes()
        return [
            (item.event, item.carrier, item.method)
            for _, item in await self.journal.pending(0, 1000) or []
            if isinstance(item, PathRecord) and item.connection_id == connection_id
        ]

    async def served(self, connection_id: str) -> TunnelEndpoint:
        """A tunnel on which the SSH server has spoken."""
        self.came.clear()
        self.offered(connection_id)
        await self.came.wait()
        return self.clients[-1]

    async def causes(self) -> dict[str, str]:
        """Every opened connection with its judged cause, "" while it is open."""
        barrier = SessionRecord(
            connection_id="-", session_id="-", session_type="ssh", started_at=0.0
        )
        await self.journal.append(barrier)  # whatever was posted before is on the disk then
        found: dict[str, str] = {}
        for _, item in await self.journal.pending(0, 1000) or []:
            if isinstance(item, Opened):
                assert item.connection_id not in found
                found[item.connection_id] = ""
            elif isinstance(item, Ended):
                assert found[item.connection_id] == "", "ended once, after it was opened"
                judged = classify(ConnectType.AGENT_TO_CLIENT, facts_of(item.facts))
                found[item.connection_id] = judged.disconnect.cause
        return found


@contextlib.asynccontextmanager
async def manager_rig(
    directory: Path, limit: int = 256, region: str = "eu"
) -> AsyncIterator[ManagerRig]:
    clock = SystemClock()
    journal, _ = await Journal.open(
        directory / "journal.db", RUN, clock=clock, owed=lambda previous: ()
    )
    with captured():
        made = ManagerRig(directory, journal, limit)
        made.region = region
        try:
            async with asyncio.timeout(DEADLINE_S):
                yield made
        finally:
            made.joined.set()
            made.tunnels.end(None, ORDER)
            await made.tunnels.close(1.0)
            await made.tasks.cancel()
            for stream in made.direct:
                stream.abort()
            await journal.close()


async def test_a_tunnel_is_opened_and_ended(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        client = await rig.served("t1")
        assert rig.tunnels.ids == {"t1"}
        assert await rig.causes() == {"t1": ""}
        client.leave("client.closed")
        while rig.tunnels.ids:
            await asyncio.sleep(0)
        assert await rig.causes() == {"t1": "client.closed"}
        assert rig.declined == []


async def test_an_offer_that_cannot_be_joined_is_declined_and_leaves_no_trace(
    tmp_path: Path,
) -> None:
    async with manager_rig(tmp_path) as rig:
        rig.refusal = DialFailed("the other end of the tunnel did not come to the relay in time")
        rig.offered("t1")
        while rig.tunnels.ids:
            await asyncio.sleep(0)
        assert rig.declined == [
            OfferDeclined(
                connection_id="t1", message=f"the agent could not join the tunnel: {rig.refusal}"
            ),
        ]
        assert await rig.causes() == {}


async def test_more_than_the_limit_is_declined(tmp_path: Path) -> None:
    async with manager_rig(tmp_path, limit=1) as rig:
        await rig.served("t1")
        rig.offered("t2")
        (declined,) = rig.declined
        assert declined == OfferDeclined(
            connection_id="t2",
            message="the agent already serves 1 connections: close some of them",
        )


async def test_the_same_offer_twice_is_one_tunnel(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        await rig.served("t1")
        rig.offered("t1")
        assert (rig.tunnels.ids, rig.declined, len(rig.clients)) == ({"t1"}, [], 1)


async def test_while_refusing_every_offer_is_declined_with_the_sentence(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        rig.tunnels.refuse("the workspace is stopped")
        rig.offered("t1")
        assert rig.declined == [
            OfferDeclined(connection_id="t1", message="the workspace is stopped")
        ]
        rig.tunnels.refuse("")
        await rig.served("t2")


async def test_an_order_ends_what_is_served_and_what_it_names_only(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        first, second = await rig.served("t1"), await rig.served("t2")
        rig.tunnels.end(["t1", "t9"], ORDER)
        await rig.tunnels.close(5.0)
        assert await rig.causes() == {"t1": "workspace.stopped", "t2": ""}
        assert rig.tunnels.ids == {"t2"}
        (said,) = [f for f in first.cell.facts if isinstance(f, ev.GoodbyeSaid)]
        assert (said.cause, said.actor, said.detail) == ("workspace.stopped", "user:alice", "lunch")
        assert not second.cell.ended


async def test_an_order_reaches_a_tunnel_that_is_still_being_joined(tmp_path: Path) -> None:
    """Its client hears the reason on whichever way it comes: by the relay, or by the tunnel."""
    async with manager_rig(tmp_path) as rig:
        rig.joined.clear()
        rig.offered("t1")
        await asyncio.sleep(0)
        rig.tunnels.end(None, ORDER)
        assert rig.declined == [OfferDeclined(connection_id="t1", message=ORDER.announcement)]
        rig.joined.set()
        await rig.tunnels.close(5.0)
        assert await rig.causes() == {"t1": "workspace.stopped"}
        (client,) = rig.clients
        judged = classify(ConnectType.AGENT_TO_CLIENT, client.cell.facts).disconnect
        assert (judged.cause, judged.actor) == ("workspace.stopped", "user:alice")
        assert len(rig.declined) == 1


async def test_what_never_joins_is_dropped_in_time(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        rig.joined.clear()
        rig.offered("t1")
        await asyncio.sleep(0)
        rig.tunnels.end(None, ORDER)
        await rig.tunnels.close(0.05)
        assert rig.tunnels.ids == set()
        assert await rig.causes() == {}


async def test_a_tunnel_that_does_not_end_in_time_is_dropped_with_the_cause_of_the_order(
    tmp_path: Path,
) -> None:
    async with manager_rig(tmp_path) as rig:
        await rig.served("t1")
        rig.tunnels.end(None, ORDER)
        await rig.tunnels.close(0.0)
        assert rig.tunnels.ids == set()
        await rig.tunnels.close(0.0)
        assert await rig.causes() == {"t1": "workspace.stopped"}


async def test_an_earlier_cause_is_not_overwritten_by_an_order(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        client = await rig.served("t1")
        client.leave("client.closed")
        while client.link.state is not LinkState.CLOSED:  # until it was acknowledged
            await asyncio.sleep(0)
        rig.tunnels.end(None, ORDER)
        await rig.tunnels.close(5.0)
        assert await rig.causes() == {"t1": "client.closed"}


# -- further carriers, and direct ones -----------------------------------------------------


async def test_a_further_carrier_takes_over_and_is_reported(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        client = await rig.served("t1")
        rig.further("t1", 7, small=True)
        rig.further("t1", 7, small=True)  # an offer may come twice
        while not rig.cables:
            await asyncio.sleep(0)
        client.stream.add(relayed(7, rig.cables[0].right))
        while 7 not in client.stream.carriers():
            await asyncio.sleep(0)
        client.stream.use(7)
        client.leave("client.closed")
        while rig.tunnels.ids:
            await asyncio.sleep(0)
        assert await rig.causes() == {"t1": "client.closed"}
        assert await rig.paths("t1") == [("used", 1, "derp"), ("used", 7, "derp")]
        assert len(rig.cables) == 1 and rig.declined == []
        assert rig.small == [False, True]


async def test_a_further_carrier_of_a_tunnel_that_is_not_served_is_declined_with_a_code(
    tmp_path: Path,
) -> None:
    async with manager_rig(tmp_path) as rig:
        client = await rig.served("t1")
        client.leave("client.closed")
        while rig.tunnels.ids:
            await asyncio.sleep(0)
        rig.further("t1", 2)
        rig.further("t9", 3)
        assert [(d.connection_id, d.carrier, d.code) for d in rig.declined] == [
            ("t1", 2, "tunnel_over"),
            ("t9", 3, "tunnel_unknown"),
        ]


async def test_a_further_relay_that_cannot_be_reached_is_declined_and_the_tunnel_lives(
    tmp_path: Path,
) -> None:
    async with manager_rig(tmp_path) as rig:
        await rig.served("t1")
        rig.refusal = DialFailed("relay: nothing listens")
        rig.further("t1", 2)
        while not rig.declined:
            await asyncio.sleep(0)
        assert rig.declined == [
            OfferDeclined(
                connection_id="t1",
                message="the agent could not join the tunnel: relay: nothing listens",
                carrier=2,
            )
        ]
        assert await rig.causes() == {"t1": ""}


async def test_a_client_that_comes_directly_is_served_although_the_relay_is_away(
    tmp_path: Path,
) -> None:
    async with manager_rig(tmp_path) as rig:
        rig.tunnels.direct = True
        rig.refusal = DialFailed("relay: nothing listens")
        rig.offered("t1")
        while not rig.declined:
            await asyncio.sleep(0)
        assert rig.tunnels.ids == {"t1"}
        stream = client_over(Cable().left, rig.clock, connection_id="t1")
        client = TunnelEndpoint(
            stream,
            me=Party.CLIENT,
            peer=Party.AGENT,
            clock=rig.clock,
            version="test",
            on_data=lambda data: rig.came.set(),
            on_message=lambda message: None,
        )
        rig.tasks.spawn(client.run(), "client")
        left = await rig.come(KEY.join(Party.CLIENT, "t1", 2, 0))
        answer = parse_carrier_frame(await left.recv())
        assert isinstance(answer, Join) and KEY.proves(answer)
        # From here on the client's own stream goes on, with a further carrier.
        pair = await direct_pair()
        rig.direct += pair
        stream.add(direct(3, pair[0], Party.AGENT))
        raw = await pair[1].recv()
        came = parse_carrier_frame(raw)
        assert isinstance(came, Join)
        assert (came.carrier, came.received, KEY.proves(came)) == (3, 0, True)
        await rig.tunnels.join_directly(pair[1], came, raw)
        await rig.came.wait()
        client.leave("client.closed")
        while rig.tunnels.ids:
            await asyncio.sleep(0)
        assert await rig.causes() == {"t1": "client.closed"}
        assert ("used", 3, "direct") in await rig.paths("t1")


async def test_a_client_may_be_quicker_than_its_offer(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        rig.joined.clear()
        left = await rig.come(KEY.join(Party.CLIENT, "t1", 2, 0))
        await asyncio.sleep(0)
        rig.offered("t1")
        assert isinstance(parse_carrier_frame(await left.recv()), Join)
        assert await rig.causes() == {"t1": ""}


@pytest.mark.parametrize(
    ("attach", "code"),
    [
        (KEY.join(Party.CLIENT, "t1", 1, 0), "carrier_used"),
        (KEY.join(Party.AGENT, "t1", 2, 0), "bad_proof"),
        (KEY.join(Party.CLIENT, "t9", 2, 0), "tunnel_unknown"),
    ],
    ids=["used", "no proof", "unknown"],
)
async def test_who_may_not_join_is_told_so_and_disturbs_nobody(
    tmp_path: Path, attach: Join, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tether.agent.tunnels.manager.OFFER_WAIT_S", 0.05)
    async with manager_rig(tmp_path) as rig:
        await rig.served("t1")
        left = await rig.come(attach)
        assert parse_carrier_frame(await left.recv()) == JoinRefused(code=code)
        assert await rig.causes() == {"t1": ""}


async def test_a_client_that_the_server_has_lost_too_is_not_waited_for(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        for name in ("t1", "t2", "t3"):
            await rig.served(name)
        ended = asyncio.Event()
        tunnels = {name: rig.tunnels._tunnels[name] for name in ("t1", "t3")}
        for name, how in (("t1", StreamEnd.EOF), ("t3", StreamEnd.SILENT)):
            tunnels[name].stream.listen(lambda event: ended.set())
            word = PeerGone(how=str(how))
            rig.first[name].right.sends.put(encode_word(word))
            await ended.wait()
            ended.clear()
        rig.tunnels.client_lost(["t1", "t2", "t3", "t9"])
        task = tunnels["t1"].task
        assert task is not None
        await asyncio.wait({task}, timeout=DEADLINE_S)
        # the second one's carrier lives, and the third one's client may only sleep
        assert await rig.causes() == {"t1": "client.vanished", "t2": "", "t3": ""}


@pytest.mark.parametrize(("region", "told"), [("eu", (2, 1)), ("embedded", (0, 0))])
async def test_clients_are_asked_whether_they_hear_us_on_ways_without_the_server(
    tmp_path: Path, region: str, told: tuple[int, int]
) -> None:
    async with manager_rig(tmp_path, region=region) as rig:
        await rig.served("t1")
        await rig.served("t2")
        rig.first["t2"].go_silent()
        heard = asyncio.Event()
        rig.tunnels._tunnels["t1"].stream.listen(
            lambda event: heard.set() if isinstance(event, Answered) else None
        )
        tally = rig.tunnels.ask_clients()
        assert tally() == (told[0], 0)
        if told[0]:
            await heard.wait()
        assert tally() == told


async def test_a_client_that_comes_back_too_late_learns_why(tmp_path: Path) -> None:
    async with manager_rig(tmp_path) as rig:
        await rig.served("t1")
        rig.tunnels.end(["t1"], ORDER)
        await rig.tunnels.close(5.0)
        left = await rig.come(KEY.join(Party.CLIENT, "t1", 5, 0))
        told = parse_carrier_frame(await left.recv())
        assert isinstance(told, JoinRefused)
        assert (told.code, told.cause, told.actor) == (
            "tunnel_over",
            "workspace.stopped",
            "user:alice",
        )
        assert KEY.proves_refusal(told, "t1", 5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"purpose": "teleport"}, "this agent does not know what 'teleport' is: update it"),
        ({"tunnel_key": ""}, "the tunnel was offered without its key: update the server"),
    ],
)
async def test_what_cannot_be_served_is_declined_with_a_sentence(
    tmp_path: Path, changes: dict[str, str], sentence: str
) -> None:
    async with manager_rig(tmp_path) as rig:
        rig.tunnels.offered(msgspec.structs.replace(offer("t1"), **changes), rig.declined.append)
        assert rig.declined == [OfferDeclined(connection_id="t1", message=sentence)]


async def test_nobody_who_comes_is_an_offer_declined_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tether.agent.tunnels.manager.JOIN_S", 0.05)
    async with manager_rig(tmp_path) as rig:
        rig.joined.clear()
        rig.offered("t1")
        while rig.tunnels.ids:
            await asyncio.sleep(0.01)
        assert rig.declined == [
            OfferDeclined(connection_id="t1", message="nobody came to the tunnel in time")
        ]
        assert await rig.causes() == {}
