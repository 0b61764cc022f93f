"""Every task has a name and an owner, and a task that fails says so at once."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tether.net.tasks import Tasks

pytestmark = pytest.mark.virtual_time


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise KeyError("x")


async def test_a_task_is_named_after_its_owner_and_forgotten_when_it_ends() -> None:
    tasks = Tasks("agent")
    task = tasks.spawn(asyncio.sleep(1, "done"), "nap")
    assert (task.get_name(), len(tasks)) == ("agent/nap", 1)
    assert await task == "done"
    await asyncio.sleep(0)
    assert len(tasks) == 0


async def test_cancel_ends_what_still_runs() -> None:
    tasks = Tasks("agent")
    running = [tasks.spawn(forever(), str(i)) for i in range(3)]
    await asyncio.sleep(0)
    await tasks.cancel()
    assert all(task.cancelled() for task in running)
    assert len(tasks) == 0


async def test_a_task_that_cancels_its_owner_does_not_cancel_itself() -> None:
    tasks = Tasks("agent")
    other = tasks.spawn(forever(), "other")

    async def stop() -> str:
        await tasks.cancel()
        return "lived on"

    assert await tasks.spawn(stop(), "stop") == "lived on"
    assert other.cancelled()


async def test_wait_gives_up_after_its_timeout() -> None:
    loop = asyncio.get_running_loop()
    tasks = Tasks("agent")
    await tasks.wait(5)
    assert loop.time() == 0
    tasks.spawn(asyncio.sleep(2), "short")
    await tasks.wait(5)
    assert loop.time() == 2
    tasks.spawn(forever(), "long")
    await tasks.wait(5)
    assert loop.time() == 7
    await tasks.cancel()


async def test_a_failure_is_logged_with_its_name_when_it_happens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks("agent")
    task = tasks.spawn(fail(), "doomed")
    with pytest.raises(KeyError):
        await task
    await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.getMessage() == "task failed: agent/doomed"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


async def test_a_cancelled_task_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks("agent")
    tasks.spawn(forever(), "x")
    await tasks.cancel()
    assert caplog.records == []
