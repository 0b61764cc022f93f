"""The standard middleboxes, each made to misbehave in a way that all of them know.

Law: a table; what a kind cannot do is not in it.
"""

from __future__ import annotations

from tether_gauntlet.lab.middlebox.haproxy import haproxy, haproxy_tcp
from tether_gauntlet.lab.middlebox.middlebox import Middlebox
from tether_gauntlet.lab.middlebox.nginx import nginx
from tether_gauntlet.lab.middlebox.squid import squid
from tether_gauntlet.lab.middlebox.stunnel import stunnel

_HANGING_UP = (nginx(answer="hang-up"), haproxy(rejects=True), haproxy_tcp(rejects=True))


def hanging_up(box: Middlebox) -> Middlebox:
    """nginx and HAProxy (both modes) that accept connections and close them at once."""
    return next(one for one in _HANGING_UP if one.name == box.name)


def impatient(idle_s: int) -> tuple[Middlebox, ...]:
    """Every kind, set to end connections that are silent for so long."""
    return (
        nginx(read_s=idle_s),
        haproxy(tunnel_s=idle_s),
        haproxy_tcp(idle_s=idle_s),
        squid(read_s=idle_s),
        stunnel(idle_s=idle_s),
    )
