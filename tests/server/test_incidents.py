"""Ends that share an element are one incident with one root; what only looks alike is not."""

from __future__ import annotations

import pytest

from tests.server.test_connlog import ADMIN, AGENT_EOF, EXITED, Record, ended, record  # noqa: F401
from tests.support.clock import EPOCH
from tether.attribution import evidence as ev
from tether.attribution.causes import CATALOGUE
from tether.attribution.vocabulary import Element, Party, StreamEnd, Vantage
from tether.protocol.messages import PROTOCOL, Hello
from tether.server.incidents import element_of, key_of
from tether.server.ports import ConnectionFilter

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


async def members(record: Record, incident_id: str) -> set[str]:  # noqa: F811
    rows = await record.log.list(ConnectionFilter(incident=incident_id), ADMIN)
    return {row["id"] for row in rows}


async def test_an_agent_and_its_tunnels_are_one_incident_with_its_link_as_the_root(
    record: Record,  # noqa: F811
) -> None:
    await record.control("aa")
    for name in ("b1", "b2"):
        await record.tunnel(name)
    for name in ("b1", "b2"):
        await record.log.close_tunnel(name, (AGENT_EOF,))
    await record.log.close_control("aa", (AGENT_GONE,), ())
    row = await record.row("aa")
    assert row["incident_id"]
    assert await members(record, row["incident_id"]) == {"aa", "b1", "b2"}
    causes = {(await record.row(name))["disconnect_cause"] for name in ("aa", "b1", "b2")}
    assert causes == {"agent.vanished"}
    assert record.count("tether_incidents_total", element="agent") == 1.0


async def test_the_root_lists_what_it_explains(record: Record) -> None:  # noqa: F811
    await record.control("aa")
    await record.tunnel("b1")
    await record.log.close_control("aa", (AGENT_GONE,), ())
    await record.log.close_tunnel("b1", (AGENT_EOF,))
    root, symptom = await record.row("aa"), await record.row("b1")
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
    record: Record,  # noqa: F811
) -> None:
    names = [f"{n:02x}" for n in range(12)]
    for name in names:
        await record.tunnel(name)
    for name in names:
        await record.report(ended(name, RELAY_GONE))
    found = {(await record.row(name))["incident_id"] for name in names}
    assert len(found) == 1
    assert None not in found


async def test_two_of_many_that_end_alike_are_no_incident(record: Record) -> None:  # noqa: F811
    for n in range(6):
        await record.tunnel(f"c{n}")
    for name in ("c0", "c1"):
        await record.report(ended(name, RELAY_GONE))
    assert (await record.row("c0"))["incident_id"] is None


async def test_ends_that_lie_apart_are_no_incident(record: Record) -> None:  # noqa: F811
    for n in range(3):
        await record.tunnel(f"c{n}")
    for n in range(3):
        await record.report(ended(f"c{n}", RELAY_GONE, at=record.parts.clock.now().wall))
        record.move(61)
    assert {(await record.row(f"c{n}"))["incident_id"] for n in range(3)} == {None}


async def test_users_who_log_out_together_are_no_incident(record: Record) -> None:  # noqa: F811
    for n in range(5):
        await record.tunnel(f"c{n}")
        await record.report(ended(f"c{n}", *EXITED))
    assert {(await record.row(f"c{n}"))["incident_id"] for n in range(5)} == {None}


async def test_a_row_that_is_judged_anew_leaves_what_it_has_no_part_in(
    record: Record,  # noqa: F811
) -> None:
    for n in range(3):
        await record.tunnel(f"c{n}")
    for n in range(3):
        await record.log.close_tunnel(f"c{n}", (AGENT_EOF,))
    assert (await record.row("c0"))["incident_id"]
    await record.report(ended("c0", *EXITED))
    row = await record.row("c0")
    assert (row["disconnect_cause"], row["incident_id"], row["root_event_id"]) == (
        "session.exit",
        None,
        None,
    )


async def test_a_machine_is_lost_once_all_its_agents_are(record: Record) -> None:  # noqa: F811
    await record.control("aa", node_id="boot-1")
    await record.control("bb", node_id="boot-1", workspace_id=record.other, workspace="other")
    await record.log.close_control("aa", (AGENT_SILENT,), ())
    assert (await record.row("aa"))["disconnect_cause"] == "agent.unreachable"
    record.move(5)
    await record.log.close_control("bb", (AGENT_SILENT,), ())
    rows = [await record.row(name) for name in ("aa", "bb")]
    assert [row["disconnect_cause"] for row in rows] == ["agent.node_lost"] * 2
    assert rows[0]["incident_id"] == rows[1]["incident_id"] is not None
    assert rows[0]["revision"] == 2
    assert rows[1]["proximate_cause"] == "agent.unreachable"


async def test_one_agent_of_a_machine_is_not_the_machine(record: Record) -> None:  # noqa: F811
    await record.control("aa", node_id="boot-1")
    await record.control("bb", node_id="boot-1", workspace_id=record.other, workspace="other")
    await record.log.close_control("aa", (AGENT_SILENT,), ())
    assert (await record.row("aa"))["disconnect_cause"] == "agent.unreachable"
    assert (await record.row("aa"))["incident_id"] is None


async def test_what_was_asked_for_just_before_is_the_cause_of_an_end_without_a_goodbye(
    record: Record,  # noqa: F811
) -> None:
    await record.control("aa")
    await record.parts.workspaces.stop("dev", "evicted", ADMIN)
    record.move(4)
    await record.log.close_control("aa", (AGENT_GONE,), ())
    row = await record.row("aa")
    assert (row["disconnect_cause"], row["disconnect_expected"], row["proximate_cause"]) == (
        "workspace.evicted",
        True,
        "agent.vanished",
    )


async def test_what_was_asked_for_long_before_is_not(record: Record) -> None:  # noqa: F811
    await record.control("aa")
    await record.parts.workspaces.stop("dev", "user", ADMIN)
    record.move(31)
    await record.log.close_control("aa", (AGENT_GONE,), ())
    assert (await record.row("aa"))["disconnect_cause"] == "agent.vanished"


async def test_an_agent_whose_run_comes_back_had_not_died(record: Record) -> None:  # noqa: F811
    await record.control("aa", agent_instance="i-1", node_id="boot-1", client_ip="10.0.0.2")
    await record.log.close_control("aa", (AGENT_GONE,), ())
    assert (await record.row("aa"))["disconnect_cause"] == "agent.vanished"
    await record.control("bb", agent_instance="i-1", node_id="boot-1", client_ip="10.0.0.2")
    await record.log.agent_returned("bb", hello("i-1"))
    row = await record.row("aa")
    assert (row["disconnect_cause"], row["confidence"], row["proximate_cause"]) == (
        "network.middlebox_reset",
        "low",
        "agent.vanished",
    )


async def test_an_agent_that_comes_from_another_address_has_moved(
    record: Record,  # noqa: F811
) -> None:
    await record.control("aa", agent_instance="i-1", client_ip="10.0.0.2")
    await record.log.close_control("aa", (AGENT_SILENT,), ())
    await record.control("bb", agent_instance="i-1", client_ip="10.9.0.2")
    await record.log.agent_returned("bb", hello("i-1"))
    assert (await record.row("aa"))["disconnect_cause"] == "agent.address_changed"


async def test_another_run_that_comes_proves_nothing_of_the_last(
    record: Record,  # noqa: F811
) -> None:
    await record.control("aa", agent_instance="i-1", client_ip="10.0.0.2")
    await record.log.close_control("aa", (AGENT_GONE,), ())
    await record.control("bb", agent_instance="i-2", client_ip="10.0.0.2")
    await record.log.agent_returned("bb", hello("i-2"))
    assert (await record.row("aa"))["disconnect_cause"] == "agent.vanished"


def hello(instance_id: str) -> Hello:
    return Hello(
        protocol=PROTOCOL, role="agent", version="0", instance_id=instance_id, boot_id="boot-1"
    )


def test_every_cause_is_about_something_or_is_an_end_of_its_own() -> None:
    row = {
        "user": "alice",
        "client_ip": "10.0.0.9",
        "workspace_id": "w1",
        "node_id": None,
        "relay_region": None,
        "connect_type": "agent_to_client",
    }
    keys = {key_of(row, code) for code in CATALOGUE}
    assert keys == {
        None,
        "client:alice@10.0.0.9",
        "agent:w1",
        "node:w1",
        "relay:embedded",
        "server:server",
    }
    assert element_of("session.exit") is None
    assert element_of("client.suspended") is Element.CLIENT
    link = {**row, "connect_type": "server_to_agent", "user": None}
    assert key_of(link, "network.path_lost") == "agent:w1"
    assert key_of({**row, "user": None}, "client.suspended") is None
