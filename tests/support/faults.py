"""Every exception class that the libraries below us can raise, and one that none of them can.

Law: found by looking into the modules, so that a newer version of a library brings its new classes with
it. Each is an instance that can be raised and told; errors of the kernel are there once for each errno.
"""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import errno
import http.client
import inspect
import json
import os
import socket
import sqlite3
import ssl
import struct
import urllib.error
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import asyncssh
import cryptography.exceptions
import h11
import msgspec
import sqlalchemy.exc
import uvicorn.protocols.utils
import websockets.datastructures
import websockets.exceptions
import websockets.http11
from websockets.exceptions import ConnectionClosedError

MODULES: tuple[ModuleType, ...] = (
    builtins,
    asyncio.exceptions,
    asyncssh,
    concurrent.futures,
    cryptography.exceptions,
    h11,
    http.client,
    json,
    msgspec,
    socket,
    sqlalchemy.exc,
    sqlite3,
    ssl,
    struct,
    urllib.error,
    uvicorn.protocols.utils,
    websockets.exceptions,
)

_ARGUMENTS: tuple[tuple[Any, ...], ...] = (
    ("https://odd", 502, "odd", None, None),
    ("odd",),
    (),
    (None, None),
    (1, "odd"),
    ("odd", "doc", 0),
    ("utf-8", b"\xff", 0, 1, "odd"),
    ("odd", [ValueError("odd")]),
    (b"odd", 7),
    ("odd", None, ValueError("odd")),
    (websockets.http11.Response(502, "odd", websockets.datastructures.Headers()),),
    ("utf-8", "odd", 0, 1, "odd"),
    ("odd", 0, 1, "odd"),
    ("odd", "odd", "odd", 0),
    ("odd", None, 1, None, 1, "odd", "odd"),
    ("odd", "odd", "odd"),
    (1, 2, 3, 4),
)


class Unheard(Exception):
    """What no library can raise."""


def _told(wrong: Exception) -> bool:
    try:
        return bool(f"{type(wrong).__name__}: {wrong}")
    except Exception:  # made without what its text needs
        return False


def _made(kind: type[Exception]) -> Exception | None:
    for arguments in _ARGUMENTS:
        try:
            made = kind(*arguments)
        except Exception:  # not those arguments
            continue
        if _told(made):
            return made
    return None


def _classes() -> Iterator[type[Exception]]:
    for module in MODULES:
        for kind in vars(module).values():  # what is there, and not what is made when asked for
            if inspect.isclass(kind) and issubclass(kind, Exception):
                yield kind


CLASSES = tuple(dict.fromkeys(_classes()))
_INSTANCES = tuple(made for kind in CLASSES if (made := _made(kind)) is not None)
ONE_OF_EACH: tuple[Exception, ...] = (*_INSTANCES, Unheard("odd"))
"""One instance of each class."""

FAULTS: tuple[Exception, ...] = (
    *ONE_OF_EACH,
    *(OSError(number, os.strerror(number)) for number in sorted(errno.errorcode)),
)
"""Those, and one for each errno."""

A_FEW: tuple[Exception, ...] = (
    ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)),
    TimeoutError(),
    ssl.SSLError(1, "odd"),
    ConnectionClosedError(None, None),
    EOFError(),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "odd"),
    sqlite3.OperationalError("odd"),
    KeyError("odd"),
    MemoryError(),
    Unheard("odd"),
)
"""One of each kind: what the ordinary run of the tests raises."""
