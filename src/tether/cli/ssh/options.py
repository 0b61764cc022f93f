"""The options with which a stock `ssh` goes through Tether: one list for `tether ssh` and config-ssh.

Law: pure. Host keys are pinned and checked by ssh itself; nothing of the user's own keys is offered;
AES-GCM comes first, because it is twice as fast here as what OpenSSH prefers. How much ssh says is the
user's to choose: what it says by default is meant for them (the port that `-R 0` got, why nothing was
agreed upon).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tether.config import ClientFiles
from tether.net.ssh_key import KeyType


def executable(argv0: str = "", python: str = "") -> list[str]:
    """How another program starts this one: the installed script, else Python with our module."""
    given = Path(argv0 or sys.argv[0])
    beside = Path(python or sys.executable).with_name("tether")
    for candidate in (given if given.name == "tether" else beside, beside):
        if candidate.is_file():
            return [str(candidate.absolute())]
    # -P: the directory in which the user happens to be must not shadow our modules.
    return [str(Path(python or sys.executable).absolute()), "-P", "-m", "tether"]


def proxy_command(program: list[str], host: str) -> str:
    """The ProxyCommand: ssh expands % and hands the rest to a shell."""
    words = [shlex.quote(word).replace("%", "%%") for word in program]
    return " ".join([*words, "ssh", "--stdio", "--", f"'{host}'"])


def options(
    files: ClientFiles, program: list[str], host: str, keys: Sequence[KeyType]
) -> list[tuple[str, str]]:
    """Keywords of ssh_config(5) with their values, as they are written in a file.

    Args:
        files: where key and pins are.
        program: how to start tether.
        host: what the ProxyCommand is told; `%h` in a file for every host.
        keys: the types of the device's keys.
    """
    return [
        ("ProxyCommand", proxy_command(program, host)),
        ("UserKnownHostsFile", quoted(files.known_hosts)),
        ("GlobalKnownHostsFile", "none"),
        ("StrictHostKeyChecking", "yes"),
        ("UpdateHostKeys", "no"),
        ("CheckHostIP", "no"),
        # The others are for programs without ed25519, as in FIPS mode; the pinned key vouches for them.
        ("HostKeyAlgorithms", "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256"),
        *(("IdentityFile", quoted(files.device_key_of(kind))) for kind in keys),
        ("IdentitiesOnly", "yes"),
        # The agent is told our bare key with every tunnel. The certificate beside the key is for
        # other programs: ssh reads it before its ProxyCommand has fetched a fresh one, and would
        # have it refused first.
        ("CertificateFile", "none"),
        ("PreferredAuthentications", "publickey"),
        ("Ciphers", "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"),
        ("Compression", "no"),
        ("ForwardX11", "no"),
        ("ServerAliveInterval", "0"),
    ]


def quoted(path: Path) -> str:
    """A path as a value of ssh_config: quoted, with % taken literally."""
    text = str(path).replace("%", "%%")
    return f'"{text}"' if any(c.isspace() for c in text) else text
