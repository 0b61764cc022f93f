"""What keeps a program from starting is one sentence; what does not is read anew."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import structlog

from tests.support.deadline import DEADLINE_S
from tether.attribution.vocabulary import Party
from tether.net.transport.streams import DialFailed
from tether.run.starting import (
    CannotStart,
    TokenFile,
    control_dial,
    control_url,
    locked,
    read_token,
    warn_of_readers,
)


def test_one_program_at_a_time_holds_a_data_directory(tmp_path: Path) -> None:
    data = tmp_path / "a" / "data"
    with locked(data, "agent"):
        with pytest.raises(CannotStart) as refused, locked(data, "agent"):
            pass
        assert str(refused.value) == (
            f"another `tether agent` (pid {os.getpid()}) already uses {data}: "
            "stop it, or choose another --data-dir"
        )
        assert data.stat().st_mode & 0o777 == 0o700
    with locked(data, "agent"):
        pass


def test_a_lock_whose_holder_could_not_write_its_pid_is_a_lock(tmp_path: Path) -> None:
    with locked(tmp_path, "relay"):
        (tmp_path / "lock").write_text("")
        refused = pytest.raises(CannotStart, match=r"^another `tether relay` already uses")
        with refused, locked(tmp_path, "relay"):
            pass


def test_a_data_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(CannotStart, match="cannot be used: Not a directory")
    with refused, locked(tmp_path / "file" / "data", "server"):
        pass


def test_a_token_is_read_without_its_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  tether_relay_x\n")
    assert read_token(tmp_path / "token", "relay", "X", prefix="tether_relay_") == "tether_relay_x"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe", "cannot be read: it is no text"),
        (b"", "holds no relay's token: write into it what `make-token` printed"),
        (b"tether_user_x", "holds no relay's token"),
        (b"tether_relay_\xc3\xa9", "holds no relay's token"),
        (b"tether_relay_a b", "holds no relay's token"),
        (b"tether_relay_a\r\nX-Header: y", "holds no relay's token"),
    ],
    ids=str,
)
def test_what_holds_no_token_is_one_sentence(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CannotStart, match=f"^the token file {path} {sentence}"):
        read_token(path, "relay", "`make-token`", prefix="tether_relay_")


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_token_that_others_can_read_is_told(tmp_path: Path, mode: int, warned: bool) -> None:
    path = tmp_path / "token"
    path.touch()
    path.chmod(mode)
    with structlog.testing.capture_logs() as lines:
        warn_of_readers(path)
    assert [line["event"] for line in lines] == ["token file can be read by others"] * warned


def test_the_control_url_is_the_servers() -> None:
    assert control_url("https://t.example/") == "wss://t.example/api/v1/control"
    with pytest.raises(CannotStart, match=r"^--server must be an http:// or https:// URL"):
        control_url("t.example")


@pytest.mark.anyio
async def test_a_token_file_that_goes_away_while_we_run_is_a_failed_dial(tmp_path: Path) -> None:
    def read() -> str:
        return read_token(tmp_path / "none", "agent", "X")

    dial = control_dial("ws://127.0.0.1:1/", read, Party.AGENT)
    with pytest.raises(DialFailed, match="cannot be read: No such file or directory"):
        await dial()


@pytest.mark.anyio
async def test_another_token_is_there_once_the_file_holds_one(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("tether_agent_old")
    token = TokenFile(lambda: read_token(path, "agent", "X", prefix="tether_agent_"))
    assert token.token() == "tether_agent_old"
    waiting = asyncio.create_task(token.another())
    path.write_text("")  # somebody is writing it
    await asyncio.sleep(0)
    assert not waiting.done()
    path.write_text("tether_agent_new")
    async with asyncio.timeout(DEADLINE_S):
        await waiting
    assert token.token() == "tether_agent_new"
