"""The server's own Ed25519 keys: one signs relay tickets, one is the CA of users' SSH certificates.

Law: made once per data directory, mode 0600, written whole or not at all, and never logged or sent.
A file that is there but cannot be read stops the server: a silently replaced key would cut off every
agent that trusts the old one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import asyncssh
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tether.config import make_once
from tether.net.ssh_key import ensure_key

TICKET_KEY, USER_CA_KEY = "ticket-key.pem", "ssh-user-ca"


class BadKeyFile(Exception):
    """A key file is there but is not what it should be; the text says which and what to do."""


@dataclass(frozen=True)
class ServerKeys:
    """Both private keys."""

    ticket: Ed25519PrivateKey
    user_ca: asyncssh.SSHKey

    @property
    def resume(self) -> bytes:
        """The key of resume tokens, derived from the tickets' key."""
        raw = self.ticket.private_bytes_raw()
        return hashlib.sha256(b"tether resume tokens\0" + raw).digest()


def load_keys(data_dir: Path) -> ServerKeys:
    """The keys in `data_dir`, made first where there are none.

    Raises:
        BadKeyFile: a file is there but holds no key of the right kind.
        OSError: the directory cannot be read or written.
    """
    return ServerKeys(
        ticket=_ticket_key(data_dir / TICKET_KEY), user_ca=_user_ca(data_dir / USER_CA_KEY)
    )


def _ticket_key(path: Path) -> Ed25519PrivateKey:
    stored = make_once(
        path,
        lambda: Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    try:
        key = serialization.load_pem_private_key(stored, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as wrong:
        raise _bad(path) from wrong
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad(path)
    return key


def _user_ca(path: Path) -> asyncssh.SSHKey:
    try:
        key = asyncssh.import_private_key(ensure_key(path))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as wrong:
        raise _bad(path) from wrong
    if key.get_algorithm() != "ssh-ed25519":
        raise _bad(path)
    return key


def _bad(path: Path) -> BadKeyFile:
    return BadKeyFile(f"{path} holds no Ed25519 key: restore it from a backup, or move it away")
