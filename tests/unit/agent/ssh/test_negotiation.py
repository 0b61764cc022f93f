"""What two offers of algorithms have in common."""

from __future__ import annotations

import pytest
from asyncssh.packet import NameList

from tether.agent.ssh.negotiation import NothingInCommon, nothing_in_common

LISTS = (
    "curve25519-sha256",
    "ssh-ed25519",
    "aes128-gcm@openssh.com,aes256-ctr",
    "aes128-gcm@openssh.com,aes256-ctr",
    "hmac-sha2-256",
    "hmac-sha2-256",
    "none",
    "none",
)


def offer(**changes: str) -> bytes:
    """A MSG_KEXINIT without its type; `changes` are named by the place of a list: `at2="…"`."""
    lists = [changes.get(f"at{place}", names) for place, names in enumerate(LISTS)]
    packed = b"".join(NameList(names.encode().split(b",")) for names in [*lists, "", ""])
    return bytes(16) + packed + bytes(5)


def needs_mac(cipher: bytes) -> bool:
    return b"gcm" not in cipher


def test_two_that_offer_the_same_can_go_on() -> None:
    assert nothing_in_common(offer(), offer(), needs_mac) is None


@pytest.mark.parametrize(
    ("place", "purpose"),
    [
        (0, "key exchange"),
        (1, "host key type"),
        (2, "cipher"),
        (3, "cipher"),
        (6, "compression"),
        (7, "compression"),
    ],
)
def test_the_first_purpose_without_a_common_name_is_told_with_both_offers(
    place: int, purpose: str
) -> None:
    theirs = offer(**{f"at{place}": "old,older"})
    assert nothing_in_common(offer(), theirs, needs_mac) == NothingInCommon(
        purpose, "old,older", LISTS[place]
    )


def test_a_mac_counts_only_where_the_cipher_needs_one() -> None:
    other = {"at4": "hmac-md5", "at5": "hmac-md5"}
    assert nothing_in_common(offer(), offer(**other), needs_mac) is None
    theirs = offer(at2="aes256-ctr", at3="aes256-ctr", **other)
    assert nothing_in_common(offer(), theirs, needs_mac) == NothingInCommon(
        "MAC", "hmac-md5", "hmac-sha2-256"
    )


def test_what_a_party_can_do_besides_is_no_key_exchange() -> None:
    ours = offer(at0="curve25519-sha256,kex-strict-s-v00@openssh.com,ext-info-c")
    theirs = offer(at0="diffie-hellman-group1-sha1,ext-info-c")
    assert nothing_in_common(ours, theirs, needs_mac) == NothingInCommon(
        "key exchange", "diffie-hellman-group1-sha1", "curve25519-sha256"
    )


def test_an_offer_that_cannot_be_read_is_left_to_asyncssh() -> None:
    assert nothing_in_common(offer(), b"too short", needs_mac) is None
