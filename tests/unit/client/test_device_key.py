"""The device's SSH key."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tether.client.device_key import ensure_device_key, ensure_device_keys, further_device_keys
from tether.client.errors import Failure
from tether.config import ClientFiles
from tether.net.ssh_key import KeyType


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    first, second = ensure_device_key(files), ensure_device_key(files)
    assert first == second
    assert first.startswith("ssh-ed25519 AAAA")
    assert stat.S_IMODE(files.device_key.stat().st_mode) == 0o600
    assert sorted(path.name for path in files.ssh.iterdir()) == ["id_ed25519", "id_ed25519.pub"]


def test_the_stock_programs_read_it(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    files = ClientFiles(tmp_path)
    public = ensure_device_key(files)
    derived = subprocess.check_output(["ssh-keygen", "-y", "-f", str(files.device_key)], text=True)
    assert derived.split()[:2] == public.split()[:2]


def test_a_lost_public_half_is_derived_anew(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    first = ensure_device_key(files)
    (files.ssh / "id_ed25519.pub").unlink()
    assert ensure_device_key(files) == first


def test_of_many_first_commands_at_once_one_makes_the_key(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: ensure_device_key(files), range(16)))
    assert len(keys) == 1


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    files.ssh.mkdir()
    files.device_key.write_text("nonsense")
    with pytest.raises(Failure, match="is damaged: delete it to get a new one"):
        ensure_device_key(files)


def test_further_keys_are_announced_once_they_were_made(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    ensure_device_key(files)
    assert further_device_keys(files) == []
    assert ensure_device_keys(files, tuple(KeyType)) == list(KeyType)
    assert [line.split()[0] for line in further_device_keys(files)] == [
        "ecdsa-sha2-nistp256",
        "ssh-rsa",
    ]


def test_old_programs_read_the_further_keys(tmp_path: Path) -> None:
    """They know no private keys in OpenSSH's own form."""
    files = ClientFiles(tmp_path)
    ensure_device_keys(files, tuple(KeyType))
    first_lines = {kind: files.device_key_of(kind).read_text().splitlines()[0] for kind in KeyType}
    assert first_lines == {
        KeyType.ED25519: "-----BEGIN OPENSSH PRIVATE KEY-----",
        KeyType.ECDSA: "-----BEGIN EC PRIVATE KEY-----",
        KeyType.RSA: "-----BEGIN RSA PRIVATE KEY-----",
    }


def test_where_nothing_can_be_written_the_keys_that_are_there_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ClientFiles(tmp_path)
    ensure_device_key(files)

    def read_only(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", read_only)
    assert ensure_device_keys(files, tuple(KeyType)) == [KeyType.ED25519]
