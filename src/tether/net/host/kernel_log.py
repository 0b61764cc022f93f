"""Which processes the kernel killed because memory ran out, as its log says.

Law: reads only. The whole log is read each time, which takes some milliseconds. Most containers may not
read it, and its process ids are those of the first namespace: outside of that the answer is None.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tether.net.host.identity import in_first_pid_namespace

KMSG = Path("/dev/kmsg")
_RECORD = 8192
_KILLED = re.compile(
    rb"^\d+,\d+,(\d+),[^;]*;(?:Memory cgroup out of memory|Out of memory)[^:]*: Killed process (\d+)"
)


def oom_victims(path: Path = KMSG) -> dict[int, float] | None:
    """The processes that were killed for memory, with the time in seconds since the boot without sleep.

    None if the log cannot be read here.
    """
    if not in_first_pid_namespace():
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    found = {}
    try:
        while True:
            try:
                record = os.read(descriptor, _RECORD)
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # a record was overwritten while we read: the next one follows
            if not record:
                break
            if killed := _KILLED.match(record):
                found[int(killed[2])] = int(killed[1]) / 1e6
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return found
