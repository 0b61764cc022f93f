"""The host key: made once, kept, and never silently replaced."""

from __future__ import annotations

import stat
from pathlib import Path

import asyncssh
import pytest

from tether.agent.ssh.host_key import FURTHER, HOST_KEY_FILE, HostKeyUnusable, load_or_create
from tether.net.ssh_key import vouched_for


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


@pytest.mark.parametrize("algorithm", FURTHER)
async def test_a_further_key_is_made_when_it_is_asked_for_and_kept(
    tmp_path: Path, algorithm: bytes
) -> None:
    own = load_or_create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [HOST_KEY_FILE]
    made, again = await own.further(algorithm), await own.further(algorithm)
    kept = await load_or_create(tmp_path).further(algorithm)
    assert made is again
    assert made.public_line == kept.public_line
    assert stat.S_IMODE((tmp_path / f"ssh_host_{FURTHER[algorithm]}_key").stat().st_mode) == 0o600


async def test_the_agents_own_key_vouches_for_a_further_one(tmp_path: Path) -> None:
    own = load_or_create(tmp_path)
    further = await own.further(b"ecdsa-sha2-nistp256")
    assert vouched_for(further.certificate, own.public_line) == further.public_line
    assert asyncssh.import_public_key(further.public_line) == further.key.convert_to_public()


async def test_a_further_key_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    own = load_or_create(tmp_path)
    (tmp_path / "ssh_host_ecdsa_key").write_text("spoilt")
    with pytest.raises(HostKeyUnusable, match="restore it, or remove it"):
        await own.further(b"ecdsa-sha2-nistp256")
