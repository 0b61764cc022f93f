"""This device's SSH key: made once, by us, so that a user sets up no keys.

Law: the private key never leaves this machine and is readable by its owner alone. Made with
`cryptography`, not with `ssh-keygen`: a device may hold an SSH program of another make, and the cost
of the import (35 ms) is paid once in a device's life.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tether.client.errors import Failure
from tether.config import ClientFiles, write_atomically


def ensure_device_key(files: ClientFiles) -> str:
    """The public key as one OpenSSH line; makes the key pair if there is none.

    Raises:
        Failure: the files are there but cannot be used.
    """
    path, public = files.device_key, _public(files)
    try:
        if path.exists():
            return public.read_text().strip() or _derive(path, public)
        return _create(path, public)
    except FileNotFoundError:
        return _derive(path, public)
    except OSError as wrong:
        raise Failure(f"the device key {path} cannot be used: {wrong.strerror}") from wrong


def _create(path: Path, public: Path) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    # Of two commands that run for the first time at once, one makes the key and both use it: the key
    # is linked into place, which fails if it is there.
    candidate = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    write_atomically(candidate, pem)
    with contextlib.suppress(FileExistsError):
        os.link(candidate, path)
    candidate.unlink()
    return _derive(path, public)


def _derive(path: Path, public: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as wrong:
        raise Failure(f"the device key {path} is damaged: delete it to get a new one") from wrong
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    text = f"{line.decode()} tether-device"
    write_atomically(public, text + "\n", mode=0o644)
    return text


def _public(files: ClientFiles) -> Path:
    return files.device_key.with_name(f"{files.device_key.name}.pub")
