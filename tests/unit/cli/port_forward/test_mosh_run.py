"""What mosh's half in the workspace is asked, and what it answers."""

from __future__ import annotations

import asyncssh
import pytest

from tether.cli.port_forward.mosh_run import answer_of, server_command
from tether.client.errors import Failure

ANSWER = """

MOSH CONNECT 60001 4NeCCgvZFe2RnPgrcU1PQw

mosh-server (mosh 1.4.0) [build mosh 1.4.0]
"""


def done(code: int, out: str = "", errors: str = "") -> asyncssh.SSHCompletedProcess:
    return asyncssh.SSHCompletedProcess(exit_status=code, stdout=out, stderr=errors)


@pytest.mark.parametrize(
    ("env", "command", "expected"),
    [
        ({}, (), "mosh-server new -i 127.0.0.1 -c 256 -l LANG=C.UTF-8"),
        (
            {"LANG": "de_DE.UTF-8", "LC_ALL": "", "LC_TIME": "C", "TERM": "xterm"},
            ("vim", "a b"),
            "mosh-server new -i 127.0.0.1 -c 256 -l LANG=de_DE.UTF-8 -l LC_TIME=C -- vim 'a b'",
        ),
    ],
)
def test_the_server_is_started_on_loopback_in_the_users_language(
    env: dict[str, str], command: tuple[str, ...], expected: str
) -> None:
    assert server_command(env, "256", command) == expected


def test_the_port_and_the_key_are_found_in_what_it_prints() -> None:
    assert answer_of(done(0, ANSWER), "dev") == (60001, "4NeCCgvZFe2RnPgrcU1PQw")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            done(127, errors="sh: 1: mosh-server: not found"),
            "mosh is not installed in workspace dev",
        ),
        (
            done(1, errors="mosh-server needs a UTF-8\nnative locale to run."),
            "mosh-server did not start in workspace dev: mosh-server needs a UTF-8 native locale to",
        ),
        (done(0), "mosh-server did not start in workspace dev: it said nothing"),
    ],
)
def test_a_server_that_does_not_start_is_told(
    answer: asyncssh.SSHCompletedProcess, sentence: str
) -> None:
    with pytest.raises(Failure, match=sentence):
        answer_of(answer, "dev")
