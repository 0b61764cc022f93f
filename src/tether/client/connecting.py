"""What a command says whose connection did not come up, or ended.

Law: one sentence and the exit code 255, as `ssh` has it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tether.client.errors import EXIT_CONNECTION_FAILED, Failure, os_failure
from tether.config import ConfigError
from tether.net.transport.streams import DialFailed


@contextlib.contextmanager
def connecting() -> Iterator[None]:
    """Turns every failure inside into one of the connection."""
    try:
        yield
    except (Failure, ConfigError, DialFailed, OSError) as wrong:
        told = os_failure(wrong) if isinstance(wrong, OSError) else wrong
        raise Failure(str(told), EXIT_CONNECTION_FAILED) from wrong
