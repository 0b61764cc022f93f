"""HAProxy, in both of its modes: as an HTTP proxy that ends TLS, and as a load balancer of TCP.

Law: Debian's package, master and worker in the foreground. Its time-outs are those of its own
documentation's examples, unless a scenario says otherwise.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from functools import partial

from tether_gauntlet.lab.host import Host
from tether_gauntlet.lab.middlebox.middlebox import Middlebox, Place

_CONFIG = """global
  stats socket abns@{socket} level admin
  hard-stop-after {drain_s}s
defaults
  mode {mode}
  timeout connect 5s
  timeout client {idle_s}s
  timeout server {idle_s}s
  timeout tunnel {tunnel_s}s
  {forwarded}
{fronts}"""

_FRONT = """frontend front{port}
  bind :{port} {tls}
  {rule}
  default_backend back{port}
backend back{port}
  server only {backend}
"""


def haproxy(
    *, idle_s: int = 60, tunnel_s: int = 3600, drain_s: int = 5, rejects: bool = False
) -> Middlebox:
    """HAProxy in HTTP mode.

    Args:
        idle_s: seconds of silence after which it ends a connection that is no WebSocket.
        tunnel_s: the same of a WebSocket.
        drain_s: seconds that connections have left when it is reloaded.
        rejects: it accepts every connection and closes it at once.
    """
    return Middlebox(
        name="haproxy",
        summary="HAProxy ends TLS and tells the server whose request it was",
        command=partial(_command, "http", idle_s, tunnel_s, drain_s, rejects),
        tls=True,
        tells_address=True,
        needs=frozenset({"haproxy"}),
        reload_signal=signal.SIGUSR2,
    )


def haproxy_tcp(
    *, idle_s: int = 3600, drain_s: int = 5, rejects: bool = False, name: str = "haproxy-tcp"
) -> Middlebox:
    """HAProxy in TCP mode: it sees bytes only, and the server sees only it.

    Args: as of `haproxy`.
    """
    return Middlebox(
        name=name,
        summary="HAProxy balances TCP connections",
        command=partial(_command, "tcp", idle_s, idle_s, drain_s, rejects),
        needs=frozenset({"haproxy"}),
        reload_signal=signal.SIGUSR2,
    )


def shut_sessions(host: Host, box: Middlebox) -> None:
    """Let it end every connection to the server, as an operator does (`shutdown sessions server`)."""
    socket = f"abstract-connect:{_socket(box.name)},unix-tightsocklen=0"
    orders = "".join(f"shutdown sessions server {name}/only\n" for name in _backends(host, box))
    host.run("socat", "stdio", socket, given=orders, check=True)


def _socket(name: str) -> str:
    """Its socket for orders has a name of its network namespace: a path may be too long for one."""
    return f"{name}-orders"


def _backends(host: Host, box: Middlebox) -> list[str]:
    config = (host.directory / box.name / "haproxy.cfg").read_text()
    lines = config.splitlines()
    return [line.split()[1] for line in lines if line.startswith("backend ")]


def _command(
    mode: str, idle_s: int, tunnel_s: int, drain_s: int, rejects: bool, place: Place
) -> Sequence[str]:
    http = mode == "http"
    fronts = "".join(
        _FRONT.format(
            port=route.port,
            tls=f"ssl crt {place.certificate.both}" if http else "",
            rule="tcp-request connection reject" if rejects else "",
            backend=route.backend,
        )
        for route in place.routes
    )
    config = _CONFIG.format(
        socket=_socket(place.directory.name),
        drain_s=drain_s,
        mode=mode,
        idle_s=idle_s,
        tunnel_s=tunnel_s,
        forwarded="option forwardfor" if http else "",
        fronts=fronts,
    )
    return ("haproxy", "-W", "-db", "-f", place.write("haproxy.cfg", config))
