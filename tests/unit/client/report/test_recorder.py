"""What a client saw reaches the server: from itself, or from the next client; once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.support.clock import EPOCH, LoopClock
from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.client.report.journal import estates
from tether.client.report.link_status import LinkEnds
from tether.client.report.recorder import JOURNAL_AFTER_S, WATCH_AFTER_S, ClientRecorder
from tether.config import ClientFiles
from tether.net.host.cgroup import CgroupReading
from tether.net.host.vital_signs import VitalSample
from tether.protocol.messages.base import facts_of, records_of
from tether.protocol.messages.reports import Ended

pytestmark = pytest.mark.virtual_time

URL = "http://tether.example"
SLEPT = ev.Suspended(vantage=Vantage.CLIENT, at=EPOCH + 5, party=Party.CLIENT, gap_s=90.0)
LOST = ev.StreamEnded(
    vantage=Vantage.CLIENT, at=EPOCH + 100, peer=Party.RELAY, how=StreamEnd.TIMED_OUT
)
GIVEN_UP = ev.StreamEnded(
    vantage=Vantage.CLIENT, at=EPOCH + 1, peer=Party.SERVER, how=StreamEnd.SILENT, silence_s=45.0
)
END = Ended(connection_id="c", at=EPOCH + 100, facts=records_of((LOST,)))


@dataclass
class Told:
    """A machine of which just this is known."""

    facts: tuple[Evidence, ...]

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[Evidence]:
        return self.facts


@dataclass
class Server:
    """Takes what is handed in, while it can be reached."""

    reached: bool = True
    back_after_s: float | None = None
    """It can be reached again after so long."""
    told: list[tuple[str, list[Ended]]] = field(default_factory=list)

    async def hand_in(self, journal_id: str, items: list[Ended], *, wait_s: float = 5.0) -> bool:
        if not self.reached and self.back_after_s is not None and self.back_after_s <= wait_s:
            await asyncio.sleep(self.back_after_s)
            self.reached = True
        if self.reached:
            self.told.append((journal_id, items))
        return self.reached


def client(
    directory: Path, server: Server, instance: str = "one", links: LinkEnds | None = None
) -> ClientRecorder:
    return ClientRecorder(
        ClientFiles(directory),
        URL,
        instance_id=instance,
        clock=LoopClock(),
        server=server,
        keep_links=(links or LinkEnds(LoopClock())).keep,
    )


def lost_link() -> CloseCell:
    cell = CloseCell()
    cell.offer(GIVEN_UP)
    return cell


def left_link(by: Party = Party.SERVER) -> CloseCell:
    cell = CloseCell()
    cause = "server.shutdown" if by is Party.SERVER else "client.closed"
    cell.offer(ev.GoodbyeSaid(vantage=Vantage(str(by)), at=EPOCH + 1, by=by, cause=cause))
    return cell


async def gone(witness: ClientRecorder, directory: Path, at: float = EPOCH + 7) -> None:
    """Its process is gone: its journal is let go, and was last touched then, by the tests' clock."""
    await witness.close()
    for path in (directory / "journal").iterdir():
        os.utime(path, (at, at))


def left(directory: Path) -> list[str]:
    try:
        return sorted(path.stem for path in (directory / "journal").iterdir())
    except OSError:
        return []


async def test_a_connection_that_is_over_in_a_moment_writes_nothing(tmp_path: Path) -> None:
    server = Server()
    witness = client(tmp_path, server)
    witness.start("c")
    await asyncio.sleep(JOURNAL_AFTER_S / 2)
    assert await witness.report(END)
    await witness.close()
    assert server.told == [("one", [END])]
    assert not (tmp_path / "journal").exists()


async def test_a_journal_is_there_while_the_connection_is_and_gone_once_its_end_is_known(
    tmp_path: Path,
) -> None:
    witness = client(tmp_path, Server())
    witness.start("c")
    await asyncio.sleep(JOURNAL_AFTER_S * 2)
    assert left(tmp_path) == ["one"]
    assert await witness.report(END)
    await witness.close()
    assert left(tmp_path) == []


async def test_an_end_that_the_server_could_not_be_told_of_is_handed_in_by_the_next_client(
    tmp_path: Path,
) -> None:
    first = client(tmp_path, Server(reached=False))
    first.start("c")
    assert not await first.report(END)
    await gone(first, tmp_path)
    server = Server()
    second = client(tmp_path, server, "two")
    second.start("c2")
    await asyncio.sleep(WATCH_AFTER_S * 3)
    assert server.told == [("one", [END])], "under the name of the one that saw it"
    assert left(tmp_path) == ["two"]
    await second.close()


async def test_of_a_client_that_died_the_next_one_tells_what_it_noted_and_that_it_died(
    tmp_path: Path,
) -> None:
    first = client(tmp_path, Server())
    first.start("c")
    await asyncio.sleep(WATCH_AFTER_S * 2)
    assert first._watch is not None
    first._watch._keep(SLEPT)
    first._note_news()
    first._note_news()
    await gone(first, tmp_path)
    server = Server()
    second = client(tmp_path, server, "two")
    second.start("c2")
    await asyncio.sleep(WATCH_AFTER_S * 3)
    await second.close()
    ((journal_id, (item,)),) = server.told
    assert (journal_id, item.connection_id, item.at) == ("one", "c", EPOCH + 7)
    slept, died = facts_of(item.facts)
    assert slept == SLEPT
    assert isinstance(died, ev.PreviousRunDied)
    assert (died.party, died.host_rebooted, died.oom_named, died.last_alive_at) == (
        Party.CLIENT,
        False,
        False,
        EPOCH + 7,
    )


async def test_of_a_client_that_died_the_next_one_tells_of_each_control_link_what_is_known(
    tmp_path: Path,
) -> None:
    links = LinkEnds(LoopClock())
    first = client(tmp_path, Server(), links=links)
    links.begun("lost")
    links.ended("lost", lost_link())  # before there is a journal
    first.start("c")
    await asyncio.sleep(JOURNAL_AFTER_S * 2)
    links.begun("told")
    links.ended("told", lost_link())
    links.committed("told")
    links.begun("left")
    links.ended("left", left_link())
    links.begun("unheard")
    links.ended("unheard", left_link(Party.CLIENT), unheard=True)
    links.begun("up")
    await gone(first, tmp_path)
    server = Server()
    second = client(tmp_path, server, "two")
    second.start("c2")
    await asyncio.sleep(WATCH_AFTER_S * 3)
    await second.close()
    said = dict(server.told)
    kinds = {
        (journal_id, item.connection_id): [fact.kind for fact in facts_of(item.facts)]
        for journal_id, (item,) in said.items()
    }
    assert kinds == {
        ("one", "c"): ["previous_run_died"],
        ("up", "up"): ["previous_run_died"],
        ("lost", "lost"): ["stream_ended"],
        ("unheard", "unheard"): ["goodbye_said"],
    }
    assert left(tmp_path) == ["two"]


async def test_a_link_that_a_client_left_in_order_is_not_told_to_have_died_with_it(
    tmp_path: Path,
) -> None:
    links = LinkEnds(LoopClock())
    first = client(tmp_path, Server(reached=False), links=links)
    links.begun("up")
    first.start("c")
    assert not await first.report(END)
    await gone(first, tmp_path)
    server = Server()
    second = client(tmp_path, server, "two")
    second.start("c2")
    await asyncio.sleep(WATCH_AFTER_S * 3)
    await second.close()
    assert server.told == [("one", [END])]


async def test_a_sleep_within_the_first_second_is_told_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = tmp_path / "shift"
    monkeypatch.setenv("TETHER_CLOCK_SHIFT_FILE", str(shift))
    server = Server()
    witness = client(tmp_path, server)
    witness.start("c")
    shift.write_text("90 90")
    await asyncio.sleep(WATCH_AFTER_S * 1.5)
    assert await witness.report(END)
    await witness.close()
    ((_, (item,)),) = server.told
    (slept,) = [fact for fact in facts_of(item.facts) if isinstance(fact, ev.Suspended)]
    assert slept.party is Party.CLIENT
    assert slept.gap_s == pytest.approx(90, abs=1)


@pytest.mark.parametrize(("waits_s", "known"), [(0.0, False), (120.0, True)])
async def test_an_end_that_nobody_could_be_told_of_is_tried_again_for_as_long_as_nobody_waits_for_us(
    tmp_path: Path, waits_s: float, known: bool
) -> None:
    server, asked = Server(reached=False, back_after_s=60.0), list[str]()

    def linger() -> float:
        asked.extend(left(tmp_path))  # the disk has it before anybody is let go
        return waits_s

    witness = client(tmp_path, server)
    witness.start("c")
    assert await witness.report(END, linger=linger) is known
    await witness.close()
    assert asked == ["one"]
    assert server.told == ([("one", [END])] if known else [])
    assert left(tmp_path) == ([] if known else ["one"])


async def test_an_end_that_is_committed_at_once_lets_nobody_wait(tmp_path: Path) -> None:
    def linger() -> float:
        raise AssertionError("asked, though there is nothing to wait for")

    witness = client(tmp_path, Server())
    witness.start("c")
    assert await witness.report(END, linger=linger)
    await witness.close()


async def test_a_kill_for_memory_that_a_client_survived_does_not_explain_its_death(
    tmp_path: Path,
) -> None:
    witness = client(tmp_path, Server())
    witness.start("c")
    await asyncio.sleep(JOURNAL_AFTER_S * 2)
    before = witness._oom_kills = 3
    for kills in (before, None, before + 1, None, before + 1):
        witness._sampled(VitalSample(at=EPOCH, group=CgroupReading(oom_kills=kills)))
    await witness.close()
    (estate,) = estates(tmp_path / "journal", URL, 0.0)
    estate.close()
    assert estate.run["oom_kills"] == before + 1
    text = (tmp_path / "journal/one.journal").read_text()
    assert text.count("survived_oom_kills") == 1


async def test_what_the_server_does_not_commit_stays_for_the_next_client(tmp_path: Path) -> None:
    for instance in ("one", "two"):
        witness = client(tmp_path, Server(reached=False), instance)
        witness.start("c")
        await asyncio.sleep(WATCH_AFTER_S * 3)
        await gone(witness, tmp_path)
    assert left(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("ago_s", [5.0, 120.0])
async def test_what_happened_to_the_machine_lately_is_told_with_the_end(
    tmp_path: Path, ago_s: float
) -> None:
    server = Server()
    witness = client(tmp_path, server)
    witness.start("c")
    await asyncio.sleep(WATCH_AFTER_S * 2)
    assert witness._watch is not None
    witness._watch._keep(SLEPT)
    await asyncio.sleep(ago_s)
    assert await witness.report(END)
    await witness.close()
    ((_, (item,)),) = server.told
    told = [fact for fact in facts_of(item.facts) if not isinstance(fact, ev.LoopStalled)]
    slept = replace(SLEPT, at=EPOCH + WATCH_AFTER_S * 2)
    assert told == ([slept, LOST] if ago_s < 60 else [LOST])


async def test_what_the_stream_has_told_of_itself_is_not_handed_in_again(tmp_path: Path) -> None:
    moved = ev.AddressChanged(
        vantage=Vantage.CLIENT, at=EPOCH + 3, party=Party.CLIENT, removed="10.0.0.2"
    )
    known = replace(moved, at=EPOCH + 3.001, ours=True)
    server = Server()
    witness = client(tmp_path, server)
    witness.host_context.begin(Told((moved, replace(moved, removed="10.0.0.3"), SLEPT)))
    assert await witness.report(Ended(connection_id="c", at=EPOCH + 9, facts=records_of((known,))))
    ((_, (item,)),) = server.told
    assert facts_of(item.facts) == [replace(moved, removed="10.0.0.3"), SLEPT, known]
