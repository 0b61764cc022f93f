"""The host key: made once, kept, and never silently replaced."""

from __future__ import annotations

import stat
from pathlib import Path

import asyncssh
import pytest

from tether.agent.ssh.host_key import HOST_KEY_FILE, HostKeyUnusable, load_or_create


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    first, second = load_or_create(tmp_path / "new"), load_or_create(tmp_path / "new")
    assert first.public_line == second.public_line
    assert first.public_line.startswith("ssh-ed25519 AAAA")
    assert len(first.public_line.split()) == 2
    assert asyncssh.import_public_key(first.public_line) == first.key.convert_to_public()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    path = tmp_path / HOST_KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [HOST_KEY_FILE]


def test_a_key_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / HOST_KEY_FILE).write_text("spoilt")
    with pytest.raises(HostKeyUnusable, match="restore it, or remove it"):
        load_or_create(tmp_path)
    assert (tmp_path / HOST_KEY_FILE).read_text() == "spoilt"
