"""squid as a company's proxy: clients, agents and relays come out of their networks only through it.

Law: Debian's package, in the foreground. It carries what CONNECT asks for, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tether_gauntlet.lab.middlebox.middlebox import Middlebox, Place

_CONFIG = """http_port {port}
http_access {access} all
cache deny all
cache_mem 8 MB
access_log none
cache_log /dev/null
pid_filename none
coredump_dir /tmp
shutdown_lifetime 1 seconds
forwarded_for off
pinger_enable off
read_timeout {read_s} seconds
client_lifetime {lifetime_s} seconds
"""


def squid(*, read_s: int = 900, lifetime_s: int = 86_400, denies: bool = False) -> Middlebox:
    """squid.

    Args:
        read_s: seconds without a byte from the server after which it ends a connection.
        lifetime_s: the longest that it serves one client's connection.
        denies: it answers every request with 403.
    """
    return Middlebox(
        name="squid",
        summary="clients, agents and relays go through squid, by CONNECT",
        command=partial(_command, read_s, lifetime_s, denies),
        connect_proxy=True,
        needs=frozenset({"squid"}),
    )


def _command(read_s: int, lifetime_s: int, denies: bool, place: Place) -> Sequence[str]:
    config = _CONFIG.format(
        port=place.routes[0].port,
        access="deny" if denies else "allow",
        read_s=read_s,
        lifetime_s=lifetime_s,
    )
    return ("squid", "-N", "-f", place.write("squid.conf", config))
