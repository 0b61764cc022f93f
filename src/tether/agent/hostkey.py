"""The agent's SSH host key: made once, kept in the data directory, its public line for the server."""

from __future__ import annotations

from pathlib import Path

import asyncssh

HOST_KEY_FILE = "ssh_host_ed25519_key"


class HostKey:
    """An ed25519 host key. `public_line` is one OpenSSH line without a comment or newline."""

    def __init__(self, key: asyncssh.SSHKey) -> None:
        self.key = key
        self.public_line: str = ""


def load_or_create(data_dir: Path) -> HostKey:
    """The host key in `data_dir`, made (mode 0600) where there is none."""
    raise NotImplementedError
