"""Starting the laboratory's CONNECT proxy on a host.

Law: the proxy itself is `connect_proxy.py`, a program of its own; this only starts it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tether_gauntlet.lab.building import DOMAIN
from tether_gauntlet.lab.host import Host
from tether_gauntlet.lab.program import Program


def start_proxy(
    host: Host, *, port: int = 3128, options: Sequence[str] = ()
) -> tuple[Program, str]:
    """Start an HTTP CONNECT proxy.

    Args:
        options: `--credentials USER:PASSWORD`, `--idle-s S`, `--captive`.

    Returns:
        The program, and the URL by which other hosts know it.
    """
    argv = [sys.executable, "-m", "tether_gauntlet.lab.connect_proxy"]
    proxy = host.start("proxy", [*argv, f"--listen=0.0.0.0:{port}", *options])
    proxy.wait_event("proxy ready")
    return proxy, f"http://{host.name}.{DOMAIN}:{port}"
