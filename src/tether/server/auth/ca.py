"""The SSH user CA, and the one reader of SSH public keys that come over the wire.

Law: a certificate vouches for one device's key, for one user, for one workspace, for five minutes.
What is not one well-formed OpenSSH public key line is refused here, before anything is stored.
"""

from __future__ import annotations

import asyncssh

CERTIFICATE_LIFE_S = 300
CLOCK_SKEW_S = 60
"""How far an agent's clock may lag: the certificate starts this much in the past."""

MAX_KEY_CHARS = 8192


class BadPublicKey(ValueError):
    """The text is no usable SSH public key."""


def read_public_key(line: str) -> asyncssh.SSHKey:
    """The key in one OpenSSH line ("algorithm base64 comment").

    Raises:
        BadPublicKey: it is anything else (a private key, a certificate, several lines, garbage).
    """
    if len(line) > MAX_KEY_CHARS or "\n" in line.strip() or not line.isprintable():
        raise BadPublicKey("the public key is not one OpenSSH line")
    try:
        key = asyncssh.import_public_key(line)
    except (asyncssh.KeyImportError, ValueError) as wrong:
        raise BadPublicKey(f"the public key cannot be read: {wrong}") from wrong
    if line.split()[0] != key.get_algorithm():
        raise BadPublicKey("the public key is not one OpenSSH line")
    return key


def key_line(key: asyncssh.SSHKey) -> str:
    """The public half of `key` as one OpenSSH line."""
    return key.export_public_key().decode().strip()


class UserCa:
    """Issues user certificates."""

    def __init__(self, key: asyncssh.SSHKey) -> None:
        self._key = key
        self.public_key = key_line(key)

    def certify(
        self, public_key: asyncssh.SSHKey, *, user: str, workspace_id: str, now: float
    ) -> str:
        """A certificate (one OpenSSH line) for `user`'s key, good at one workspace.

        Args:
            public_key: the device's key.
            user: the user's name; the certificate's key id is `user:<name>`.
            workspace_id: the only principal.
            now: unix seconds.
        """
        certificate = self._key.generate_user_certificate(
            public_key,
            f"user:{user}",
            principals=[workspace_id],
            valid_after=int(now) - CLOCK_SKEW_S,
            valid_before=int(now) + CERTIFICATE_LIFE_S,
        )
        return certificate.export_certificate().decode().strip()
