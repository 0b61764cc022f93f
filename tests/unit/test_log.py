"""Log lines: one JSON object each, levels that mean something, libraries in our form."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PRELUDE = """
import logging, sys
from tether import log
from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import Basis, ConnectType
def ended(cause):
    return Disconnect(
        connect_type=ConnectType.AGENT_TO_CLIENT, cause=cause, basis=Basis.OBSERVED, exit_code=3
    )
"""


def logged(code: str, setup: str = "log.configure('json', program='agent')") -> list[Any]:
    """The lines that a process of its own logs."""
    return [json.loads(line) for line in stderr(f"{PRELUDE}\n{setup}\n{code}").splitlines()]


def stderr(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "", "logs belong on stderr"
    return done.stderr


def test_a_line_is_an_event_with_its_fields() -> None:
    (line,) = logged("log.get_logger('x', user='alice').info('agent ready', port=22)")
    stamp = line.pop("timestamp")
    assert stamp.endswith("Z")
    assert line == {
        "event": "agent ready",
        "level": "info",
        "component": "x",
        "program": "agent",
        "user": "alice",
        "port": 22,
    }


def test_an_expected_end_is_info_and_an_unexpected_one_a_warning() -> None:
    lines = logged(
        "logger = log.get_logger('x')\n"
        "for cause in ('session.exit', 'agent.crashed', 'unknown'):\n"
        "    log.disconnected(logger, 'connection closed', ended(cause), connection_id='c')"
    )
    assert [(line["level"], line["disconnect_cause"]) for line in lines] == [
        ("info", "session.exit"),
        ("warning", "agent.crashed"),
        ("warning", "unknown"),
    ]
    first = lines[0]
    del first["timestamp"]
    assert first == {
        "event": "connection closed",
        "level": "info",
        "component": "x",
        "program": "agent",
        "connection_id": "c",
        "connect_type": "agent_to_client",
        "disconnect_reason": "graceful",
        "disconnect_expected": True,
        "disconnect_initiator": "client",
        "disconnect_detail": "",
        "disconnect_cause": "session.exit",
        "disconnect_basis": "observed",
        "disconnect_actor": "",
        "exit_code": 3,
    }


def test_lines_below_the_level_are_not_written() -> None:
    lines = logged(
        "logger = log.get_logger('x')\nlogger.info('a')\nlogger.warning('b')",
        "log.configure('json', level='warning')",
    )
    assert [line["event"] for line in lines] == ["b"]


def test_what_json_does_not_know_is_written_as_text() -> None:
    (line,) = logged("import pathlib\nlog.get_logger('x').info('a', path=pathlib.Path('/tmp'))")
    assert line["path"] == "/tmp"


def test_a_traceback_stays_on_its_line() -> None:
    (line,) = logged(
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.get_logger('x').exception('broken')"
    )
    assert (line["event"], line["level"]) == ("broken", "error")
    assert "ZeroDivisionError" in line["exception"]


def test_libraries_log_in_our_form_and_only_what_matters() -> None:
    lines = logged(
        "logging.getLogger('asyncssh').info('chatter')\n"
        "logging.getLogger('asyncssh').warning('odd %s', 'thing')\n"
        "logging.getLogger('somelib').info('chatter')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n"
        "    logging.getLogger('tether.tasks').error('task failed', exc_info=True)"
    )
    assert [(line["component"], line["level"], line["event"]) for line in lines] == [
        ("asyncssh", "warning", "odd thing"),
        ("tether.tasks", "error", "task failed"),
    ]
    assert "ZeroDivisionError" in lines[1]["exception"]


def test_text_is_for_people() -> None:
    text = stderr(f"{PRELUDE}\nlog.configure('text')\nlog.get_logger('x').info('agent ready', a=1)")
    assert "agent ready" in text
    assert "a=1" in text
    assert not text.startswith("{")


def test_a_client_writes_lines_for_developers_only_and_never_its_token() -> None:
    code = (
        "import logging\nfrom tether.client.errors import set_up_logging\n"
        "set_up_logging({env})\n"
        "logging.getLogger('websockets.client').debug('> Authorization: Bearer t')\n"
        "logging.getLogger('asyncssh').debug('z')\n"
    )
    asked = stderr(code.format(env={"TETHER_DEBUG": "1"}))
    assert ("z" in asked, "client" in asked, "Bearer" in asked) == (True, True, False)
    assert stderr(code.format(env={})) == ""
