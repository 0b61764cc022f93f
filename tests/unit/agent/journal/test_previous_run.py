"""The post-mortem: a table from what the last run left behind to what is reported of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tether.agent.journal.previous_run import JournaledRun, RunMarker, post_mortem
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.protocol.messages.base import FactRecord, facts_of, records_of
from tether.protocol.messages.reports import Ended

NOW, ALIVE, STOPPED = 1000.0, 900.0, 901.0


def previous(boot_id: str, stopped: float | None, *connections: str) -> JournaledRun:
    return JournaledRun(
        marker=RunMarker(instance_id="run-1", boot_id=boot_id, pid=7, started_at=800.0),
        last_alive_at=ALIVE,
        stopped_cleanly_at=stopped,
        open_connections=connections,
    )


def death(rebooted: bool) -> ev.PreviousRunDied:
    return ev.PreviousRunDied(
        vantage=Vantage.AGENT,
        at=NOW,
        party=Party.AGENT,
        host_rebooted=rebooted,
        last_alive_at=ALIVE,
    )


def died(rebooted: bool) -> list[FactRecord]:
    return records_of((death(rebooted),))


def owes(*connections: str, facts: list[FactRecord]) -> list[Ended]:
    return [Ended(connection_id=c, at=NOW, facts=facts) for c in connections]


@pytest.mark.parametrize(
    ("left", "boot_id", "want"),
    [
        (None, "b1", []),
        (previous("b1", STOPPED), "b1", []),
        (previous("b1", None), "b1", []),
        (previous("b1", None, "a", "b"), "b1", owes("a", "b", facts=died(False))),
        (previous("b1", None, "a"), "b2", owes("a", facts=died(True))),
        (previous("", None, "a"), "b2", owes("a", facts=died(False))),
        (previous("b1", None, "a"), "", owes("a", facts=died(False))),
        (previous("b1", STOPPED, "a"), "b2", owes("a", facts=[])),
    ],
    ids=[
        "a first run owes nothing",
        "a clean stop owes nothing",
        "a death with nothing open owes nothing",
        "a death on the same boot",
        "a death by a reboot",
        "no boot id then proves no reboot",
        "no boot id now proves no reboot",
        "a clean stop that could not write everything down guesses nothing",
    ],
)
def test_what_is_owed(left: JournaledRun | None, boot_id: str, want: list[Ended]) -> None:
    assert post_mortem(left, boot_id=boot_id, at=NOW) == want


@pytest.mark.parametrize(
    ("boot_id", "cause"), [("b1", "agent.crashed"), ("b2", "agent.host_rebooted")]
)
@pytest.mark.parametrize("joins", [ConnectType.AGENT_TO_CLIENT, ConnectType.SERVER_TO_AGENT])
def test_the_verdict_on_a_death(joins: ConnectType, boot_id: str, cause: str) -> None:
    (owed,) = post_mortem(previous("b1", None, "a"), boot_id=boot_id, at=NOW)
    assert classify(joins, facts_of(owed.facts)).disconnect.cause == cause


def test_what_the_black_box_says_goes_before_the_bare_fact() -> None:
    found = (replace(death(False), signal=11),)
    assert post_mortem(previous("b1", None, "a"), boot_id="b1", at=NOW, found=found) == owes(
        "a", facts=records_of(found)
    )


def test_a_clean_stop_is_no_death_whatever_the_black_box_says() -> None:
    left = previous("b1", STOPPED, "a")
    assert post_mortem(left, boot_id="b1", at=NOW, found=(death(False),)) == owes("a", facts=[])
