"""This device's SSH keys: each made once, by us, so that a user sets up no keys.

Law: the private keys never leave this machine. The public halves are kept beside them, so that most
commands need not compute them. Every device has an ed25519 key; the others are for SSH programs that
know no ed25519 (old ones, and those in FIPS mode), and made where one may read our options.
"""

from __future__ import annotations

from collections.abc import Iterable

from tether.client.errors import Failure
from tether.config import ClientFiles, unless_read_only, write_atomically
from tether.net.ssh_key import BadKey, KeyType, ensure_key, public_line

OPENSSH_KEYS = (KeyType.ED25519, KeyType.ECDSA)
"""What any OpenSSH of this age needs, in FIPS mode, too."""


def ensure_device_key(files: ClientFiles, kind: KeyType = KeyType.ED25519) -> str:
    """The public key as one OpenSSH line; makes the key pair if there is none.

    Raises:
        Failure: the files are there but cannot be used.
    """
    path = files.device_key_of(kind)
    try:
        if path.exists() and (kept := _kept(files, kind)):
            return kept
        return _derive(files, kind)
    except OSError as wrong:
        raise Failure(f"the device key {path} cannot be used: {wrong.strerror}") from wrong


def ensure_device_keys(files: ClientFiles, kinds: Iterable[KeyType]) -> list[KeyType]:
    """Make the keys that are missing; which there are. Where nothing can be written, only the first
    must be there.

    Raises:
        Failure: the files are there but cannot be used.
    """
    first, *others = kinds
    ensure_device_key(files, first)
    for kind in others:
        if not files.device_key_of(kind).exists():
            with unless_read_only():
                _derive(files, kind)
    return [first, *(kind for kind in others if files.device_key_of(kind).exists())]


def further_device_keys(files: ClientFiles) -> list[str]:
    """The public keys of the other types that were made, an OpenSSH line each.

    Raises:
        Failure: the files are there but cannot be used.
    """
    kinds = (KeyType.ECDSA, KeyType.RSA)
    return [ensure_device_key(files, k) for k in kinds if files.device_key_of(k).exists()]


def _kept(files: ClientFiles, kind: KeyType) -> str:
    try:
        return files.device_key_of(kind).with_suffix(".pub").read_text().strip()
    except FileNotFoundError:
        return ""


def _derive(files: ClientFiles, kind: KeyType) -> str:
    path = files.device_key_of(kind)
    try:
        line = f"{public_line(ensure_key(path, kind))} tether-device"
    except BadKey as wrong:
        raise Failure(f"the device key {path} is damaged: delete it to get a new one") from wrong
    with unless_read_only():  # it is kept only to spare the work
        write_atomically(path.with_suffix(".pub"), f"{line}\n", mode=0o644)
    return line
