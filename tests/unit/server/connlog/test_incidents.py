"""Ends that share an element are one incident with one root; what only looks alike is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.clock import EPOCH
from tests.support.server.log_reader import ADMIN
from tests.support.server.log_rig import AGENT_EOF, EXITED, LogRig, ended
from tests.support.server.rows import connection_row
from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.vocabulary import ConnectType, Party, StreamEnd, Vantage
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import Hello
from tether.protocol.messages.reports import PathRecord, PathWord
from tether.server.connlog.incidents import key_of
from tether.server.db.tables.connections import incidents
from tether.server.workspaces import StopReason

pytestmark = pytest.mark.anyio

AGENT_GONE = ev.StreamEnded(vantage=Vantage.SERVER, at=EPOCH, peer=Party.AGENT, how=StreamEnd.EOF)
AGENT_SILENT = ev.StreamEnded(
    vantage=Vantage.SERVER, at=EPOCH, peer=Party.AGENT, how=StreamEnd.SILENT, silence_s=45.0
)
RELAY_GONE = ev.StreamEnded(vantage=Vantage.AGENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.EOF)
STOPPED = ev.GoodbyeSaid(
    vantage=Vantage.SERVER,
    at=EPOCH,
    by=Party.SERVER,
    cause="workspace.stopped",
    actor="user:alice",
)


async def members(rig: LogRig, incident_id: str) -> set[str]:
    rows = await rig.read.connections(incident=incident_id)
    return {row["id"] for row in rows}


async def test_an_agent_and_its_tunnels_are_one_incident_with_its_link_as_the_root(
    rig: LogRig,
) -> None:
    await rig.control("aa")
    for name in ("b1", "b2"):
        await rig.tunnel(name)
    for name in ("b1", "b2"):
        await rig.log.close_tunnel(name, (AGENT_EOF,))
    await rig.log.close_control("aa", (AGENT_GONE,), ())
    row = await rig.row("aa")
    assert row["incident_id"]
    assert await members(rig, row["incident_id"]) == {"aa", "b1", "b2"}
    causes = {(await rig.row(name))["disconnect_cause"] for name in ("aa", "b1", "b2")}
    assert causes == {"agent.vanished"}
    assert rig.count("tether_incidents_total", element="agent") == 1.0


async def test_the_root_lists_what_it_explains(rig: LogRig) -> None:
    await rig.control("aa")
    await rig.tunnel("b1")
    await rig.log.close_control("aa", (AGENT_GONE,), ())
    await rig.log.close_tunnel("b1", (AGENT_EOF,))
    root, symptom = await rig.row("aa"), await rig.row("b1")
    assert symptom["root_event_id"] == "aa"
    assert symptom["explains"] == []
    assert root["explains"] == [
        {
            "connection_id": "b1",
            "connect_type": "agent_to_client",
            "workspace": "dev",
            "user": "alice",
            "disconnected_at": "2027-01-15T08:00:00.000Z",
            "disconnect_cause": "agent.vanished",
        }
    ]
    assert [one["kind"] for one in root["symptoms"]] == ["connection_ended"]


async def test_a_relay_that_takes_many_tunnels_with_it_is_one_incident(
    rig: LogRig,
) -> None:
    names = [f"{n:02x}" for n in range(12)]
    for name in names:
        await rig.tunnel(name)
    for name in names:
        await rig.report(ended(name, RELAY_GONE))
    found = {(await rig.row(name))["incident_id"] for name in names}
    assert len(found) == 1
    assert None not in found


async def test_two_of_many_that_end_alike_are_no_incident(rig: LogRig) -> None:
    for n in range(6):
        await rig.tunnel(f"c{n}")
    for name in ("c0", "c1"):
        await rig.report(ended(name, RELAY_GONE))
    assert (await rig.row("c0"))["incident_id"] is None


async def test_ends_that_lie_apart_are_no_incident(rig: LogRig) -> None:
    for n in range(3):
        await rig.tunnel(f"c{n}")
    for n in range(3):
        await rig.report(ended(f"c{n}", RELAY_GONE, at=rig.clock.now().wall))
        rig.move(61)
    assert {(await rig.row(f"c{n}"))["incident_id"] for n in range(3)} == {None}


async def test_users_who_log_out_together_are_no_incident(rig: LogRig) -> None:
    for n in range(5):
        await rig.tunnel(f"c{n}")
        await rig.report(ended(f"c{n}", *EXITED))
    assert {(await rig.row(f"c{n}"))["incident_id"] for n in range(5)} == {None}


async def test_a_row_that_is_judged_anew_leaves_what_it_has_no_part_in(
    rig: LogRig,
) -> None:
    for n in range(3):
        await rig.tunnel(f"c{n}")
    for n in range(3):
        await rig.log.close_tunnel(f"c{n}", (AGENT_EOF,))
    assert (await rig.row("c0"))["incident_id"]
    await rig.report(ended("c0", *EXITED))
    row = await rig.row("c0")
    assert (row["disconnect_cause"], row["incident_id"], row["root_event_id"]) == (
        "session.exit",
        None,
        None,
    )


async def test_a_row_that_turns_out_to_be_planned_leaves_those_that_were_not(
    rig: LogRig,
) -> None:
    for n in range(3):
        await rig.tunnel(f"c{n}")
    for n in range(3):
        await rig.log.close_tunnel(f"c{n}", (AGENT_EOF,))
    incident_id = (await rig.row("c0"))["incident_id"]
    said = ev.GoodbyeSaid(
        vantage=Vantage.AGENT, at=EPOCH, by=Party.AGENT, cause="agent.shutdown", actor="signal:15"
    )
    await rig.report(ended("c0", said))
    row = await rig.row("c0")
    assert (row["disconnect_cause"], row["incident_id"]) == ("agent.shutdown", None)
    assert await members(rig, incident_id) == {"c1", "c2"}


async def test_a_machine_is_lost_once_all_its_agents_are(rig: LogRig) -> None:
    await rig.control("aa", node_id="boot-1")
    await rig.control("bb", node_id="boot-1", workspace_id=rig.other, workspace="other")
    await rig.log.close_control("aa", (AGENT_SILENT,), ())
    assert (await rig.row("aa"))["disconnect_cause"] == "agent.unreachable"
    rig.move(5)
    await rig.log.close_control("bb", (AGENT_SILENT,), ())
    rows = [await rig.row(name) for name in ("aa", "bb")]
    assert [row["disconnect_cause"] for row in rows] == ["agent.node_lost"] * 2
    assert rows[0]["incident_id"] == rows[1]["incident_id"] is not None
    assert rows[0]["revision"] == 2
    assert rows[1]["proximate_cause"] == "agent.unreachable"


async def test_one_agent_of_a_machine_is_not_the_machine(rig: LogRig) -> None:
    await rig.control("aa", node_id="boot-1")
    await rig.control("bb", node_id="boot-1", workspace_id=rig.other, workspace="other")
    await rig.log.close_control("aa", (AGENT_SILENT,), ())
    assert (await rig.row("aa"))["disconnect_cause"] == "agent.unreachable"
    assert (await rig.row("aa"))["incident_id"] is None


async def test_what_was_asked_for_just_before_is_the_cause_of_an_end_without_a_goodbye(
    rig: LogRig,
) -> None:
    await rig.control("aa")
    await rig.workspaces.stop("dev", StopReason.EVICTED, ADMIN)
    rig.move(4)
    await rig.log.close_control("aa", (AGENT_GONE,), ())
    row = await rig.row("aa")
    assert (row["disconnect_cause"], row["disconnect_expected"], row["proximate_cause"]) == (
        "workspace.evicted",
        True,
        "agent.vanished",
    )


async def test_what_was_asked_for_long_before_is_not(rig: LogRig) -> None:
    await rig.control("aa")
    await rig.workspaces.stop("dev", StopReason.USER, ADMIN)
    rig.move(31)
    await rig.log.close_control("aa", (AGENT_GONE,), ())
    assert (await rig.row("aa"))["disconnect_cause"] == "agent.vanished"


async def test_an_agent_whose_run_comes_back_had_not_died(rig: LogRig) -> None:
    await rig.control("aa", agent_instance="i-1", node_id="boot-1", client_ip="10.0.0.2")
    await rig.log.close_control("aa", (AGENT_GONE,), ())
    assert (await rig.row("aa"))["disconnect_cause"] == "agent.vanished"
    await rig.control("bb", agent_instance="i-1", node_id="boot-1", client_ip="10.0.0.2")
    await rig.log.agent_returned("bb", hello("i-1"))
    row = await rig.row("aa")
    assert (row["disconnect_cause"], row["confidence"], row["proximate_cause"]) == (
        "network.middlebox_reset",
        "low",
        "agent.vanished",
    )


async def test_an_agent_that_comes_from_another_address_has_moved(
    rig: LogRig,
) -> None:
    await rig.control("aa", agent_instance="i-1", client_ip="10.0.0.2")
    await rig.log.close_control("aa", (AGENT_SILENT,), ())
    await rig.control("bb", agent_instance="i-1", client_ip="10.9.0.2")
    await rig.log.agent_returned("bb", hello("i-1"))
    assert (await rig.row("aa"))["disconnect_cause"] == "agent.address_changed"


async def test_another_run_that_comes_proves_nothing_of_the_last(
    rig: LogRig,
) -> None:
    await rig.control("aa", agent_instance="i-1", client_ip="10.0.0.2")
    await rig.log.close_control("aa", (AGENT_GONE,), ())
    await rig.control("bb", agent_instance="i-2", client_ip="10.0.0.2")
    await rig.log.agent_returned("bb", hello("i-2"))
    assert (await rig.row("aa"))["disconnect_cause"] == "agent.vanished"


def hello(instance_id: str) -> Hello:
    return Hello(
        protocol=PROTOCOL, role="agent", version="0", instance_id=instance_id, boot_id="boot-1"
    )


def test_every_cause_is_about_something_or_is_an_end_of_its_own() -> None:
    row = connection_row(user="alice", client_ip="10.0.0.9", workspace_id="w1")
    keys = {key_of(row, code) for code in CATALOGUE}
    assert keys == {
        None,
        "client:alice@10.0.0.9",
        "agent:w1",
        "node:w1",
        "relay:embedded",
        "server:server",
    }
    assert key_of(row, "session.exit") is None
    link = connection_row(connect_type="server_to_agent", workspace_id="w1")
    assert key_of(link, "network.path_lost") == "agent:w1"
    assert key_of(connection_row(client_ip="10.0.0.9"), "client.suspended") is None


# -- relays ---------------------------------------------------------------------------------


async def on_carrier(
    rig: LogRig,
    name: str,
    event: PathWord,
    carrier: int,
    region: str,
    *,
    method: str = "derp",
) -> None:
    at = rig.clock.now().wall
    await rig.report(
        PathRecord(
            connection_id=name,
            at=at,
            event=str(event),
            carrier=carrier,
            method=method,
            where=region,
        )
    )


async def lost_the_relay(rig: LogRig, name: str, region: str) -> None:
    await on_carrier(rig, name, PathWord.DETACHED, 1, region)


def relay_gone(rig: LogRig) -> ev.StreamEnded:
    return ev.StreamEnded(
        vantage=Vantage.AGENT,
        at=rig.clock.now().wall,
        peer=Party.RELAY,
        how=StreamEnd.EOF,
    )


async def incident(rig: LogRig, incident_id: str) -> dict[str, str]:
    query = select(incidents).where(incidents.c.incident_id == incident_id)
    found = await rig.store.read(lambda tx: _first(tx, query))
    return {name: found[name] for name in ("element", "cause", "root_event_id")}


async def _first(tx: AsyncConnection, query: Any) -> Any:
    return (await tx.execute(query)).mappings().one()


async def end(rig: LogRig, name: str) -> None:
    await rig.report(ended(name, relay_gone(rig), at=rig.clock.now().wall))


async def test_only_those_without_another_way_die_with_a_relay_and_they_are_one_incident(
    rig: LogRig,
) -> None:
    for name in ("c0", "c1", "c2", "d0"):
        await rig.tunnel(name, relay_region="a")
    await rig.tunnel("e0", relay_region="b")
    rig.move(60)
    for name in ("c0", "c1", "c2", "d0"):
        await lost_the_relay(rig, name, "a")
    rig.move(1)
    await on_carrier(rig, "d0", PathWord.RESUMED, 2, "b")
    rig.move(20)
    for name in ("c0", "c1"):
        await end(rig, name)
    rows = {name: await rig.row(name) for name in ("c0", "c1", "c2", "d0", "e0")}
    assert {name: row["disconnect_cause"] for name, row in rows.items()} == {
        "c0": "relay.crashed",
        "c1": "relay.crashed",
        "c2": None,
        "d0": None,
        "e0": None,
    }
    the_one = rows["c1"]["incident_id"]
    assert await members(rig, the_one) == {"c0", "c1"}
    assert await incident(rig, the_one) == {
        "element": "relay:a",
        "cause": "relay.crashed",
        "root_event_id": "c0",
    }
    assert [one["values"] for one in rows["c1"]["evidence"] if one["kind"] == "ended_together"] == [
        {"element": "relay", "ended": 2, "alive": 0}
    ]
    await end(rig, "c2")
    assert await members(rig, the_one) == {"c0", "c1", "c2"}


async def test_a_tunnel_that_went_over_to_another_relay_ends_with_that_one(
    rig: LogRig,
) -> None:
    for name in ("c0", "c1"):
        await rig.tunnel(name, relay_region="a")
    await on_carrier(rig, "c0", PathWord.USED, 2, "b")
    for name in ("c0", "c1"):
        await end(rig, name)
    rows = [await rig.row(name) for name in ("c0", "c1")]
    assert [row["incident_id"] for row in rows] == [None, None]
    by_relay = (await rig.read.report())["by"]["relay"]
    assert {one["value"]: one["ends"] for one in by_relay} == {"a": 1, "b": 1}


async def test_a_direct_tunnel_stands_on_no_relay(rig: LogRig) -> None:
    await rig.tunnel("c0", relay_region="a")
    await on_carrier(rig, "c0", PathWord.USED, 2, "10.0.0.1:7", method="direct")
    await rig.report(ended("c0", *EXITED))
    by_relay = (await rig.read.report())["by"]["relay"]
    assert [one["value"] for one in by_relay] == [""]


async def test_a_place_that_is_no_regions_name_changes_nothing(rig: LogRig) -> None:
    await rig.tunnel("c0", relay_region="a")
    await on_carrier(rig, "c0", PathWord.USED, 2, "DROP TABLE")
    await rig.report(ended("c0", *EXITED))
    by_relay = (await rig.read.report())["by"]["relay"]
    assert [one["value"] for one in by_relay] == ["a"]


async def test_a_relay_that_goes_on_with_others_has_not_crashed(rig: LogRig) -> None:
    for name in ("c0", "c1", "c2"):
        await rig.tunnel(name, relay_region="a")
    rig.move(60)
    await lost_the_relay(rig, "c0", "a")
    rig.move(15)
    await end(rig, "c0")
    row = await rig.row("c0")
    assert (row["disconnect_cause"], row["rule"]) == ("network.middlebox_reset", "relay-lives")
    assert "1 of the relay ended, 2 live" in row["disconnect_detail"]


async def test_who_is_on_a_relay_proves_nothing_before_everybody_could_miss_it(
    rig: LogRig,
) -> None:
    for name in ("c0", "c1", "c2"):
        await rig.tunnel(name, relay_region="a")
    rig.move(60)
    await end(rig, "c0")  # at once: the others may yet say so, too
    assert (await rig.row("c0"))["disconnect_cause"] == "relay.crashed"


async def test_what_a_relay_carries_after_its_restart_proves_nothing(
    rig: LogRig,
) -> None:
    for name in ("c0", "c1"):
        await rig.tunnel(name, relay_region="a")
    rig.move(60)
    for name in ("c0", "c1"):
        await lost_the_relay(rig, name, "a")
    rig.move(3)
    await on_carrier(rig, "c1", PathWord.RESUMED, 2, "a")
    await rig.tunnel("c2", relay_region="a")
    rig.move(20)
    await end(rig, "c0")
    assert (await rig.row("c0"))["disconnect_cause"] == "relay.crashed"


# -- machines -------------------------------------------------------------------------------


async def test_a_lost_machine_takes_links_and_tunnels_of_all_its_agents_with_it(
    rig: LogRig,
) -> None:
    other = {"workspace_id": rig.other, "workspace": "other"}
    await rig.control("aa", node_id="boot-1")
    await rig.control("bb", node_id="boot-1", **other)
    await rig.control("cc", node_id="boot-2")
    for name, more in (("d1", {}), ("d2", other)):
        await rig.tunnel(name, node_id="boot-1", **more)
    await rig.log.close_control("aa", (AGENT_SILENT,), ())
    never = ev.NeverReturned(vantage=Vantage.SERVER, at=EPOCH, party=Party.AGENT, waited_s=3.0)
    gone_at = rig.clock.now().wall
    rig.move(3)
    await rig.log.close_tunnel("d1", (never,), ended_at=gone_at)
    assert (await rig.row("d1"))["disconnect_cause"] == "agent.vanished"
    rig.move(3)
    await rig.log.close_control("bb", (AGENT_SILENT,), ())
    rig.move(600)  # a tunnel waits for its agent much longer than the window
    await rig.log.close_tunnel("d2", (never,), ended_at=gone_at + 6)
    rows = {name: await rig.row(name) for name in ("aa", "bb", "d1", "d2", "cc")}
    assert {row["disconnect_cause"] for name, row in rows.items() if name != "cc"} == {
        "agent.node_lost"
    }
    assert rows["cc"]["status"] == "ongoing"
    (the_one,) = {row["incident_id"] for name, row in rows.items() if name != "cc"}
    assert await members(rig, the_one) == {"aa", "bb", "d1", "d2"}
    assert await incident(rig, the_one) == {
        "element": "node:boot-1",
        "cause": "agent.node_lost",
        "root_event_id": rows["aa"]["root_event_id"],
    }
    assert rows["aa"]["root_event_id"] in ("aa", "bb")


async def test_the_link_becomes_the_root_of_the_tunnels_that_ended_before_it(
    rig: LogRig,
) -> None:
    await rig.control("aa")
    for name in ("b1", "b2"):
        await rig.tunnel(name)
    for name in ("b1", "b2"):
        await rig.log.close_tunnel(name, (AGENT_EOF,))
    await rig.log.close_control("aa", (AGENT_GONE,), ())
    roots = {(await rig.row(name))["root_event_id"] for name in ("aa", "b1", "b2")}
    assert roots == {"aa"}


async def test_a_planned_stop_has_no_part_in_the_crash_before_it(rig: LogRig) -> None:
    await rig.control("a1")
    await rig.tunnel("b1")
    await rig.log.close_tunnel("b1", (AGENT_EOF,))
    await rig.log.close_control("a1", (AGENT_GONE,), ())
    rig.move(4)
    await rig.control("a2")
    await rig.tunnel("b2")
    await rig.log.announce(["b2"], STOPPED)
    await rig.report(ended("b2", replace(STOPPED, vantage=Vantage.AGENT)))
    await rig.log.close_control("a2", (STOPPED,), ())
    rows = {name: await rig.row(name) for name in ("a1", "b1", "a2", "b2")}
    assert {name: row["root_event_id"] for name, row in rows.items()} == {
        "a1": "a1",
        "b1": "a1",
        "a2": "a2",
        "b2": "a2",
    }


async def test_an_incident_that_one_row_is_left_of_is_none(rig: LogRig) -> None:
    for name in ("c0", "c1"):
        await rig.tunnel(name)
    for name in ("c0", "c1"):
        await rig.log.close_tunnel(name, (AGENT_EOF,))
    assert (await rig.row("c1"))["incident_id"]
    await rig.report(ended("c0", *EXITED))
    assert (await rig.row("c1"))["incident_id"] is None


def end_of_link(vantage: Vantage, peer: Party, *, acked_ms: int) -> tuple[ev.Evidence, ...]:
    """A control link that fell silent, seen from one end: when that last heard the other's kernel."""
    return (
        ev.TcpCounters(
            vantage=vantage,
            at=EPOCH,
            peer=peer,
            retransmits=4,
            probes=0,
            unacked=1,
            total_retrans=5,
            last_data_recv_ms=6000,
            last_ack_recv_ms=acked_ms,
            pmtu=1500,
            rtt_us=300,
        ),
        ev.StreamEnded(vantage=vantage, at=EPOCH, peer=peer, how=StreamEnd.SILENT, silence_s=6.0),
    )


async def test_a_tunnel_that_was_lost_with_its_control_link_shares_what_that_ones_ends_tell(
    rig: LogRig,
) -> None:
    client = {"connect_type": ConnectType.CLIENT_TO_SERVER, "user": "alice", "workspace_id": None}
    await rig.control("c1", client_ip="127.0.0.1", **client)
    await rig.control("c2", client_ip="127.0.0.2", **client)
    await rig.tunnel("b1")
    await rig.tunnel("b2")
    deaf = end_of_link(Vantage.CLIENT, Party.SERVER, acked_ms=6000)
    heard = end_of_link(Vantage.SERVER, Party.CLIENT, acked_ms=2600)
    left = ev.StreamEnded(vantage=Vantage.AGENT, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.CLOSED)
    gave_up = ev.StreamEnded(
        vantage=Vantage.CLIENT, at=EPOCH, peer=Party.AGENT, how=StreamEnd.SILENT, silence_s=6.0
    )
    await rig.log.close_control("c1", heard, ())
    rig.move(19.0)
    await rig.log.close_tunnel("b1", (left,))
    await rig.report(ended("c1", *deaf), by=rig.client(), journal_id="client-1")
    await rig.report(ended("b1", gave_up), by=rig.client(), journal_id="client-1")
    causes = [(await rig.row(name))["disconnect_cause"] for name in ("c1", "b1")]
    assert causes == ["network.client_download_lost", "network.client_download_lost"]
    await rig.report(ended("b1", gave_up, AGENT_EOF), by=rig.client(), journal_id="client-2")
    kinds = [fact["kind"] for fact in (await rig.row("b1"))["evidence"]]
    assert kinds.count("neighbour_ended") == 1, "what is on file is not found again"
    rig.move(90.0)
    await rig.log.close_tunnel("b2", (left,))
    await rig.report(ended("b2", gave_up), by=rig.client(), journal_id="client-1")
    assert (await rig.row("b2"))["disconnect_cause"] == "network.path_lost"


async def test_a_tunnel_shares_what_the_ends_of_its_agents_control_link_tell(
    rig: LogRig,
) -> None:
    await rig.control("a1")
    await rig.tunnel("b1")
    gave_up = ev.StreamEnded(
        vantage=Vantage.CLIENT, at=EPOCH, peer=Party.AGENT, how=StreamEnd.SILENT, silence_s=9.0
    )
    left = ev.StreamEnded(vantage=Vantage.AGENT, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.CLOSED)
    await rig.log.close_control("a1", end_of_link(Vantage.SERVER, Party.AGENT, acked_ms=6000), ())
    await rig.report(ended("b1", gave_up), by=rig.client(), journal_id="client-1")
    await rig.report(ended("a1", *end_of_link(Vantage.AGENT, Party.SERVER, acked_ms=2600)))
    rig.move(20.0)
    await rig.report(ended("b1", left))
    causes = [(await rig.row(name))["disconnect_cause"] for name in ("a1", "b1")]
    assert causes == ["network.agent_upload_lost", "network.agent_upload_lost"]
