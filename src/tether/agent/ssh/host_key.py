"""The agent's SSH host key: made once, kept in the data directory, its public line for the server.

Law: the private key leaves this file only as an asyncssh key, never as text. A key that is there and
cannot be read is an error, not a reason to make another one: clients have pinned it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import asyncssh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tether.net.ssh_key import BadKey, ensure_key, public_line

HOST_KEY_FILE = "ssh_host_ed25519_key"


class HostKeyUnusable(Exception):
    """The host key's file is there, but no key can be read from it. The text is for people."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """An ed25519 host key. `public_line` is one OpenSSH line without a comment or newline."""

    key: asyncssh.SSHKey
    public_line: str

    @property
    def signer(self) -> Ed25519PrivateKey:
        """The same key, for what is signed outside SSH."""
        key = self.key.pyca_key
        assert isinstance(key, Ed25519PrivateKey), "made or read as one"
        return key


def load_or_create(data_dir: Path) -> HostKey:
    """The host key in `data_dir`, made (mode 0600) where there is none.

    Raises:
        HostKeyUnusable: the file holds no private key.
        OSError: the directory or the file cannot be read or written.
    """
    path = data_dir / HOST_KEY_FILE
    private = ensure_key(path)
    try:
        return HostKey(asyncssh.import_private_key(private), public_line(private))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, BadKey) as wrong:
        raise HostKeyUnusable(
            f"the SSH host key {path} cannot be used ({wrong}): restore it, or remove it to get a "
            "new one (clients that have pinned the old one will then refuse to connect)"
        ) from wrong
