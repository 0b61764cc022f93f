"""The device's SSH key."""

from __future__ import annotations

import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tether.client.device_key import ensure_device_key
from tether.client.errors import Failure
from tether.config import ClientFiles


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
