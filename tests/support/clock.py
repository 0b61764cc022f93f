"""Clocks for tests."""

from __future__ import annotations

import asyncio

from tether.protocol.timestamp import Timestamp

EPOCH = 1_800_000_000.0
"""Wall clock at the start of every test."""


def at(mono: float) -> Timestamp:
    """The moment `mono` seconds after a test's start."""
    return Timestamp(mono=mono, wall=EPOCH + mono)


class LoopClock:
    """A `tether.net.clock.Clock` that reads the running loop's (jumping) time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> Timestamp:
        return at(self._loop.time())


class HandClock:
    """A `tether.net.clock.Clock` that stands still until it is moved by hand."""

    def __init__(self, mono: float = 0.0) -> None:
        self.mono = mono

    def now(self) -> Timestamp:
        return at(self.mono)
