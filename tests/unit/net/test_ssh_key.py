"""A key in a file: made once, by one of many, and read by the stock programs."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest

from tether.net.ssh_key import BadKey, KeyType, ensure_key, public_line, vouched_for


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    first = ensure_key(path)
    assert ensure_key(path) == first == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["key"]


def test_of_many_that_come_first_one_makes_the_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: ensure_key(tmp_path / "key"), range(16)))
    assert len(keys) == 1


def test_its_public_half_is_one_line_without_a_comment(tmp_path: Path) -> None:
    private = ensure_key(tmp_path / "key")
    key = asyncssh.import_private_key(private)
    assert public_line(private).split() == key.export_public_key().decode().split()[:2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    ],
)
def test_what_is_no_key_is_said_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(BadKey):
        public_line(ensure_key(path))
    assert path.read_bytes() == content


def test_a_file_system_without_hard_links_keeps_keys_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError("hard links are not for this file system")

    monkeypatch.setattr("os.link", refuses)
    path = tmp_path / "key"
    first = ensure_key(path)
    assert ensure_key(path) == first
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("kind", KeyType)
def test_a_key_of_each_type_is_read_by_others(tmp_path: Path, kind: KeyType) -> None:
    private = ensure_key(tmp_path / "key", kind)
    key = asyncssh.import_private_key(private)
    assert public_line(private).split() == key.export_public_key().decode().split()[:2]


def line_of(key: asyncssh.SSHKey | asyncssh.SSHCertificate) -> str:
    if isinstance(key, asyncssh.SSHCertificate):
        return key.export_certificate().decode().strip()
    return key.export_public_key().decode().strip()


def test_a_host_certificate_vouches_for_its_key() -> None:
    authority, host = (asyncssh.generate_private_key(kind) for kind in ("ssh-ed25519", "ssh-rsa"))
    certificate = line_of(authority.generate_host_certificate(host, "host"))
    assert vouched_for(certificate, line_of(authority)) == line_of(host)


def test_nothing_else_vouches_for_a_key() -> None:
    authority, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    for_user = line_of(authority.generate_user_certificate(host, "user", principals=["a"]))
    by_another = line_of(host.generate_host_certificate(host, "host"))
    kind, good = line_of(authority.generate_host_certificate(host, "host")).split()[:2]
    forged = bytearray(base64.b64decode(good))
    forged[-1] ^= 1
    for line in (
        for_user,
        by_another,
        line_of(host),
        "",
        f"{kind} {base64.b64encode(forged).decode()}",
    ):
        with pytest.raises(BadKey):
            vouched_for(line, line_of(authority))
