"""The ProxyCommand's words: who ended it, what the user hears, what `tether ssh` is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.cli.ssh.ssh import read_result
from tether.cli.ssh.stdio import ResultFile
from tether.client.outcome import Outcome, judge, say

AGENT, CLIENT, RELAY = Vantage.AGENT, Vantage.CLIENT, Vantage.RELAY
IN = ev.Authenticated(vantage=AGENT, at=1.0, user="alice", method="publickey")
EXITED = ev.SessionEnded(vantage=AGENT, at=2.0, exit_code=3, open_sessions=0)
LOCAL = ev.LocalSideClosed(vantage=CLIENT, at=3.0)


def ssh_said(open_sessions: int) -> ev.SshDisconnected:
    return ev.SshDisconnected(
        vantage=AGENT, at=3.0, by=Party.CLIENT, code=11, open_sessions=open_sessions
    )


def said(by: Party, cause: str, actor: str = "") -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=CLIENT, at=3.0, by=by, cause=cause, actor=actor)


@pytest.mark.parametrize(
    ("facts", "want"),
    [
        ((LOCAL,), Outcome("local", "client.closed")),
        ((IN, EXITED, ssh_said(0)), Outcome("local", "session.exit")),
        ((IN, ssh_said(1)), Outcome("local", "client.closed")),
        (
            (said(Party.AGENT, "workspace.stopped", "user:bob"),),
            Outcome("remote", "workspace.stopped", "The workspace was stopped by bob.", 255),
        ),
        (
            (ev.StreamEnded(vantage=RELAY, at=3.0, peer=Party.AGENT, how=StreamEnd.EOF),),
            Outcome(
                "remote",
                "agent.vanished",
                "The workspace's agent disappeared without a goodbye: its process ended at once.",
                255,
            ),
        ),
        (
            (said(Party.AGENT, "agent.from_the_future"),),
            Outcome(
                "remote",
                "agent.from_the_future",
                "Nobody could tell why this connection ended.",
                255,
            ),
        ),
    ],
)
def test_only_an_end_by_the_other_side_is_told(facts: tuple[Evidence, ...], want: Outcome) -> None:
    cell = CloseCell()
    for fact in facts:
        cell.offer(fact) if fact is facts[-1] else cell.note(fact)
    assert judge(cell, "", "dev") == want


def test_a_signal_that_cut_off_a_living_ssh_is_told() -> None:
    cell = CloseCell()
    cell.offer(said(Party.CLIENT, "client.closed", "signal:15"))
    outcome = judge(cell, "signal:15", "dev")
    assert (outcome.by, outcome.code) == ("local", 255)
    assert outcome.sentence.startswith("The client closed the connection")


def test_a_result_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result"
    assert read_result(path) == {}
    file = ResultFile(str(path))
    file.update(connection_id="c")
    file.update(exit_code=3)
    with path.open("ab") as half:
        half.write(b'{"by": "rem')
    assert read_result(path) == {
        "connection_id": "c",
        "exit_code": 3,
        "exit_signal": None,
        "cause": None,
        "sentence": None,
        "by": None,
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_result_that_nobody_waits_for_any_more_leaves_no_litter(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    file = ResultFile(str(directory / "result"))
    (directory / "result").unlink()
    directory.rmdir()
    file.update(by="remote")
    assert list(tmp_path.iterdir()) == []
    assert not ResultFile(str(directory / "gone")).wanted
    assert not ResultFile("").wanted


def test_a_sentence_is_one_clean_line(capfd: pytest.CaptureFixture[str]) -> None:
    say("The workspace was\x1b[2J stopped\nby bob.", in_session=True)
    assert capfd.readouterr().err == "tether: The workspace was [2J stopped by bob.\n"


def test_a_sentence_in_a_raw_terminal_starts_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    try:
        saved = os.dup(2)
        os.dup2(slave, 2)
        try:
            with open(2, "w", closefd=False) as stderr:
                monkeypatch.setattr("sys.stderr", stderr)
                say("Gone.", in_session=True)
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        assert os.read(master, 100).replace(b"\r\r", b"\r") == b"\r\ntether: Gone.\r\n"
    finally:
        os.close(master)
        os.close(slave)


def test_the_result_has_the_documented_keys(tmp_path: Path) -> None:
    file = ResultFile(str(tmp_path / "r"))
    file.update(by="failed", sentence="no")
    line = json.loads((tmp_path / "r").read_text())
    assert sorted(line) == [
        "by",
        "cause",
        "connection_id",
        "exit_code",
        "exit_signal",
        "sentence",
    ]
