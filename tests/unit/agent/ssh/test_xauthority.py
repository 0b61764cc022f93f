"""Cookies of forwarded displays: what is added, replaced, removed, and what stays."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from tether.agent.ssh import xauthority
from tether.agent.ssh.xauthority import Cookie, Locked, entries
from tether.net.clock import SystemClock

MAGIC = b"MIT-MAGIC-COOKIE-1"
HERE = socket.gethostname().encode()


CLOCK = SystemClock()


def put(path: str, number: int, protocol: bytes, cookie: bytes, later_s: float = 0.0) -> None:
    xauthority.put(path, number, protocol, cookie, now=CLOCK.now().wall + later_s)


def remove(path: str, number: int, cookie: bytes) -> None:
    xauthority.remove(path, number, cookie, now=CLOCK.now().wall)


def ours(number: bytes, cookie: bytes) -> Cookie:
    return Cookie(256, HERE, number, MAGIC, cookie)


FOREIGN = Cookie(0, b"\x0a\x00\x00\x07", b"10", MAGIC, b"of another family")
OTHER_HOST = Cookie(256, b"elsewhere", b"10", MAGIC, b"of another host")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / ".Xauthority")


def write(path: str, *wanted: Cookie) -> None:
    Path(path).write_bytes(b"".join(map(bytes, wanted)))


def test_the_first_cookie_makes_a_file_that_only_its_owner_may_read(path: str) -> None:
    before = os.umask(0)
    try:
        put(path, 10, MAGIC, b"new")
    finally:
        os.umask(before)
    assert entries(path) == [ours(b"10", b"new")]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_another_displays_cookie_is_added(path: str) -> None:
    write(path, FOREIGN, OTHER_HOST, ours(b"11", b"older"))
    put(path, 10, MAGIC, b"new")
    assert entries(path) == [ours(b"10", b"new"), FOREIGN, OTHER_HOST, ours(b"11", b"older")]


def test_the_same_displays_cookie_is_replaced(path: str) -> None:
    write(path, ours(b"10", b"old"), OTHER_HOST)
    put(path, 10, MAGIC, b"new")
    assert entries(path) == [ours(b"10", b"new"), OTHER_HOST]


def test_a_cookie_is_removed_and_the_others_stay(path: str) -> None:
    write(path, FOREIGN, ours(b"10", b"gone"), ours(b"11", b"stays"))
    remove(path, 10, b"gone")
    assert entries(path) == [FOREIGN, ours(b"11", b"stays")]


def test_a_newer_cookie_of_the_same_display_is_not_removed(path: str) -> None:
    write(path, ours(b"10", b"newer"))
    remove(path, 10, b"gone")
    assert entries(path) == [ours(b"10", b"newer")]


def test_removing_what_is_not_there_makes_no_file(path: str) -> None:
    remove(path, 10, b"gone")
    assert os.listdir(os.path.dirname(path)) == []


def test_what_is_damaged_at_the_end_is_left_out(path: str) -> None:
    Path(path).write_bytes(bytes(OTHER_HOST) + bytes(FOREIGN)[:-3])
    put(path, 10, MAGIC, b"new")
    assert entries(path) == [ours(b"10", b"new"), OTHER_HOST]


@pytest.mark.parametrize(("protocol", "cookie"), [(b"", b"c"), (MAGIC, b""), (MAGIC, b"x" * 5000)])
def test_what_is_no_cookie_is_refused(path: str, protocol: bytes, cookie: bytes) -> None:
    with pytest.raises(ValueError, match="cookie"):
        put(path, 10, protocol, cookie)
    assert not os.path.exists(path)


@pytest.mark.parametrize("name", ["-c", "-l"])
def test_who_writes_it_is_waited_for_and_a_dead_one_is_not(path: str, name: str) -> None:
    Path(path + name).touch()
    with pytest.raises(Locked):
        put(path, 10, MAGIC, b"new")
    assert sorted(os.listdir(os.path.dirname(path))) == [f".Xauthority{name}"]
    put(path, 10, MAGIC, b"new", later_s=xauthority.DEAD_LOCK_S + 1)
    assert sorted(os.listdir(os.path.dirname(path))) == [".Xauthority"]


def test_two_writers_lose_nothing(path: str) -> None:
    def writer(first: int) -> None:
        for number in range(first, first + 20):
            while True:
                try:
                    put(path, number, MAGIC, b"c")
                    break
                except Locked:
                    continue

    threads = [threading.Thread(target=writer, args=(first,)) for first in (100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {int(entry.number) for entry in entries(path)}
    assert found == {*range(100, 120), *range(200, 220)}


@pytest.mark.skipif(shutil.which("xauth") is None, reason="no xauth")
def test_xauth_reads_what_we_write_and_we_read_what_it_writes(path: str) -> None:
    put(path, 10, MAGIC, bytes(16))
    told = subprocess.run(["xauth", "-f", path, "list"], capture_output=True, text=True, check=True)
    assert told.stdout.split()[1:] == [MAGIC.decode(), "00" * 16]
    subprocess.run(
        ["xauth", "-f", path, "add", f"{HERE.decode()}/unix:11", ".", "ff" * 16], check=True
    )
    assert ours(b"11", b"\xff" * 16) in entries(path)
    remove(path, 11, b"\xff" * 16)
    told = subprocess.run(["xauth", "-f", path, "list"], capture_output=True, text=True, check=True)
    assert len(told.stdout.splitlines()) == 1
