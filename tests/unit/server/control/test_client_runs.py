"""A client that dials anew explains how its last control link ended, whoever noticed that first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.clock import EPOCH, LoopClock
from tests.support.net.cable import Cable
from tests.support.net.links import driver
from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.server.control.client_runs import ANSWER_S, LOST_S, MOST, RETURN_S, ClientRuns

pytestmark = pytest.mark.virtual_time

HOME, CAFE = "192.0.2.1", "198.51.100.7"


class Record:
    """Client runs, the links that they are told of, and what is judged again."""

    def __init__(self) -> None:
        self.judged: list[tuple[str, ev.PeerReturned]] = []
        self.lost: list[dict[str, str]] = []
        self.runs = ClientRuns(LoopClock(), self._judge_again, self.lost.append)
        self.tasks = Tasks("test")

    async def _judge_again(self, connection_id: str, returned: ev.PeerReturned) -> None:
        self.judged.append((connection_id, returned))

    def link(self) -> tuple[Cable, LinkDriver, asyncio.Task[CloseCell]]:
        """A link to a client that lives and answers; the server's end of it, running."""
        cable = Cable()
        theirs = driver(
            cable.left, me=Party.CLIENT, peer=Party.SERVER, deliver=lambda message: None
        )
        ours = driver(cable.right, me=Party.SERVER, peer=Party.CLIENT, deliver=lambda message: None)
        self.tasks.spawn(theirs.run(), "client")
        return cable, ours, self.tasks.spawn(ours.run(), "server")

    async def here(
        self, connection_id: str, link: LinkDriver, *, user: str = "alice", ip: str = HOME
    ) -> None:
        await self.runs.here(user, "run", connection_id, ip, link)


def returned(at: float, after_s: float, *, same_address: bool = True) -> ev.PeerReturned:
    return ev.PeerReturned(
        vantage=Vantage.SERVER,
        at=EPOCH + at,
        party=Party.CLIENT,
        after_s=after_s,
        same_run=True,
        same_address=same_address,
    )


@pytest.fixture
async def record() -> AsyncIterator[Record]:
    record = Record()
    yield record
    await record.tasks.cancel()


@pytest.mark.parametrize("ip", [HOME, CAFE])
async def test_a_run_that_comes_back_has_its_closed_link_judged_again(
    ip: str, record: Record
) -> None:
    _, first, _ = record.link()
    await record.here("one", first)
    record.runs.gone("alice", "run", "one", lambda: True)
    await asyncio.sleep(20)
    _, second, _ = record.link()
    await record.here("two", second, ip=ip)
    assert record.judged == [("one", returned(20, 20.0, same_address=ip == HOME))]


async def test_a_first_link_is_no_return(record: Record) -> None:
    _, first, _ = record.link()
    await record.here("one", first)
    await asyncio.sleep(2 * ANSWER_S)
    assert (record.judged, first.cell.ended) == ([], False)


async def test_a_return_after_a_long_time_says_nothing(record: Record) -> None:
    _, first, _ = record.link()
    await record.here("one", first)
    record.runs.gone("alice", "run", "one", lambda: True)
    await asyncio.sleep(RETURN_S + 1)
    await record.here("two", record.link()[1])
    assert record.judged == []


async def test_nobody_comes_back_as_anothers_run(record: Record) -> None:
    _, first, _ = record.link()
    await record.here("one", first)
    await record.here("two", record.link()[1], user="mallory")
    await asyncio.sleep(2 * ANSWER_S)
    assert (record.judged, first.cell.ended) == ([], False)


async def test_what_is_left_of_an_older_link_is_cut_as_silent_if_it_does_not_say_how_it_is(
    record: Record,
) -> None:
    cable, first, running = record.link()
    await record.here("one", first)
    cable.go_silent()
    await asyncio.sleep(5)
    await record.here("two", record.link()[1], ip=CAFE)
    assert not first.cell.ended
    cell = await running
    assert asyncio.get_running_loop().time() == pytest.approx(5 + ANSWER_S)
    lost = ev.StreamEnded(
        vantage=Vantage.SERVER,
        at=EPOCH + 5 + ANSWER_S,
        peer=Party.CLIENT,
        how=StreamEnd.SILENT,
        silence_s=None,
        heard_ago_s=5 + ANSWER_S,
    )
    assert set(cell.facts) == {lost, returned(5, 0.0, same_address=False)}
    assert record.judged == []


async def test_an_older_link_that_says_itself_how_it_ended_is_believed(record: Record) -> None:
    cable, first, running = record.link()
    await record.here("one", first)
    await record.here("two", record.link()[1])
    cable.reset()  # what our question met
    cell = await running
    (end,) = [fact for fact in cell.facts if isinstance(fact, ev.StreamEnded)]
    assert end.how is StreamEnd.RESET
    await asyncio.sleep(2 * ANSWER_S)
    assert cell.symptoms == ()


async def test_the_end_of_an_older_links_row_is_not_that_of_its_successor(record: Record) -> None:
    _, first, _ = record.link()
    await record.here("one", first)
    _, second, _ = record.link()
    await record.here("two", second)
    record.runs.gone("alice", "run", "one", lambda: True)
    await asyncio.sleep(5)
    await record.here("three", record.link()[1])
    assert record.judged == [], "the second link was not closed when the third came"
    await asyncio.sleep(2 * ANSWER_S)
    assert second.cell.ended


async def test_of_runs_that_left_the_last_are_remembered(record: Record) -> None:
    _, link, _ = record.link()
    for number in range(MOST + 1):
        await record.runs.here("alice", f"run-{number}", f"link-{number}", HOME, link)
        record.runs.gone("alice", f"run-{number}", f"link-{number}", lambda: True)
    await record.runs.here("alice", "run-0", "again", HOME, link)
    await record.runs.here("alice", f"run-{MOST}", "again", HOME, link)
    assert [connection_id for connection_id, _ in record.judged] == [f"link-{MOST}"]


@pytest.mark.parametrize("certain", [True, False])
async def test_a_run_is_lost_only_where_its_process_is_known_to_have_ended(
    certain: bool, record: Record
) -> None:
    await record.here("one", record.link()[1])
    record.runs.granted("alice", "run", "t1", "ws")
    record.runs.gone("alice", "run", "one", lambda: certain)
    await asyncio.sleep(LOST_S + 0.1)
    assert record.lost == ([{"t1": "ws"}] if certain else [])
