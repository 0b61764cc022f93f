"""What a grant says about the workspace, checked and kept before a byte is forwarded.

Law: a host key that must not be trusted is a `Failure`, and nothing is dialled.
"""

from __future__ import annotations

from tether.client.host_keys import KeyCheck, Pin, check
from tether.client.outcome import say
from tether.config import ClientFiles, write_atomically
from tether.protocol.messages.tunnel import TunnelGrant


def trust(files: ClientFiles, workspace: str, grant: TunnelGrant) -> None:
    """Pin the host key, or compare it with the pinned one; keep the fresh certificate.

    Raises:
        Failure: the key must not be trusted; the text says what to do.
    """
    judged = check(files, workspace, Pin(grant.workspace_id, grant.host_key))
    if judged is KeyCheck.OTHER_WORKSPACE:
        say(
            f"{workspace} is another workspace than the one of that name used before; "
            "its host key is pinned anew"
        )
    if grant.certificate:
        write_atomically(files.certificate, f"{grant.certificate.strip()}\n", mode=0o644)
