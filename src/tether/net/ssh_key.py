"""A key of SSH in a file, made once: a device's, or an agent's.

Law: the private key is for its owner alone, and a file that is there is never made anew. An ed25519 key
is in OpenSSH's form, which has the only one; the others are in the PEM of OpenSSL, which the old
programs read that they are made for. Made with `cryptography`, not with `ssh-keygen`: a machine may
hold an SSH program of another make. It is imported only where a key is made or read (35 ms), which most
commands need not.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from tether.config import make_once

RSA_BITS = 3072
"""As `ssh-keygen` makes them."""


class KeyType(StrEnum):
    """What kinds of keys are made; the value is how ssh names their files."""

    ED25519 = "ed25519"
    ECDSA = "ecdsa"
    """On nistp256."""
    RSA = "rsa"


class BadKey(Exception):
    """A file holds no private key, or a line no certificate."""


def ensure_key(path: Path, kind: KeyType = KeyType.ED25519) -> bytes:
    """The private key in `path`, made where there is no such file.

    Making an RSA key takes up to some seconds.

    Raises:
        OSError: the file cannot be read or written.
    """
    return make_once(path, lambda: _make(kind))


def public_line(private: bytes) -> str:
    """The public half of `private`, as one OpenSSH line without a comment.

    Raises:
        BadKey: it is no private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        if b"BEGIN OPENSSH" in private:
            key = serialization.load_ssh_private_key(private, password=None).public_key()
        else:
            pem = serialization.load_pem_private_key(private, password=None)
            key = pem.public_key()  # type: ignore[assignment]  # more kinds than ssh has: see below
        line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    except (ValueError, TypeError, UnsupportedAlgorithm) as wrong:
        raise BadKey(str(wrong)) from wrong
    return line.decode()


def vouched_for(certificate: str, authority: str) -> str:
    """The public key, one OpenSSH line, that a host certificate vouches for.

    Args:
        certificate: one OpenSSH line.
        authority: the public key that must have signed it, one OpenSSH line without a comment.

    Raises:
        BadKey: it is no host certificate, or somebody else has signed it.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        read = serialization.load_ssh_public_identity(certificate.encode())
        if not isinstance(read, serialization.SSHCertificate):
            raise BadKey("it is no certificate")
        read.verify_cert_signature()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as wrong:
        raise BadKey(str(wrong) or "its signature is wrong") from wrong
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    if read.type is not serialization.SSHCertificateType.HOST:
        raise BadKey("it is not for a host")
    if read.signature_key().public_bytes(*form).decode() != authority:
        raise BadKey("another key has signed it")
    return read.public_key().public_bytes(*form).decode()


def _make(kind: KeyType) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    form = serialization.PrivateFormat.TraditionalOpenSSL
    match kind:
        case KeyType.ED25519:
            key = ed25519.Ed25519PrivateKey.generate()
            form = serialization.PrivateFormat.OpenSSH
        case KeyType.ECDSA:
            key = ec.generate_private_key(ec.SECP256R1())
        case KeyType.RSA:
            key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
