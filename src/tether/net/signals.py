"""Signals with their sender: who asked this process to stop.

Law: `block` is called in the main thread before any other thread starts. A thread then takes the signals
with sigwaitinfo(2), which tells the sender's pid and uid. Programs that this process starts inherit the
blocked signals unless they are given an empty mask (`os.posix_spawn(..., setsigmask=())`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
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
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)


class SignalWatcher:
    """Hands every watched signal to `on_signal` in the event loop's thread."""

    def __init__(
        self,
        on_signal: Callable[[Received], None],
        signals: Iterable[signal.Signals] = WATCHED,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_signal = on_signal
        self._wait_for = {*signals, signal.SIGUSR2}
        signal.pthread_sigmask(signal.SIG_BLOCK, self._wait_for)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._wait, name="signals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; no more signals are handed over."""
        self._stopping.set()
        if not self._thread.is_alive():
            return
        signal.pthread_kill(self._thread.ident or 0, signal.SIGUSR2)
        self._thread.join(timeout=1.0)

    def _wait(self) -> None:
        while not self._stopping.is_set():
            info = signal.sigwaitinfo(self._wait_for)
            if self._stopping.is_set():
                return
            if info.si_signo == signal.SIGUSR2:
                continue
            received = Received(info.si_signo, _sender(info))
            try:
                self._loop.call_soon_threadsafe(self._on_signal, received)
            except RuntimeError:
                return  # the loop is closed, and this process ends


def _sender(info: signal.struct_siginfo) -> str:
    if info.si_code == _SI_KERNEL or info.si_pid == 0:
        return THE_KERNEL
    if info.si_pid == os.getppid():
        return f"pid {info.si_pid} uid {info.si_uid} (the parent)"
    return f"pid {info.si_pid} uid {info.si_uid}"
