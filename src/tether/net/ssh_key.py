"""An ed25519 key of SSH in a file, made once: a device's, or an agent's.

Law: the private key is in OpenSSH's form, for its owner alone, and a file that is there is never made
anew. Made with `cryptography`, not with `ssh-keygen`: a machine may hold an SSH program of another
make. It is imported only where a key is made or read (35 ms), which most commands need not.
"""

from __future__ import annotations

from pathlib import Path

from tether.config import make_once


class BadKey(Exception):
    """A file holds no private key."""


def ensure_key(path: Path) -> bytes:
    """The private key in `path`, made where there is no such file.

    Raises:
        OSError: the file cannot be read or written.
    """
    return make_once(path, _make)


def public_line(private: bytes) -> str:
    """The public half of `private`, as one OpenSSH line without a comment.

    Raises:
        BadKey: it is no private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_private_key(private, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as wrong:
        raise BadKey(str(wrong)) from wrong
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return line.decode()


def _make() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
