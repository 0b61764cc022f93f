"""`ssh-copy-id` and a workspace: a key that it copies opens nothing, and it must not say otherwise.

Law: read only once a key was refused and another let in. `ssh-copy-id` tries a login with the key that
it is to copy, and takes one with the device's key for it ("All keys were skipped because they already
exist"). What `ssh` wrote to stderr is shown only where that login fails.
"""

from __future__ import annotations

from pathlib import Path

KEYS_OPEN_NOTHING = (
    "a copied key opens nothing in a workspace, which lets in those for whom the server vouches; "
    "`tether login` and `tether config-ssh` on the other machine are all that it needs"
)

_PROGRAM = b"ssh-copy-id"


def asks_for_its_key(ssh: int, proc: Path = Path("/proc")) -> bool:
    """Whether the process `ssh` was started by ssh-copy-id, for the key that it is to copy.

    False where the system does not tell (there is no `/proc`).
    """
    try:
        stat = (proc / str(ssh) / "stat").read_bytes()
        parent = int(stat.rpartition(b")")[2].split()[1])
        words = (proc / str(parent) / "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        return False
    return any(word.rpartition(b"/")[2] == _PROGRAM for word in words[:3])
