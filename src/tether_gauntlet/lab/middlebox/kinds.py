"""The standard middleboxes: each scenario for which it makes sense can run behind every one of them.

Law: a table. What is in it is real software, as most deployments have it.
"""

from __future__ import annotations

from tether_gauntlet.lab.middlebox.haproxy import haproxy, haproxy_tcp
from tether_gauntlet.lab.middlebox.middlebox import Middlebox
from tether_gauntlet.lab.middlebox.nginx import nginx
from tether_gauntlet.lab.middlebox.squid import squid
from tether_gauntlet.lab.middlebox.stunnel import stunnel

NGINX = nginx()
HAPROXY = haproxy()
HAPROXY_TCP = haproxy_tcp()
SQUID = squid()
STUNNEL = stunnel()

STANDARD: tuple[Middlebox, ...] = (NGINX, HAPROXY, HAPROXY_TCP, SQUID, STUNNEL)
