"""Descriptors that never block: order, back-pressure, and what an end and a broken one look like."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tether.net.fd_io import FdReader, FdWriter, NonBlocking, read_to_end


class Pipe:
    """A non-blocking pipe; what a test closes itself is not closed again."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        for descriptor in (self.read_end, self.write_end):
            os.set_blocking(descriptor, False)

    def close(self) -> None:
        for descriptor in (self.read_end, self.write_end):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def fill(self) -> int:
        """Bytes that were written until it was full."""
        written = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                written += os.write(self.write_end, bytes(4096))
        return written

    def drain(self) -> bytes:
        """Everything that is in it now."""
        got = bytearray()
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.read_end, 1 << 20):
                got += chunk
        return bytes(got)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def writer(pipe: Pipe, log: list[str], *, owned: bool = False, most: int = 0) -> FdWriter:
    return FdWriter(
        pipe.write_end,
        owned=owned,
        most=most,
        on_full=lambda: log.append("full"),
        on_room=lambda: log.append("room"),
        on_broken=lambda: log.append("broken"),
    )


async def test_what_is_taken_at_once_keeps_nobody_waiting(pipe: Pipe) -> None:
    log: list[str] = []
    one = writer(pipe, log)
    one.write(b"ab")
    one.write(memoryview(b"c"))
    assert (pipe.drain(), one.emptied(), log) == (b"abc", None, [])
    one.close()


async def test_what_does_not_fit_waits_in_order_and_is_told(pipe: Pipe) -> None:
    log: list[str] = []
    one = writer(pipe, log)
    full = pipe.fill()
    one.write(b"first")
    one.write(b"second")
    waiting = one.emptied()
    assert (waiting is not None, log) == (True, ["full"])
    assert waiting is not None
    assert pipe.drain() == bytes(full)
    await asyncio.wait_for(asyncio.ensure_future(waiting), DEADLINE_S)
    assert (pipe.drain(), log, one.emptied()) == (b"firstsecond", ["full", "room"], None)
    one.close()


async def test_a_writer_with_room_asks_for_no_more_only_beyond_it(pipe: Pipe) -> None:
    log: list[str] = []
    one = writer(pipe, log, most=10)
    pipe.fill()
    for _ in range(10):
        one.write(b"x")
    assert log == []
    one.write(b"x")
    assert log == ["full"]
    one.close()


async def test_an_end_comes_after_all_that_waits(pipe: Pipe) -> None:
    one = writer(pipe, [], owned=True)
    full = pipe.fill()
    one.write(b"last")
    one.end()
    one.write(b"too late")
    assert one.open
    got = bytearray()
    await asyncio.wait_for(read_to_end(pipe.read_end, got.extend), DEADLINE_S)
    assert (bytes(got), one.open) == (bytes(full) + b"last", False)


@pytest.mark.parametrize("owned", [True, False])
async def test_a_reader_that_is_gone_is_told_and_what_waits_is_dropped(
    pipe: Pipe, owned: bool
) -> None:
    log: list[str] = []
    one = writer(pipe, log, owned=owned)
    pipe.fill()
    one.write(b"lost")
    waiting = one.emptied()
    assert waiting is not None
    os.close(pipe.read_end)
    await asyncio.wait_for(asyncio.ensure_future(waiting), DEADLINE_S)
    assert (log, one.open) == (["full", "broken", "room"], not owned)
    one.close()


async def test_closing_lets_go_whoever_waits(pipe: Pipe) -> None:
    one = writer(pipe, [])
    pipe.fill()
    one.write(b"dropped")
    waiting = one.emptied()
    assert waiting is not None
    one.close()
    await asyncio.wait_for(asyncio.ensure_future(waiting), DEADLINE_S)
    assert b"dropped" not in pipe.drain()


async def test_a_reader_that_pauses_takes_nothing_until_it_resumes(pipe: Pipe) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()
    reader = FdReader(pipe.read_end, got.put_nowait, lambda: None)
    os.write(pipe.write_end, b"one")
    assert await asyncio.wait_for(got.get(), DEADLINE_S) == b"one"
    reader.pause()
    os.write(pipe.write_end, b"two")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert got.empty()
    reader.resume()
    assert await asyncio.wait_for(got.get(), DEADLINE_S) == b"two"
    reader.close()


async def test_the_end_comes_once_and_not_after_a_close(pipe: Pipe) -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()
    reader = FdReader(pipe.read_end, lambda data: None, lambda: ends.put_nowait("end"))
    os.close(pipe.write_end)
    assert await asyncio.wait_for(ends.get(), DEADLINE_S) == "end"
    reader.finish()
    reader.close()
    assert (ends.empty(), reader.open) == (True, False)


async def test_finish_takes_what_is_there_although_others_hold_the_other_side(pipe: Pipe) -> None:
    told: list[bytes | str] = []
    reader = FdReader(pipe.read_end, told.append, lambda: told.append("end"))
    os.write(pipe.write_end, b"last words")
    reader.finish()
    assert told == [b"last words", "end"]


async def test_a_plain_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 600_000)
    got = bytearray()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        await read_to_end(descriptor, got.extend)
    finally:
        os.close(descriptor)
    assert len(got) == 600_000


async def test_nothing_more_is_read_while_the_last_bytes_are_taken(pipe: Pipe) -> None:
    taken = asyncio.Event()
    got: list[bytes] = []

    async def slowly(data: bytes) -> None:
        got.append(data)
        await taken.wait()

    reading = asyncio.ensure_future(read_to_end(pipe.read_end, slowly))
    os.write(pipe.write_end, b"one")
    while not got:
        await asyncio.sleep(0)
    os.write(pipe.write_end, b"two")
    for _ in range(5):
        await asyncio.sleep(0)
    assert got == [b"one"]
    os.close(pipe.write_end)
    taken.set()
    await asyncio.wait_for(reading, DEADLINE_S)
    assert got == [b"one", b"two"]


def test_descriptors_are_given_back_as_they_were_found(pipe: Pipe) -> None:
    os.set_blocking(pipe.read_end, True)
    with NonBlocking(pipe.read_end, pipe.write_end):
        assert not os.get_blocking(pipe.read_end)
    assert (os.get_blocking(pipe.read_end), os.get_blocking(pipe.write_end)) == (True, False)
