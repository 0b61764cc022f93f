"""Signals with their sender: who asked this process to stop.

Law: `block` is called in the main thread before any other thread starts. A thread then takes the signals
with sigwaitinfo(2), which tells the sender's pid and uid; where there is none, `net.host.platform` has
the next best, and the sender is "". Programs that this process starts inherit the
blocked signals unless they are given an empty mask (`os.posix_spawn(..., setsigmask=())`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tether.net.host import platform

WATCHED = platform.signals("SIGTERM", "SIGINT", "SIGHUP")
_SI_KERNEL = 0x80

THE_KERNEL = "the kernel"
"""The sender of a signal that no program sent: of SIGHUP, as the terminal is closed."""


@dataclass(frozen=True, slots=True)
class Received:
    """One signal. `sender` is "pid 1 uid 0", "the kernel" (a closed terminal), or ""."""

    number: int
    sender: str


def block(signals: Iterable[signal.Signals] = WATCHED) -> None:
    """Keep the default action from happening; call this first in the main thread."""
    platform.block_signals(signals)


class SignalWatcher:
    """Hands every watched signal to `on_signal` in the event loop's thread."""

    def __init__(
        self,
        on_signal: Callable[[Received], None],
        signals: Iterable[signal.Signals] = WATCHED,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_signal = on_signal
        self._wait_for = {*signals, *platform.signals("SIGUSR2")}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._wait, name="signals", daemon=True)
        self._before: dict[signal.Signals, Any] = {}
        if platform.BLOCKS_SIGNALS:
            platform.block_signals(self._wait_for)
            self._thread.start()
        else:
            for number in self._wait_for:
                self._before[number] = signal.signal(number, self._interrupted)

    def stop(self) -> None:
        """End the thread; no more signals are handed over."""
        self._stopping.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if not self._thread.is_alive():
            return
        signal.pthread_kill(self._thread.ident or 0, signal.SIGUSR2)
        self._thread.join(timeout=1.0)

    def _wait(self) -> None:
        while not self._stopping.is_set():
            number, told = platform.wait_for_signal(self._wait_for)
            if self._stopping.is_set():
                return
            if number == signal.SIGUSR2:
                continue
            if not self._hand_over(Received(number, _sender(told))):
                return

    def _interrupted(self, number: int, _frame: object) -> None:
        """Where signals only interrupt: nobody is told who sent it."""
        self._hand_over(Received(number, ""))

    def _hand_over(self, received: Received) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._on_signal, received)
        except RuntimeError:
            return False  # the loop is closed, and this process ends
        return True


def _sender(info: Any) -> str:
    if info is None:
        return ""
    if info.si_code == _SI_KERNEL or info.si_pid == 0:
        return THE_KERNEL
    if info.si_pid == os.getppid():
        return f"pid {info.si_pid} uid {info.si_uid} (the parent)"
    return f"pid {info.si_pid} uid {info.si_uid}"
