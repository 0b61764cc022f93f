"""What sessions inherit, and who commands run as."""

from __future__ import annotations

import os
import pwd

import pytest

from tether.agent.process.environment import Account, ClientVariables, current_account, inherited


def test_the_machines_environment_passes_and_the_agents_does_not() -> None:
    assert inherited(
        {
            "PATH": "/opt/tool/bin:/usr/bin",
            "LANG": "C.UTF-8",
            "JAVA_HOME": "/opt/java",
            "TETHER_TOKEN": "secret",
            "TETHER_URL": "https://tether.example",
            "NOTIFY_SOCKET": "/run/systemd/notify",
            "CREDENTIALS_DIRECTORY": "/run/credentials",
            "VIRTUAL_ENV": "/opt/tether",
            "PYTHONPATH": "/opt/tether",
            "SSH_AUTH_SOCK": "/tmp/agent",
            "TERM": "dumb",
            "PWD": "/somewhere",
        }
    ) == {"PATH": "/opt/tool/bin:/usr/bin", "LANG": "C.UTF-8", "JAVA_HOME": "/opt/java"}


def test_commands_run_as_the_agents_own_user() -> None:
    entry = pwd.getpwuid(os.geteuid())
    assert current_account({}) == Account(entry.pw_name, entry.pw_dir, entry.pw_shell or "/bin/sh")


def test_the_home_that_the_agent_was_given_goes_before_the_users_entry() -> None:
    assert current_account({"HOME": "/workspace"}).home == "/workspace"


def test_a_bare_uid_without_an_entry_has_a_shell_and_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert current_account({}) == Account("12345", "/", "/bin/sh")
    assert current_account({"USER": "dev", "HOME": "/w", "SHELL": "/bin/zsh"}) == Account(
        "dev", "/w", "/bin/zsh"
    )


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        (b"LANG", True),
        (b"LC_ALL", True),
        (b"TETHER_SSH_SESSION_TYPE", True),
        (b"CODER_SSH_SESSION_TYPE", True),
        (b"_x9", True),
        (b"", False),
        (b"9x", False),
        (b"A-B", False),
        (b"A=B", False),
        (b"A\n", False),
        (b"LD_PRELOAD", False),
        (b"SSH_AUTH_SOCK", False),
    ],
)
def test_which_names_a_client_may_set(name: bytes, accepted: bool) -> None:
    assert ClientVariables().accept(name, b"value") is accepted


def test_a_value_without_an_end_is_refused_and_any_bytes_are_kept() -> None:
    variables = ClientVariables()
    assert not variables.accept(b"A", b"x\0y")
    assert variables.accept(b"B", b"\xff")
    assert {k: os.fsencode(v) for k, v in variables.values.items()} == {"B": b"\xff"}
