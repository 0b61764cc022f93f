"""The agent's SSH host keys: each made once, kept in the data directory.

Law: the private keys leave their files only as asyncssh keys, never as text. A key that is there and
cannot be read is an error, not a reason to make another one: clients have pinned it. The ed25519 key is
the agent's identity: the server is told it, clients pin it, and it vouches, in a host certificate, for
the others. Those are for clients that know no ed25519, and made when the first of them comes: an RSA key
takes up to some seconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tether.net.ssh_key import BadKey, KeyType, ensure_key, public_line

HOST_KEY_FILE = "ssh_host_ed25519_key"

FURTHER = {
    b"ecdsa-sha2-nistp256": KeyType.ECDSA,
    b"rsa-sha2-512": KeyType.RSA,
    b"rsa-sha2-256": KeyType.RSA,
}
"""The algorithms by which further host keys sign, in the order of preference."""


class HostKeyUnusable(Exception):
    """A host key's file is there, but no key can be read from it. The text is for people."""


@dataclass(frozen=True, slots=True)
class CertifiedHostKey:
    """A host key beside the agent's own. `public_line` and `certificate` are OpenSSH lines without a
    newline; the certificate is signed by the agent's own host key."""

    key: asyncssh.SSHKey
    public_line: str
    certificate: str


@dataclass(frozen=True, slots=True)
class HostKey:
    """An ed25519 host key. `public_line` is one OpenSSH line without a comment or newline."""

    key: asyncssh.SSHKey
    public_line: str
    directory: Path
    """Where the further ones are kept."""
    _further: dict[KeyType, CertifiedHostKey] = field(default_factory=dict)
    """Those that were read or made."""

    @property
    def signer(self) -> Ed25519PrivateKey:
        """The same key, for what is signed outside SSH."""
        key = self.key.pyca_key
        assert isinstance(key, Ed25519PrivateKey), "made or read as one"
        return key

    async def further(self, algorithm: bytes) -> CertifiedHostKey:
        """The key for one of the `FURTHER` algorithms, made where there is none.

        Raises:
            HostKeyUnusable: its file holds no private key.
            OSError: its file cannot be read or written.
        """
        kind = FURTHER[algorithm]
        if kind not in self._further:
            self._further[kind] = await asyncio.to_thread(self._load, kind)
        return self._further[kind]

    def _load(self, kind: KeyType) -> CertifiedHostKey:
        key, line = _load(self.directory / f"ssh_host_{kind}_key", kind)
        certificate = self.key.generate_host_certificate(key, "tether host key")
        return CertifiedHostKey(key, line, certificate.export_certificate().decode().strip())


def load_or_create(data_dir: Path) -> HostKey:
    """The host key in `data_dir`, made (mode 0600) where there is none.

    Raises:
        HostKeyUnusable: the file holds no private key.
        OSError: the directory or the file cannot be read or written.
    """
    return HostKey(*_load(data_dir / HOST_KEY_FILE, KeyType.ED25519), data_dir)


def _load(path: Path, kind: KeyType) -> tuple[asyncssh.SSHKey, str]:
    private = ensure_key(path, kind)
    try:
        return asyncssh.import_private_key(private), public_line(private)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, BadKey) as wrong:
        raise HostKeyUnusable(
            f"the SSH host key {path} cannot be used ({wrong}): restore it, or remove it to get a "
            "new one (clients that have pinned the old one will then refuse to connect)"
        ) from wrong
