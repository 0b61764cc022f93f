"""Who may in: every answer of the decision, on plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import asyncssh
import pytest

from tether.agent.ssh.asyncssh_connection import read_credential
from tether.agent.ssh.auth import (
    Accepted,
    AuthenticationRefused,
    Certificate,
    Credential,
    Trust,
    decide,
    wire_form,
)
from tether.attribution.vocabulary import AccessRefusal

NOW = 1_000_000.0
TRUST = Trust(
    announced=(b"device", b"further"),
    ca=b"authority",
    user="alice",
    workspace="dev",
    workspace_id="ws-1",
    client_ip="192.0.2.7",
)
GOOD = Certificate(
    ca=b"authority",
    is_user=True,
    key_id="user:alice",
    principals=("ws-1",),
    valid_after=NOW - 60,
    valid_before=NOW + 300,
)


def certified(**changes: Any) -> Credential:
    return Credential(public_key=b"other", certificate=replace(GOOD, **changes))


@pytest.mark.parametrize("key", TRUST.announced)
def test_each_announced_key_is_let_in(key: bytes) -> None:
    assert decide(Credential(public_key=key), TRUST, NOW) == Accepted("publickey")


def test_a_certificate_is_let_in_whatever_its_key() -> None:
    assert decide(certified(), TRUST, NOW) == Accepted("certificate")


def test_a_certificate_is_good_from_its_first_second_and_not_at_its_last() -> None:
    first, last = GOOD.valid_after, GOOD.valid_before
    assert decide(certified(), TRUST, first) == Accepted("certificate")
    assert isinstance(decide(certified(), TRUST, last), AuthenticationRefused)


@pytest.mark.parametrize(
    ("credential", "why"),
    [
        (Credential(public_key=b"stranger"), AccessRefusal.UNKNOWN_KEY),
        (Credential(unreadable="unreadable: no key"), AccessRefusal.UNKNOWN_KEY),
        (certified(ca=b"another"), AccessRefusal.UNKNOWN_KEY),
        (certified(is_user=False), AccessRefusal.UNKNOWN_KEY),
        (certified(principals=("ws-2",)), AccessRefusal.WRONG_WORKSPACE),
        (certified(principals=()), AccessRefusal.WRONG_WORKSPACE),
        (certified(key_id="user:mallory"), AccessRefusal.WRONG_USER),
        (certified(key_id=""), AccessRefusal.WRONG_USER),
        (certified(valid_before=NOW - 1), AccessRefusal.CERTIFICATE_EXPIRED),
        (certified(valid_after=NOW + 1), AccessRefusal.CERTIFICATE_NOT_YET_VALID),
        (certified(source_addresses=("10.0.0.0/8",)), AccessRefusal.UNKNOWN_KEY),
    ],
)
def test_everything_else_is_refused_with_its_reason(
    credential: Credential, why: AccessRefusal
) -> None:
    decision = decide(credential, TRUST, NOW)
    assert isinstance(decision, AuthenticationRefused)
    assert decision.why is why
    assert decision.detail
    assert decision.sentence[-1] != "."


def test_a_certificate_limited_to_networks_is_good_within_them() -> None:
    within = certified(source_addresses=("192.0.2.0/24",))
    assert decide(within, TRUST, NOW) == Accepted("certificate")
    assert isinstance(decide(within, replace(TRUST, client_ip=""), NOW), AuthenticationRefused)


def test_nothing_announced_and_no_authority_let_nobody_in() -> None:
    nobody = replace(TRUST, announced=(), ca=b"")
    empty = replace(GOOD, ca=b"")
    assert isinstance(decide(Credential(public_key=b""), nobody, NOW), AuthenticationRefused)
    assert isinstance(decide(Credential(certificate=empty), nobody, NOW), AuthenticationRefused)


def test_a_key_line_is_read_with_and_without_a_comment() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519", comment="alice@laptop")
    line = key.export_public_key().decode()
    assert wire_form(line) == wire_form(" ".join(line.split()[:2])) == key.public_data


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 not-base64!", "   "])
def test_no_key_is_no_wire_form(line: str) -> None:
    assert wire_form(line) == b""


def test_a_real_certificate_is_read_whole() -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    device = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_user_certificate(
        device,
        "user:alice",
        principals=["ws-1"],
        valid_after=1000,
        valid_before=2000,
        source_address=["10.0.0.0/8"],
    )
    key, parsed, credential = read_credential(certificate.public_data)
    assert key == certificate.key
    assert parsed is not None
    assert credential == Credential(
        public_key=device.public_data,
        certificate=Certificate(
            ca=authority.public_data,
            is_user=True,
            key_id="user:alice",
            principals=("ws-1",),
            valid_after=1000.0,
            valid_before=2000.0,
            source_addresses=("10.0.0.0/8",),
        ),
    )


def test_a_host_certificate_is_not_a_users() -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    host = authority.generate_host_certificate(authority, "user:alice", principals=["ws-1"])
    credential = read_credential(host.public_data)[2]
    assert credential.certificate is not None
    assert not credential.certificate.is_user


def test_a_forged_certificate_is_unreadable() -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_user_certificate(authority, "user:alice", principals=["ws-1"])
    forged = certificate.public_data.replace(b"user:alice", b"user:bobby")
    key, parsed, credential = read_credential(forged)
    assert (key, parsed) == (None, None)
    assert credential == Credential(unreadable="unreadable: Invalid OpenSSH certificate")


@pytest.mark.parametrize("blob", [b"", b"\0\0\0\x0bssh-ed25519", b"\xff" * 40, b"x-cert-v01x"])
def test_garbage_is_unreadable_and_not_a_crash(blob: bytes) -> None:
    key, parsed, credential = read_credential(blob)
    assert (key, parsed) == (None, None)
    assert credential.unreadable
