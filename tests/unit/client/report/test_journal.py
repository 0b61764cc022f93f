"""The client's journal: what one process leaves, another hands in, once, and nobody else meanwhile."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import EPOCH
from tests.support.deadline import DEADLINE_S
from tether.client.report.journal import (
    KEPT_S,
    MAX_BYTES,
    MAX_FILES,
    ClientJournal,
    OrphanedJournal,
    estates,
)

URL = "http://tether.example"
RUN = {"url": URL, "started_at": EPOCH}


def journal(directory: Path, name: str, url: str = URL) -> ClientJournal:
    made = ClientJournal(directory, name)
    made.begin({**RUN, "url": url, "instance_id": name}, f"connection-of-{name}")
    return made


def found(
    directory: Path, now: float = 0.0
) -> list[tuple[str, list[object], dict[str, Any] | None]]:
    """What an heir finds, as (instance, facts, end); it hands nothing in."""
    held = estates(directory, URL, now)
    told = [(str(e.run["instance_id"]), list[object](e.facts), e.end) for e in held]
    for estate in held:
        estate.close()
    return told


def test_a_process_that_is_gone_leaves_what_it_wrote(tmp_path: Path) -> None:
    mine = journal(tmp_path, "a")
    mine.note({"kind": "suspended"})
    mine.close()
    (estate,) = estates(tmp_path, URL, 0.0)
    assert estate.run["connection_id"] == "connection-of-a"
    assert (estate.facts, estate.end) == ([{"kind": "suspended"}], None)
    estate.close()


def test_an_end_that_nobody_could_be_told_of_is_left(tmp_path: Path) -> None:
    mine = journal(tmp_path, "a")
    mine.ended({"connection_id": "connection-of-a"})
    mine.close()
    assert found(tmp_path) == [("a", [], {"connection_id": "connection-of-a"})]


def test_a_process_that_lives_leaves_nothing(tmp_path: Path) -> None:
    mine = journal(tmp_path, "a")
    assert found(tmp_path) == []
    mine.close()


def test_two_heirs_do_not_hold_the_same_estate(tmp_path: Path) -> None:
    journal(tmp_path, "a").close()
    (first,) = estates(tmp_path, URL, 0.0)
    assert estates(tmp_path, URL, 0.0) == []
    first.close()
    assert found(tmp_path) == [("a", [], None)]


def test_what_was_handed_in_is_gone(tmp_path: Path) -> None:
    journal(tmp_path, "a").close()
    (estate,) = estates(tmp_path, URL, 0.0)
    estate.settled()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_whose_end_the_server_knows_is_gone(tmp_path: Path) -> None:
    journal(tmp_path, "a").settled()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("leave", [ClientJournal.settled, ClientJournal.close])
def test_a_journal_that_is_over_is_not_begun_by_a_thread_that_comes_late(
    tmp_path: Path, leave: Callable[[ClientJournal], None]
) -> None:
    mine = ClientJournal(tmp_path, "a")
    leave(mine)
    mine.begin({**RUN, "instance_id": "a"}, "c")
    mine.ended({"connection_id": "c"})
    assert not mine.begun
    assert list(tmp_path.iterdir()) == []


def test_a_server_is_told_of_its_own_connections_only(tmp_path: Path) -> None:
    journal(tmp_path, "a", url="http://other.example").close()
    assert found(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    mine = journal(tmp_path, "a")
    mine.note({"kind": "suspended"})
    mine.close()
    path = tmp_path / "a.journal"
    path.write_bytes(path.read_bytes() + b'{"ended": {"conn')
    assert found(tmp_path) == [("a", [{"kind": "suspended"}], None)]


@pytest.mark.parametrize("body", [b"", b"garbage\n", b'{"format": 2, "url": "x"}\n', b"[1]\n"])
def test_what_cannot_be_read_is_swept(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.journal").write_bytes(body)
    assert found(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_old_is_swept(tmp_path: Path) -> None:
    journal(tmp_path, "a").close()
    changed = (tmp_path / "a.journal").stat().st_mtime
    assert found(tmp_path, changed + KEPT_S - 1) == [("a", [], None)]
    assert found(tmp_path, changed + KEPT_S + 1) == []
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_of_too_many_are_swept(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 3):
        path = tmp_path / f"{number:04}.journal"
        path.write_bytes(b'{"format": 1, "instance_id": "x", "url": "elsewhere", "started_at": 1,'
                         b' "connection_id": "c"}\n')  # fmt: skip
        os.utime(path, (number, number))
    assert found(tmp_path) == []
    assert sorted(p.stem for p in tmp_path.iterdir())[0] == "0003"


def test_a_journal_is_bounded_but_for_its_end(tmp_path: Path) -> None:
    mine = journal(tmp_path, "a")
    for number in range(MAX_BYTES // 100):
        mine.note({"kind": "x" * 100, "number": number})
    mine.ended({"connection_id": "connection-of-a"})
    mine.close()
    assert (tmp_path / "a.journal").stat().st_size <= MAX_BYTES + 1000
    ((_, facts, end),) = found(tmp_path)
    assert facts[0] == {"kind": "x" * 100, "number": 0} and end is not None


def links(directory: Path) -> dict[str, object]:
    (estate,) = estates(directory, URL, 0.0)
    estate.close()
    return dict(estate.links)


def test_an_heir_knows_of_the_control_links_that_are_not_settled(tmp_path: Path) -> None:
    mine = journal(tmp_path, "a")
    for link in ("first", "second", "third"):
        mine.link(link, "up")
    mine.link("first", {"at": 1.0})
    mine.link("first", "settled")
    mine.link("second", {"at": 2.0})
    mine.link("second", {"at": 2.0, "facts": []})
    mine.close()
    assert links(tmp_path) == {"second": {"at": 2.0, "facts": []}, "third": "up"}


def test_where_not_all_is_told_of_links_nothing_is(tmp_path: Path) -> None:
    mine = journal(tmp_path, "a")
    mine.link("first", "up")
    mine.note({"kind": "x" * (MAX_BYTES - 300)})
    mine.link("first", {"at": 1.0, "facts": ["x" * 300]})
    mine.link("second", "up")
    mine.close()
    assert links(tmp_path) == {}


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    journal(tmp_path / "made", "a").close()
    assert stat.S_IMODE((tmp_path / "made/a.journal").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700


def test_without_a_disk_there_is_no_journal_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    mine = journal(tmp_path / "file", "a")
    mine.note({"kind": "suspended"})
    mine.alive()
    mine.ended({})
    mine.settled()
    assert not mine.begun
    assert estates(tmp_path / "file", URL, 0.0) == []


def test_a_link_in_the_directory_is_not_followed(tmp_path: Path) -> None:
    journal(tmp_path / "elsewhere", "a").close()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/a.journal").symlink_to(tmp_path / "elsewhere/a.journal")
    assert found(tmp_path / "here") == []
    assert (tmp_path / "elsewhere/a.journal").exists()


def test_a_process_that_is_killed_lets_go_of_its_journal(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tether.client.report.journal import ClientJournal\n"
        f"mine = ClientJournal(Path({str(tmp_path)!r}), 'a')\n"
        f"mine.begin({{**{RUN!r}, 'instance_id': 'a'}}, 'c')\n"
        "print('begun', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stdin
    try:
        assert child.stdout.readline() == "begun\n"
        assert found(tmp_path) == []
        child.send_signal(signal.SIGKILL)
        child.wait(DEADLINE_S)
        assert found(tmp_path) == [("a", [], None)]
    finally:
        child.kill()
        child.wait(DEADLINE_S)
        child.stdin.close()
        child.stdout.close()


def test_an_estate_that_is_closed_twice_is_closed(tmp_path: Path) -> None:
    journal(tmp_path, "a").close()
    (estate,) = estates(tmp_path, URL, 0.0)
    assert isinstance(estate, OrphanedJournal)
    estate.close()
    estate.close()
