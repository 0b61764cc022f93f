"""How a program with a port starts: its lock, its socket, its loop, and the signals that stop it.

Law: what keeps a program from starting is a `CannotStart`, whose text is one line for its operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tether.net.clock import Clock
from tether.net.transport.http_server import bind


class CannotStart(Exception):
    """The program cannot start; the text is one sentence that says what to do."""


@contextlib.contextmanager
def locked(data_dir: Path, program: str = "server") -> Iterator[None]:
    """Hold the data directory, made where there is none; one program at a time.

    Raises:
        CannotStart: another server has it, or it cannot be used.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as wrong:
        raise CannotStart(f"{data_dir} cannot be used: {wrong.strerror}") from wrong
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as wrong:
        raise CannotStart(
            f"another `tether {program}` uses {data_dir}: stop it, or choose another --data-dir"
        ) from wrong
    finally:
        os.close(descriptor)


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[HOST]:PORT`; port 0 is any free port.

    Raises:
        CannotStart: it is neither.
    """
    host, colon, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise CannotStart(f"{text!r} is no address: write HOST:PORT, such as 127.0.0.1:7081")
    return host, int(port)


def listen_socket(host: str, port: int) -> socket.socket:
    """A socket to listen with.

    Raises:
        CannotStart: the address cannot be had.
    """
    try:
        return bind(host, port)
    except OSError as wrong:
        where = f"{host}:{port}"
        raise CannotStart(f"{where} cannot be listened at: {wrong.strerror or wrong}") from wrong


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


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it imports, asyncio elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
