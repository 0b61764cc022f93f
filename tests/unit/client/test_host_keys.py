"""Pins: trust on first use, by workspace id; a changed key is refused."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.server.control_plane import GRANT
from tether.agent.ssh.host_key import HostKey, load_or_create
from tether.client.errors import Failure
from tether.client.host_keys import (
    KeyCheck,
    Pin,
    accept,
    check,
    check_host_key,
    known_hosts_text,
    normal_key,
    read_pins,
    trust_further,
    trust_grant,
    workspace_name,
)
from tether.config import ClientFiles
from tether.protocol.messages.tunnel import FurtherHostKey

ONE = Pin("w-1", "ssh-ed25519 AAAAone")
OTHER_KEY = Pin("w-1", "ssh-ed25519 AAAAtwo")
OTHER_WORKSPACE = Pin("w-2", "ssh-ed25519 AAAAtwo")


@pytest.mark.parametrize(
    ("pinned", "offered", "want"),
    [
        (None, ONE, KeyCheck.FIRST_USE),
        (ONE, ONE, KeyCheck.KNOWN),
        (ONE, OTHER_WORKSPACE, KeyCheck.OTHER_WORKSPACE),
        (ONE, Pin("w-2", ONE.host_key), KeyCheck.OTHER_WORKSPACE),
        (ONE, OTHER_KEY, KeyCheck.CHANGED_KEY),
    ],
)
def test_what_is_offered_is_judged_by_what_is_pinned(
    pinned: Pin | None, offered: Pin, want: KeyCheck
) -> None:
    assert check_host_key({"dev": pinned} if pinned else {}, "dev", offered) is want


def test_what_is_pinned_already_needs_no_file_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, grant = ClientFiles(tmp_path), msgspec.structs.replace(GRANT, certificate="a fresh one")
    trust_grant(files, "dev", grant)
    stock = os.open

    def read_only(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return stock(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", read_only)
    trust_grant(files, "dev", grant)
    with pytest.raises(OSError, match="Read-only"):  # a new pin has to be kept
        trust_grant(files, "other", grant)


def test_first_use_writes_what_ssh_reads(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    check(files, "dev", Pin("w-1", "ssh-ed25519 AAAAone agent@host\n"))
    check(files, "a", OTHER_WORKSPACE)
    assert files.known_hosts.read_text().splitlines()[1:] == [
        "a.tether ssh-ed25519 AAAAtwo",
        "dev.tether ssh-ed25519 AAAAone",
    ]
    assert stat.S_IMODE(files.known_hosts.stat().st_mode) == 0o600
    assert read_pins(files) == {"dev": ONE, "a": OTHER_WORKSPACE}


def test_a_changed_key_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    check(files, "dev", ONE)
    before = files.known_hosts.read_bytes()
    with pytest.raises(Failure) as refused:
        check(files, "dev", OTHER_KEY)
    assert str(files.known_hosts) in str(refused.value)
    assert "`tether config-ssh --accept-new-host-key dev`" in str(refused.value)
    assert files.known_hosts.read_bytes() == before


def test_the_user_may_accept_a_changed_key(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    check(files, "dev", ONE)
    accept(files, "dev", OTHER_KEY)
    assert check(files, "dev", OTHER_KEY) is KeyCheck.KNOWN
    assert files.known_hosts.read_text() == known_hosts_text({"dev": OTHER_KEY})


def test_a_new_workspace_of_an_old_name_is_pinned_anew(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    check(files, "dev", ONE)
    assert check(files, "dev", OTHER_WORKSPACE) is KeyCheck.OTHER_WORKSPACE
    assert read_pins(files) == {"dev": OTHER_WORKSPACE}


def test_known_hosts_that_was_changed_by_hand_is_written_anew(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    check(files, "dev", ONE)
    files.known_hosts.write_text("dev.tether ssh-ed25519 AAAAevil\n")
    check(files, "dev", ONE)
    assert files.known_hosts.read_text() == known_hosts_text({"dev": ONE})


def test_an_agent_without_a_host_key_is_not_trusted(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="has told no host key yet"):
        check(ClientFiles(tmp_path), "dev", Pin("w-1", ""))


@pytest.mark.parametrize("text", ["{", "[]", '{"dev": {}}', '{"dev": 1}'])
def test_damaged_pins_are_never_silently_forgotten(tmp_path: Path, text: str) -> None:
    files = ClientFiles(tmp_path)
    files.ssh.mkdir()
    files.pins.write_text(text)
    with pytest.raises(Failure, match="is damaged"):
        check(files, "dev", ONE)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("ssh-ed25519 AAAA me@here\n", "ssh-ed25519 AAAA"),
        ("  ssh-ed25519   AAAA", "ssh-ed25519 AAAA"),
        ("ecdsa-sha2-nistp256 AAAA", "ecdsa-sha2-nistp256 AAAA"),
        ("ssh-ed25519", ""),
        ("@cert-authority * x", ""),
        ("", ""),
    ],
)
def test_a_key_is_compared_without_its_comment(line: str, key: str) -> None:
    assert normal_key(line) == key


def test_a_host_name_is_a_workspace_name_with_a_suffix() -> None:
    assert [workspace_name(host) for host in ("dev", "dev.tether")] == ["dev", "dev"]


@pytest.mark.parametrize("host", ["", "-x", "a b", "a;b", "A", ".tether", "a.b", "x" * 33, "a'b"])
def test_what_is_no_name_gets_nowhere(host: str) -> None:
    with pytest.raises(Failure, match="is no workspace's name"):
        workspace_name(host)


# -- further keys of a workspace ------------------------------------------------------------------


async def shown_by(agent: HostKey, algorithm: bytes = b"ecdsa-sha2-nistp256") -> FurtherHostKey:
    """What an agent says of one of its further keys."""
    key = await agent.further(algorithm)
    return FurtherHostKey(public_key=key.public_line, certificate=key.certificate)


async def test_the_pinned_key_may_vouch_for_others(tmp_path: Path) -> None:
    files, agent = ClientFiles(tmp_path / "client"), load_or_create(tmp_path / "agent")
    check(files, "dev", Pin("w-1", agent.public_line))
    ecdsa, rsa = await shown_by(agent), await shown_by(agent, b"rsa-sha2-512")
    for shown in (ecdsa, rsa, ecdsa):
        trust_further(files, "dev", shown)
    pinned = Pin("w-1", agent.public_line, (ecdsa.public_key, rsa.public_key))
    assert read_pins(files) == {"dev": pinned}
    assert files.known_hosts.read_text().splitlines()[1:] == [
        f"dev.tether {key}" for key in (agent.public_line, ecdsa.public_key, rsa.public_key)
    ]
    assert check(files, "dev", Pin("w-1", agent.public_line)) is KeyCheck.KNOWN
    assert read_pins(files) == {"dev": pinned}


async def test_a_further_key_that_was_made_anew_takes_the_place_of_the_old_one(
    tmp_path: Path,
) -> None:
    files, agent = ClientFiles(tmp_path / "client"), load_or_create(tmp_path / "agent")
    check(files, "dev", Pin("w-1", agent.public_line))
    trust_further(files, "dev", await shown_by(agent))
    (tmp_path / "agent" / "ssh_host_ecdsa_key").unlink()
    anew = await shown_by(load_or_create(tmp_path / "agent"))
    trust_further(files, "dev", anew)
    assert read_pins(files)["dev"].further == (anew.public_key,)


async def test_what_another_key_vouches_for_is_not_pinned(tmp_path: Path) -> None:
    files, agent = ClientFiles(tmp_path / "client"), load_or_create(tmp_path / "agent")
    pinned = Pin("w-1", agent.public_line)
    check(files, "dev", pinned)
    with pytest.raises(Failure, match=r"does not vouch for .* \(another key has signed it\)"):
        trust_further(files, "dev", await shown_by(load_or_create(tmp_path / "another")))
    assert read_pins(files) == {"dev": pinned}


async def test_a_changed_key_takes_its_further_ones_with_it(tmp_path: Path) -> None:
    files, agent = ClientFiles(tmp_path / "client"), load_or_create(tmp_path / "agent")
    check(files, "dev", Pin("w-1", agent.public_line))
    trust_further(files, "dev", await shown_by(agent))
    accept(files, "dev", OTHER_KEY)
    assert read_pins(files) == {"dev": OTHER_KEY}
