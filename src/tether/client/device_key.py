"""This device's SSH key: made once, by us, so that a user sets up no keys.

Law: the private key never leaves this machine. The public half is kept beside it, so that most
commands need not compute it.
"""

from __future__ import annotations

from tether.client.errors import Failure
from tether.config import ClientFiles, unless_read_only, write_atomically


def ensure_device_key(files: ClientFiles) -> str:
    """The public key as one OpenSSH line; makes the key pair if there is none.

    Raises:
        Failure: the files are there but cannot be used.
    """
    path = files.device_key
    try:
        if path.exists() and (kept := _kept(files)):
            return kept
        return _derive(files)
    except OSError as wrong:
        raise Failure(f"the device key {path} cannot be used: {wrong.strerror}") from wrong


def _kept(files: ClientFiles) -> str:
    try:
        return files.public_device_key.read_text().strip()
    except FileNotFoundError:
        return ""


def _derive(files: ClientFiles) -> str:
    from tether.net.ssh_key import BadKey, ensure_key, public_line  # not paid for where it is kept

    path = files.device_key
    try:
        line = f"{public_line(ensure_key(path))} tether-device"
    except BadKey as wrong:
        raise Failure(f"the device key {path} is damaged: delete it to get a new one") from wrong
    with unless_read_only():  # it is kept only to spare the work
        write_atomically(files.public_device_key, f"{line}\n", mode=0o644)
    return line
