"""nginx as people put it in front of a server: TLS ends here, WebSockets are passed on.

Law: Debian's package, in the foreground, with everything that it writes in its own directory. What is
not named here is nginx's own default, the read time-out of a minute above all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from tether_gauntlet.lab.middlebox.middlebox import Middlebox, Place

Answer = Literal["", "502", "page", "redirect", "hang-up"]
"""What it answers by itself instead of passing requests on: an error as of a gateway whose server is
away, a page, the address of a log-in page, or nothing at all: it accepts, reads, and closes."""

_ANSWERS: dict[Answer, str] = {
    "502": "return 502;",
    "page": 'default_type text/html; return 200 "<html><title>Log in</title></html>";',
    "redirect": "return 302 https://login.example/;",
    "hang-up": "return 444;",
}

_CONFIG = """worker_processes 1;
user root;
pid {directory}/pid;
error_log stderr warn;
worker_shutdown_timeout {drain_s}s;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
  proxy_http_version 1.1;
  proxy_read_timeout {read_s}s;
  proxy_set_header Host $http_host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  ssl_certificate {certificate};
  ssl_certificate_key {key};
{servers}}}
"""

_SERVER = """  server {{
    listen {port} ssl;
    location / {{ {answer} }}
  }}
"""


def nginx(
    *, read_s: int = 60, drain_s: int = 3, answer: Answer = "", expired: bool = False
) -> Middlebox:
    """nginx.

    Args:
        read_s: seconds without a byte from the server after which it ends a connection.
        drain_s: seconds that connections have left when it is told to read its configuration anew.
        answer: it answers so, by itself.
        expired: its certificate ran out.
    """
    return Middlebox(
        name="nginx",
        summary="nginx ends TLS and tells the server whose request it was",
        command=partial(_command, read_s, drain_s, answer),
        tls=True,
        tells_address=True,
        needs=frozenset({"nginx"}),
        expired=expired,
    )


def _command(read_s: int, drain_s: int, answer: Answer, place: Place) -> Sequence[str]:
    servers = "".join(
        _SERVER.format(
            port=route.port,
            answer=_ANSWERS.get(answer) or f"proxy_pass http://{route.backend};",
        )
        for route in place.routes
    )
    config = _CONFIG.format(
        directory=place.directory,
        drain_s=drain_s,
        read_s=read_s,
        certificate=place.certificate.certificate,
        key=place.certificate.key,
        servers=servers,
    )
    return ("nginx", "-c", place.write("nginx.conf", config), "-g", "daemon off;")
