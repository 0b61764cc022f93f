"""What a client saw reaches the server: from itself, or from the next client; once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.clock import EPOCH, LoopClock
from tests.support.loop import run
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.cli.witness import JOURNAL_AFTER_S, WATCH_AFTER_S, Witness
from tether.config import ClientFiles
from tether.protocol.link import facts_of, records_of
from tether.protocol.messages import Ended

URL = "http://tether.example"
SLEPT = ev.Suspended(vantage=Vantage.CLIENT, at=EPOCH + 5, party=Party.CLIENT, gap_s=90.0)
LOST = ev.StreamEnded(
    vantage=Vantage.CLIENT, at=EPOCH + 100, peer=Party.RELAY, how=StreamEnd.TIMED_OUT
)
END = Ended(connection_id="c", at=EPOCH + 100, facts=records_of((LOST,)))


@dataclass
class Server:
    """Takes what is handed in, while it can be reached."""

    reached: bool = True
    told: list[tuple[str, list[Ended]]] = field(default_factory=list)

    async def hand_in(self, journal_id: str, items: list[Ended]) -> bool:
        if self.reached:
            self.told.append((journal_id, items))
        return self.reached


def client(directory: Path, server: Server, instance: str = "one") -> Witness:
    return Witness(
        ClientFiles(directory), URL, instance_id=instance, clock=LoopClock(), server=server
    )


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await story()

    run(main, grace=0.05)  # threads write meanwhile


async def gone(witness: Witness, directory: Path, at: float = EPOCH + 7) -> None:
    """Its process is gone: its journal is let go, and was last touched then, by the tests' clock."""
    await witness.close()
    for path in (directory / "journal").iterdir():
        os.utime(path, (at, at))


def left(directory: Path) -> list[str]:
    try:
        return sorted(path.stem for path in (directory / "journal").iterdir())
    except OSError:
        return []


def test_a_connection_that_is_over_in_a_moment_writes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        server = Server()
        witness = client(tmp_path, server)
        witness.start("c")
        await asyncio.sleep(JOURNAL_AFTER_S / 2)
        assert await witness.report(END)
        await witness.close()
        assert server.told == [("one", [END])]
        assert not (tmp_path / "journal").exists()

    play(story)


def test_a_journal_is_there_while_the_connection_is_and_gone_once_its_end_is_known(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        witness = client(tmp_path, Server())
        witness.start("c")
        await asyncio.sleep(JOURNAL_AFTER_S * 2)
        assert left(tmp_path) == ["one"]
        assert await witness.report(END)
        await witness.close()
        assert left(tmp_path) == []

    play(story)


def test_an_end_that_the_server_could_not_be_told_of_is_handed_in_by_the_next_client(
    tmp_path: Path,
) -> None:
    async def story() -> None:
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

    play(story)


def test_of_a_client_that_died_the_next_one_tells_what_it_noted_and_that_it_died(
    tmp_path: Path,
) -> None:
    async def story() -> None:
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

    play(story)


def test_what_the_server_does_not_commit_stays_for_the_next_client(tmp_path: Path) -> None:
    async def story() -> None:
        for instance in ("one", "two"):
            witness = client(tmp_path, Server(reached=False), instance)
            witness.start("c")
            await asyncio.sleep(WATCH_AFTER_S * 3)
            await gone(witness, tmp_path)
        assert left(tmp_path) == ["one", "two"]

    play(story)


@pytest.mark.parametrize("ago_s", [5.0, 120.0])
def test_what_happened_to_the_machine_lately_is_told_with_the_end(
    tmp_path: Path, ago_s: float
) -> None:
    async def story() -> None:
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
        assert told == ([SLEPT, LOST] if ago_s < 60 else [LOST])

    play(story)
