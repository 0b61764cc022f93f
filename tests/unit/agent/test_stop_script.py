"""The stop script: run, told why, bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tether.agent.stop_script import LOG_NAME, StopScript

pytestmark = pytest.mark.anyio


def script(tmp_path: Path, body: str) -> StopScript:
    path = tmp_path / "stop.sh"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return StopScript(
        path, data_dir=tmp_path, env={"PATH": os.environ["PATH"]}, directory=str(tmp_path)
    )


async def test_it_is_told_why_and_by_whom(tmp_path: Path) -> None:
    stop = script(tmp_path, 'echo "$TETHER_STOP_CAUSE by $TETHER_STOP_ACTOR"; pwd')
    with capture_logs() as lines:
        await stop.run(5.0, cause="agent.shutdown", actor="signal:15")
    assert (tmp_path / LOG_NAME).read_text() == f"agent.shutdown by signal:15\n{tmp_path}\n"
    assert [(line["event"], line["exit_code"]) for line in lines] == [("stop script ended", 0)]


async def test_one_that_fails_is_one_warning(tmp_path: Path) -> None:
    with capture_logs() as lines:
        await script(tmp_path, "exit 7").run(5.0, cause="agent.shutdown", actor="")
    assert [(line["event"], line["exit_code"]) for line in lines] == [("stop script failed", 7)]


async def test_one_that_does_not_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    stop = script(tmp_path, "trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done")
    with capture_logs() as lines:
        await stop.run(0.3, cause="workspace.stopped", actor="user:alice")
    assert [(line["event"], line["exit_signal"]) for line in lines] == [
        ("stop script failed", "KILL")
    ]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_one_that_is_missing_stops_nothing(tmp_path: Path) -> None:
    stop = StopScript(tmp_path / "none", data_dir=tmp_path, env={}, directory="/")
    with capture_logs() as lines:
        await stop.run(5.0, cause="agent.shutdown", actor="")
    assert [line["event"] for line in lines] == ["stop script failed"]


async def test_without_one_nothing_is_done(tmp_path: Path) -> None:
    with capture_logs() as lines:
        await StopScript(None, data_dir=tmp_path, env={}, directory="/").run(
            1.0, cause="agent.shutdown", actor=""
        )
    assert lines == []
