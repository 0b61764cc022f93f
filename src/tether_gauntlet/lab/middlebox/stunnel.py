"""stunnel: TLS ends here, and what was inside goes on as bytes.

Law: Debian's package, in the foreground. Nobody tells the server whose connection it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tether_gauntlet.lab.middlebox.middlebox import Middlebox, Place

_CONFIG = """foreground = yes
pid =
debug = 4
TIMEOUTidle = {idle_s}
cert = {both}
"""

_SERVICE = """[to{port}]
accept = {port}
connect = {backend}
"""


def stunnel(*, idle_s: int = 43_200, expired: bool = False) -> Middlebox:
    """stunnel.

    Args:
        idle_s: seconds of silence after which it ends a connection.
        expired: its certificate ran out.
    """
    return Middlebox(
        name="stunnel",
        summary="stunnel ends TLS and passes bytes on",
        command=partial(_command, idle_s),
        tls=True,
        needs=frozenset({"stunnel"}),
        expired=expired,
    )


def _command(idle_s: int, place: Place) -> Sequence[str]:
    config = _CONFIG.format(idle_s=idle_s, both=place.certificate.both) + "".join(
        _SERVICE.format(port=route.port, backend=route.backend) for route in place.routes
    )
    return ("stunnel", place.write("stunnel.conf", config))
