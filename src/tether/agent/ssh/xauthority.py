"""The cookies of forwarded displays in the user's `.Xauthority`: added, replaced, removed.

Law: the file is written beside itself and moved into place, under the lock that `xauth` and Xlib take
too (two files, `-c` and `-l`), and only its owner may read it. What others keep in it stays. A damaged
end is dropped, as `xauth` does. Each call asks for the lock once: whoever waits for it waits outside.
`now` is in Unix seconds.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

FAMILY_LOCAL = 256
"""The family of displays on the host that the entry names; Xlib looks `localhost:N` up by it."""

DEAD_LOCK_S = 10.0
"""A lock that is older belongs to nobody any more (`xauth` waits as long)."""

MAX_PART = 4096
"""Bytes of a cookie and of its protocol's name. Real ones have 16 and 18."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie."""

    family: int
    address: bytes
    number: bytes
    protocol: bytes
    cookie: bytes

    def __bytes__(self) -> bytes:
        parts = (self.address, self.number, self.protocol, self.cookie)
        return _short(self.family) + b"".join(_short(len(part)) + part for part in parts)


class Locked(Exception):
    """Somebody else writes the file; try again in a moment."""


def entries(path: str) -> list[Cookie]:
    """What the file holds, up to where it is damaged; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return list(_read(file.read()))
    except FileNotFoundError:
        return []


def put(path: str, number: int, protocol: bytes, cookie: bytes, *, now: float) -> None:
    """Make `cookie` the only one of our display `number`.

    Raises:
        Locked: try again.
        OSError: it cannot be written.
        ValueError: the cookie or its protocol is empty or too long.
    """
    if not 0 < len(protocol) <= MAX_PART or not 0 < len(cookie) <= MAX_PART:
        raise ValueError("a display's cookie that is none")
    new = Cookie(FAMILY_LOCAL, _host(), str(number).encode(), protocol, cookie)
    with _locked(path, now):
        _write(path, [new, *(entry for entry in entries(path) if _place(entry) != _place(new))])


def remove(path: str, number: int, cookie: bytes, *, now: float) -> None:
    """Forget this cookie of our display `number`; a newer one of the same display stays.

    Raises:
        Locked: try again.
        OSError: it cannot be written.
    """
    place = (FAMILY_LOCAL, _host(), str(number).encode())
    with _locked(path, now):
        found = entries(path)
        left = [entry for entry in found if (_place(entry), entry.cookie) != (place, cookie)]
        if left != found:
            _write(path, left)


def _place(entry: Cookie) -> tuple[int, bytes, bytes]:
    return entry.family, entry.address, entry.number


def _host() -> bytes:
    return socket.gethostname().encode("utf-8", "surrogateescape")


def _read(data: bytes) -> Iterator[Cookie]:
    rest = io.BytesIO(data)

    def take(size: int) -> bytes:
        taken = rest.read(size)
        if len(taken) < size:
            raise EOFError
        return taken

    def part() -> bytes:
        return take(int.from_bytes(take(2), "big"))

    with contextlib.suppress(EOFError):
        while True:
            family = int.from_bytes(take(2), "big")
            yield Cookie(family, part(), part(), part(), part())


def _write(path: str, wanted: list[Cookie]) -> None:
    beside = f"{path}-n"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.writelines(bytes(entry) for entry in wanted)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


@contextlib.contextmanager
def _locked(path: str, now: float) -> Iterator[None]:
    """Hold the lock as libXau's XauLockAuth does: who can link one name to the other has it."""
    creating, linked = f"{path}-c", f"{path}-l"
    for name in (creating, linked):
        with contextlib.suppress(FileNotFoundError):
            if now - os.stat(name).st_ctime > DEAD_LOCK_S:
                os.unlink(name)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(creating, flags, 0o600))
    except FileExistsError:
        raise Locked from None
    try:
        os.link(creating, linked)
    except FileExistsError:
        os.unlink(creating)
        raise Locked from None
    except OSError:
        linked = creating  # a file system without links: the first name alone is the lock
    try:
        yield
    finally:
        for name in {creating, linked}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def _short(number: int) -> bytes:
    return number.to_bytes(2, "big")
