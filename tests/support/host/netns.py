"""A network namespace of one's own for one coroutine; nothing outside can see or be seen.

A thread leaves for the new namespace (unshare(2) moves one thread alone), and what it starts follows.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from tests.support.deadline import DEADLINE_S

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def ip(*words: str) -> str:
    """`ip WORDS`, in the namespace of the calling thread; what it says."""
    done = subprocess.run(
        ["ip", *words], check=True, capture_output=True, timeout=DEADLINE_S, text=True
    )
    return done.stdout


def in_namespace(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` in a network namespace that has nothing but a loopback that is down.

    Skips the test, and says so, where there is none to be had.
    """
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and iproute2")
    libc = ctypes.CDLL(None, use_errno=True)
    result: list[T] = []
    wrong: list[BaseException] = []

    def body() -> None:
        if libc.unshare(_CLONE_NEWNET):
            wrong.append(OSError(ctypes.get_errno(), "unshare"))
            return
        try:
            result.append(asyncio.run(main()))
        except BaseException as caught:
            wrong.append(caught)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if wrong and isinstance(wrong[0], OSError) and str(wrong[0]).endswith("unshare"):
        pytest.skip(f"no network namespace: {os.strerror(wrong[0].errno or 0)}")
    if wrong:
        raise wrong[0]
    return result[0]
