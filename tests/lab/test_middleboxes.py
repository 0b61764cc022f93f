"""What stands between the parties: every kind carries a session, and does what it is told to."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.host.talk import heard, pass_on
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.capabilities import require
from tether_gauntlet.lab.middlebox.kinds import STANDARD
from tether_gauntlet.lab.middlebox.middlebox import FRONT, Front, Middlebox
from tether_gauntlet.lab.middlebox.nginx import Answer, nginx
from tether_gauntlet.lab.middlebox.rogue import order, rogue
from tether_gauntlet.lab.stack import SERVER_PORT, LabStack
from tether_gauntlet.lab.topology import LabNode, Topology, internet

pytestmark = pytest.mark.lab

MakeLab = Callable[[Topology], Lab]


def world(*, agents: int) -> Topology:
    nodes = internet(relays=(), agents=agents).nodes
    return Topology((*nodes, LabNode(name=FRONT, parent="inet")))


@pytest.mark.parametrize("box", [*STANDARD, rogue()], ids=lambda box: box.name)
def test_a_session_goes_through_it(make_lab: MakeLab, box: Middlebox) -> None:
    require(*box.needs)
    lab = make_lab(world(agents=1))
    front = Front(lab, box, [("server", SERVER_PORT)])
    with LabStack(
        lab,
        server_options=front.server_options,
        url=front.url("server"),
        agent_options=("--direct-listen", "off"),
    ) as stack:
        stack.create_workspace()
        stack.start_agent()
        stack.log_in()
        stack.configure_ssh()
        assert stack.ssh("echo", "through").stdout == "through\n"
        (row,) = stack.connections(type="ssh")
        seen = lab["nat"].address if box.tells_address else lab[FRONT].address
        assert (row["connection_method"], row["client_ip"]) == ("derp", seen)


@contextmanager
def joined(lab: Lab, front: Front) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection through the middlebox."""
    with lab["server"].listen(SERVER_PORT) as listener:
        listener.settimeout(5)
        with lab["client"].connect(front.address, front.routes[0].port) as near:
            far, _ = listener.accept()
            with far:
                assert pass_on(near, far, b"hello", 5) == "arrived"
                yield near, far


def rogue_front(make_lab: MakeLab) -> Front:
    return Front(make_lab(world(agents=0)), rogue(), [("server", SERVER_PORT)])


def test_it_half_closes(make_lab: MakeLab) -> None:
    front = rogue_front(make_lab)
    with joined(front.lab, front) as (near, far):
        order(front, "half-close dialler")
        near.sendall(b"x")
        assert (heard(near), heard(far)) == ("end", "arrived")


@pytest.mark.parametrize(("what", "end"), [("cut", "end"), ("reset", "ConnectionResetError")])
def test_it_ends_what_it_carries(make_lab: MakeLab, what: str, end: str) -> None:
    front = rogue_front(make_lab)
    with joined(front.lab, front) as (near, far):
        order(front, "reset" if what == "reset" else "cut")
        assert (heard(near), heard(far)) == (end, end)


def test_it_hangs_up_and_serves_again(make_lab: MakeLab) -> None:
    front = rogue_front(make_lab)
    order(front, "hang-up")
    with front.lab["client"].connect(front.address, front.routes[0].port) as near:
        assert heard(near) == "end"
    order(front, "serve")
    with joined(front.lab, front) as (near, far):
        near.sendall(b"x")
        assert heard(far) == "arrived"


@pytest.mark.parametrize(
    ("answer", "first"),
    [
        ("502", b"HTTP/1.1 502"),
        ("page", b"HTTP/1.1 200"),
        ("redirect", b"HTTP/1.1 302"),
        ("hang-up", b""),
    ],
)
def test_nginx_answers_by_itself(make_lab: MakeLab, answer: Answer, first: bytes) -> None:
    require("nginx")
    lab = make_lab(world(agents=0))
    front = Front(lab, nginx(), [("server", SERVER_PORT)])
    with front.become(nginx(answer=answer)):
        assert said(lab, front).startswith(first)
        assert bool(said(lab, front)) is bool(first)
    assert said(lab, front).startswith(b"HTTP/1.1 502")  # nobody serves behind it


def test_a_certificate_that_ran_out_is_told_from_a_good_one(make_lab: MakeLab) -> None:
    require("nginx")
    lab = make_lab(world(agents=0))
    front = Front(lab, nginx(expired=True), [("server", SERVER_PORT)])
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        said(lab, front)


def said(lab: Lab, front: Front) -> bytes:
    """What it answers to a request over TLS."""
    trust = ssl.create_default_context(cafile=lab["client"].variables["SSL_CERT_FILE"])
    plain = lab["client"].connect(front.address, front.routes[0].port)
    with trust.wrap_socket(plain, server_hostname="front.lab") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: front.lab\r\n\r\n")
        return sock.recv(4096)


def test_it_is_away_until_it_comes_back(make_lab: MakeLab) -> None:
    front = rogue_front(make_lab)
    with front.away(), pytest.raises(ConnectionRefusedError):
        front.lab["client"].connect(front.address, front.routes[0].port)
    front.lab["client"].connect(front.address, front.routes[0].port).close()
