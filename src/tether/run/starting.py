"""How a program starts: data directory, token, the server's URL, port, loop, signals.

Law: what keeps a program from starting is a `CannotStart`, whose text is one line for its operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tether import config
from tether.attribution.vocabulary import Party
from tether.client.errors import Failure
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.transport.streams import DialFailed, MessageStream
from tether.net.unexpected import told_by_loop
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE
from tether.protocol.messages.control import ROLE_HEADER

if TYPE_CHECKING:
    from tether.net.transport.tls import CertificateFiles

LOCK_FILE = "lock"

LOOK_EVERY_S = 1.0
"""How often a token file is looked at that is to change."""

_log = get_logger("starting")


class CannotStart(Failure):
    """The program cannot start; the text is one sentence that says what to do."""


@contextlib.contextmanager
def locked(data_dir: Path, program: str) -> Iterator[None]:
    """Hold the data directory, made (mode 0700) where there is none; one program at a time.

    Args:
        data_dir: the directory.
        program: the command that asks, for people: "agent" for `tether agent`.

    Raises:
        CannotStart: another process has it, or it cannot be used.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as wrong:
        raise CannotStart(
            f"the data directory {data_dir} cannot be used: {wrong.strerror}"
        ) from wrong
    try:
        _lock(descriptor, data_dir, program)
        with contextlib.suppress(OSError):  # a full disk: the pid is only a courtesy
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, data_dir: Path, program: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as wrong:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        who = f"another `tether {program}`{f' (pid {holder})' if holder else ''}"
        raise CannotStart(
            f"{who} already uses {data_dir}: stop it, or choose another --data-dir"
        ) from wrong


def read_token(path: Path, whose: str, source: str, *, prefix: str = "") -> str:
    """The token in a file.

    Args:
        path: the file.
        whose: who is known by it, for people: "relay".
        source: which command prints it, for people.
        prefix: what such a token begins with.

    Raises:
        CannotStart: the file cannot be read, or holds no such token.
    """
    try:
        token = path.read_text().strip()
    except (OSError, ValueError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else "it is no text"
        raise CannotStart(f"the token file {path} cannot be read: {why}") from wrong
    if not token.startswith(prefix) or not config.is_token(token):
        raise CannotStart(
            f"the token file {path} holds no {whose}'s token: write into it what {source} printed"
        )
    return token


class TokenFile:
    """A token in a file, which may be replaced while we run."""

    def __init__(self, read: Callable[[], str]) -> None:
        """`read` reads it, or raises `CannotStart`."""
        self._read = read
        self._used = ""

    def token(self) -> str:
        """The token to dial with now.

        Raises:
            CannotStart: there is none.
        """
        self._used = self._read()
        return self._used

    async def another(self) -> None:
        """Wait until the file holds another token than the one that was used last."""
        while True:
            with contextlib.suppress(CannotStart):  # somebody is writing it
                if self._read() != self._used:
                    return
            await asyncio.sleep(LOOK_EVERY_S)


def warn_of_readers(token_file: Path) -> None:
    """Log a token file that others may read."""
    with contextlib.suppress(OSError):
        if token_file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            _log.warning(
                "token file can be read by others",
                path=str(token_file),
                advice=f"chmod 600 {token_file}",
            )


def control_url(server_url: str) -> str:
    """Where control links of the server at `server_url` are dialled.

    Raises:
        CannotStart: it is no URL of a server.
    """
    allowed = config.insecure_http_allowed(os.environ)
    try:
        return config.control_url(config.server_url(server_url, "--server", insecure_http=allowed))
    except config.ConfigError as wrong:
        raise CannotStart(str(wrong)) from wrong


def settle_trust(server_url: str, *, ca_file: Path | None, insecure_http: bool) -> None:
    """Settle how this process may reach its server, and what it starts, too: `TETHER_CA_FILE` and
    `TETHER_INSECURE_HTTP` are set accordingly.

    Raises:
        CannotStart: the server may not be reached so, or the authorities cannot be used.
    """
    if ca_file is not None:
        os.environ["TETHER_CA_FILE"] = str(ca_file.absolute())
    if insecure_http:
        os.environ["TETHER_INSECURE_HTTP"] = "1"
    control_url(server_url)
    if server_url.startswith("https:"):
        from tether.net.transport.trust import client_context

        try:
            client_context()
        except config.ConfigError as wrong:
            raise CannotStart(str(wrong)) from wrong
    elif config.is_clear_text(server_url):
        _log.warning(
            "SERVER IS REACHED IN CLEAR TEXT",
            server=server_url,
            advice="whoever is on the way can read the token: use https://",
        )


def control_dial(
    url: str, token: Callable[[], str], role: Party
) -> Callable[[], Awaitable[MessageStream]]:
    """Opens streams to the server's control endpoint.

    Args:
        url: where to, as `control_url` says.
        token: reads the token, anew for each dial, because it may be replaced while we run; raises
            `CannotStart`, which is a failed dial by then.
        role: what we are: a token of another kind is refused at the door.
    """

    async def dial_control() -> MessageStream:
        from tether.net.transport.ws_client import dial

        try:
            bearer = token()
        except CannotStart as wrong:
            raise DialFailed(str(wrong)) from wrong
        return await dial(
            url,
            token=bearer,
            headers={ROLE_HEADER: str(role)},
            max_size=MAX_CONTROL_MESSAGE,
            small_segments=True,  # it carries little, and must get through
        )

    return dial_control


def listen_socket(host: str, port: int) -> socket.socket:
    """A socket to listen with.

    Raises:
        CannotStart: the address cannot be had.
    """
    from tether.net.transport.http_server import bind

    try:
        return bind(host, port)
    except OSError as wrong:
        where = f"{host}:{port}"
        raise CannotStart(f"{where} cannot be listened at: {wrong.strerror or wrong}") from wrong


def certificate_of(
    certificate: Path | None, key: Path | None, clock: Clock, expires: Callable[[float], None]
) -> CertificateFiles | None:
    """The certificate that a listener shows; None where it speaks no TLS.

    Raises:
        CannotStart: it cannot be used.
    """
    if certificate is None or key is None:
        return None
    from tether.net.transport.tls import BadCertificate, CertificateFiles

    try:
        return CertificateFiles(certificate, key, clock, expires)
    except BadCertificate as wrong:
        raise CannotStart(str(wrong)) from wrong


def booted_at(clock: Clock) -> float | None:
    """When this machine booted (unix seconds), where the kernel tells."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return None if boottime is None else clock.now().wall - time.clock_gettime(boottime)


def stop_signals() -> tuple[signal.Signals, ...]:
    """A closed terminal stops a server in order, too, unless it was started to survive that."""
    ending = (signal.SIGTERM, signal.SIGINT)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return ending
    return (*ending, signal.SIGHUP)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it imports, asyncio elsewhere; what a callback raises is counted."""
    new_loop: Callable[[], asyncio.AbstractEventLoop]
    try:
        from uvloop import new_event_loop as new_loop
    except ImportError:
        new_loop = asyncio.new_event_loop

    def make() -> asyncio.AbstractEventLoop:
        loop = new_loop()
        loop.set_exception_handler(told_by_loop)
        return loop

    return make
