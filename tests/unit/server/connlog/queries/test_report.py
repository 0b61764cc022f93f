"""Ends counted for whoever may see them, and judged again when the rules have changed."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from sqlalchemy import update

from tests.support.clock import EPOCH
from tests.support.server.log_reader import ADMIN, searching
from tests.support.server.log_rig import (
    AGENT_EOF,
    ALICE,
    BOB,
    CLIENT_EOF,
    EXITED,
    LogRig,
    ended,
    ending,
)
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.reports import PathRecord
from tether.server.api.report import Breakdown
from tether.server.connlog.filter import RowSearch
from tether.server.connlog.queries.report import BREAKDOWNS
from tether.server.connlog.rejudge import ChangedVerdict
from tether.server.db.tables.connections import connections

pytestmark = pytest.mark.anyio

ALL = RowSearch()


async def some_ends(rig: LogRig) -> None:
    for name in ("a1", "a2", "a3"):
        await rig.tunnel(name)
        await rig.report(ended(name, *EXITED))
    await rig.tunnel("b1", user="bob", workspace_id=rig.other, workspace="other")
    await rig.log.close_tunnel("b1", (CLIENT_EOF,))
    await rig.tunnel("b2", user="bob", workspace_id=rig.other, workspace="other")
    await rig.log.close_tunnel("b2", ())
    await rig.tunnel("open")


def counts(told: dict[str, Any], by: str) -> dict[str, tuple[int, int, int]]:
    return {
        one["value"]: (one["ends"], one["unexpected"], one["unknown"]) for one in told["by"][by]
    }


async def test_ends_are_counted_by_what_they_have_in_common(rig: LogRig) -> None:
    await some_ends(rig)
    told = await rig.read.report(ALL, ADMIN)
    whole = {
        key: told[key] for key in ("ends", "expected", "unexpected", "unknown", "unknown_rate")
    }
    assert whole == {
        "ends": 5,
        "expected": 3,
        "unexpected": 2,
        "unknown": 1,
        "unknown_rate": 0.2,
    }
    assert counts(told, "cause") == {
        "session.exit": (3, 0, 0),
        "client.vanished": (1, 1, 0),
        "unknown": (1, 1, 1),
    }
    assert counts(told, "workspace") == {"dev": (3, 0, 0), "other": (2, 2, 1)}
    assert counts(told, "day") == {"2027-01-15": (5, 2, 1)}
    assert told["by"]["cause"][0]["title"] == "The command or shell ended"


async def test_filters_and_views_hold(rig: LogRig) -> None:
    await some_ends(rig)
    assert (await rig.read.report(ALL, ALICE))["ends"] == 3
    assert (await rig.read.report(ALL, BOB))["ends"] == 2
    assert (await rig.read.report(searching(expected=False), ADMIN))["ends"] == 2
    nothing = await rig.read.report(searching(user="carol"), ADMIN)
    assert (nothing["ends"], nothing["unknown_rate"], nothing["by"]["cause"]) == (0, 0.0, [])


async def aged(rig: LogRig) -> None:
    """A row as older rules had judged it."""
    await rig.tunnel("a1")
    await rig.log.close_tunnel("a1", (AGENT_EOF,))
    old = (
        update(connections)
        .where(connections.c.connection_id == "a1")
        .values(disconnect_cause="relay.crashed", rule="an-old-rule")
    )
    await rig.store.write(lambda tx: tx.execute(old))


async def test_rejudging_shows_the_difference_and_writes_nothing(
    rig: LogRig,
) -> None:
    await aged(rig)
    found = await rig.log.rejudge(ALL, ADMIN, write=False)
    assert (found.judged, found.changed) == (1, 1)
    assert found.changes == [
        ChangedVerdict(
            connection_id="a1",
            was="relay.crashed",
            was_rule="an-old-rule",
            now="agent.vanished",
            now_rule="agent-stream-ended",
            was_expected=False,
            now_expected=False,
        )
    ]
    assert (await rig.row("a1"))["disconnect_cause"] == "relay.crashed"


async def test_what_is_written_is_a_revision_and_then_there_is_no_difference(
    rig: LogRig,
) -> None:
    await aged(rig)
    await rig.log.rejudge(ALL, ADMIN, write=True)
    row = await rig.row("a1")
    assert (row["disconnect_cause"], row["revision"], len(row["revisions"])) == (
        "agent.vanished",
        2,
        2,
    )
    assert (await rig.log.rejudge(ALL, ADMIN, write=True)).changed == 0


async def test_what_a_relay_saw_of_a_carrier_that_the_tunnel_outlived_changes_nothing(
    rig: LogRig,
) -> None:
    await rig.tunnel("a1")
    await rig.log.carrier_ended(CarrierId("a1", 1), ending(CLIENT_EOF))
    resumed = PathRecord(connection_id="a1", at=EPOCH, event="resumed", carrier=2, method="derp")
    await rig.report(resumed)
    lost = ev.StreamEnded(vantage=Vantage.AGENT, at=EPOCH, peer=Party.RELAY, how=StreamEnd.EOF)
    await rig.report(ended("a1", lost))
    assert (await rig.row("a1"))["disconnect_cause"] == "relay.crashed"
    assert (await rig.log.rejudge(ALL, ADMIN, write=False)).changes == []


async def test_only_the_breakdowns_that_are_asked_for_are_made(rig: LogRig) -> None:
    await some_ends(rig)
    told = await rig.read.report(ALL, ADMIN, ("day", "cause"))
    assert (told["ends"], sorted(told["by"])) == (5, ["cause", "day"])


def test_the_api_offers_every_breakdown() -> None:
    assert set(get_args(Breakdown)) == set(BREAKDOWNS)
