"""A middlebox between the parties and the server: as a value, and as it runs on its host.

Law: a middlebox is a name, what it does to addresses and TLS, and the command that runs it in the
foreground; to add one, write just that. It is signalled by its process group, never by name, and
everything that it writes lies in its own directory.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tether_gauntlet.lab.building import DOMAIN, Lab
from tether_gauntlet.lab.fault import Fault
from tether_gauntlet.lab.faults import stop_process
from tether_gauntlet.lab.host import Host
from tether_gauntlet.lab.middlebox.certificates import Authority, CertificateFiles
from tether_gauntlet.lab.program import Program
from tether_gauntlet.lab.shell import LabError

FRONT = "front"
"""The host on which a scenario's middlebox runs, beside the server."""

READY_S = 20.0


@dataclass(frozen=True, slots=True)
class Route:
    """Where a middlebox listens, and where that leads."""

    port: int
    host: str
    """A host of the laboratory; all know it as `HOST.lab`."""
    to: int
    """The port there."""

    @property
    def backend(self) -> str:
        return f"{self.host}.{DOMAIN}:{self.to}"


@dataclass(frozen=True, slots=True)
class Place:
    """What a middlebox is given to write its configuration by."""

    directory: Path
    """Its own; empty at first."""
    routes: tuple[Route, ...]
    """To the server first, then to each host of a relay. Of no interest to a CONNECT proxy, which
    listens on the first one's port."""
    certificate: CertificateFiles
    """For `front.lab`, of an authority that every host of the laboratory trusts."""

    def write(self, name: str, text: str) -> str:
        """Write a file into the directory; its path."""
        path = self.directory / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Middlebox:
    """One kind of middlebox, and how it is configured."""

    name: str
    summary: str
    command: Callable[[Place], Sequence[str]]
    """Writes what it needs and returns the arguments that run it in the foreground."""
    tls: bool = False
    """Parties speak TLS to it."""
    tells_address: bool = False
    """It adds X-Forwarded-For, and the server is told to believe it."""
    connect_proxy: bool = False
    """Parties know the server by its own name and ask this proxy for a way to it."""
    needs: frozenset[str] = frozenset()
    """Capabilities of the machine (`lab.capabilities`)."""
    reload_signal: int = signal.SIGHUP
    """Makes it read its configuration anew."""
    expired: bool = False
    """Its certificate ran out a day ago."""


class Front:
    """A middlebox as it runs on a host."""

    def __init__(self, lab: Lab, box: Middlebox, targets: Sequence[tuple[str, int]]) -> None:
        """Start it and wait until it listens.

        Args:
            targets: host and port of the server, then of each relay.
        """
        self.lab = lab
        self.host = lab[FRONT]
        self.routes = tuple(
            Route(7443 + number, host, port) for number, (host, port) in enumerate(targets)
        )
        self._authority = Authority.of(lab)
        self._program: Program | None = None
        self.box = box
        self.start()
        self._set_environment()

    @property
    def program(self) -> Program:
        """Its process, the leader of its group."""
        if self._program is None:
            raise LabError("the middlebox does not run")
        return self._program

    @property
    def address(self) -> str:
        """Its address as the server sees it."""
        return self.host.address

    def url(self, target: str, *, websocket: bool = False) -> str:
        """Where parties reach a host behind it."""
        route = next(route for route in self.routes if route.host == target)
        scheme = "ws" if websocket else "http"
        if self.box.connect_proxy:
            return f"{scheme}://{route.backend}"
        return f"{scheme}{'s' if self.box.tls else ''}://{FRONT}.{DOMAIN}:{route.port}"

    @property
    def server_options(self) -> tuple[str, ...]:
        """What the server behind it has to be told."""
        return ("--trusted-proxy", self.address) if self.box.tells_address else ()

    # -- what it goes through ------------------------------------------------------------

    def start(self, box: Middlebox | None = None) -> None:
        """Start it, as another one if that is given, and wait until it listens."""
        self.box = box or self.box
        self._program = self.host.start(self.box.name, self._configured())
        self._program.wait("its port to be open", self._listens, READY_S)

    def stop(self) -> None:
        """End it at once: every connection through it ends, and nobody listens any more."""
        self.program.kill()
        self._program = None

    def away(self) -> Fault:
        """Take it away until this is undone."""
        self.stop()
        return Fault(self.lab.faults, f"{self.box.name} is away", self.start)

    def freeze(self) -> Fault:
        """Stop its processes; its kernel goes on."""
        return stop_process(self.lab, self.program, children=True)

    def reload(self, box: Middlebox | None = None) -> None:
        """Let it read its configuration anew, as an operator does: of the same kind of middlebox."""
        self.box = box or self.box
        self._configured()
        self.program.send_signal(self.box.reload_signal)

    def become(self, box: Middlebox) -> Fault:
        """Put another middlebox in its place until this is undone."""
        before = self.box
        self.stop()
        self.start(box)

        def undo() -> None:
            self.stop()
            self.start(before)

        return Fault(self.lab.faults, f"{before.name} has become {box.name}", undo)

    def runs(self) -> bool:
        return self._program is not None and self._program.returncode is None

    # -- how it is set up ------------------------------------------------------------------

    def _configured(self) -> Sequence[str]:
        directory = self.host.directory / self.box.name
        directory.mkdir(exist_ok=True)
        certificate = self._authority.issue(f"{FRONT}.{DOMAIN}", expired=self.box.expired)
        return self.box.command(Place(directory, self.routes, certificate))

    def _listens(self) -> bool:
        routes = self.routes[:1] if self.box.connect_proxy else self.routes
        said = [self.host.tool("ss", "-Hltn", f"sport = :{route.port}") for route in routes]
        return all(said)

    def _set_environment(self) -> None:
        proxy = f"http://{FRONT}.{DOMAIN}:{self.routes[0].port}"
        for host in self.lab.hosts.values():
            if self.box.tls:
                host.variables["SSL_CERT_FILE"] = str(self._authority.file)
            if self.box.connect_proxy and _is_a_partys(host):
                host.variables.update(http_proxy=proxy, https_proxy=proxy, no_proxy="127.0.0.1")


def _is_a_partys(host: Host) -> bool:
    """Whether a client, an agent or a relay runs there, which go out through a proxy."""
    return host.name.startswith(("client", "agent", "relay"))
