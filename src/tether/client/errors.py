"""What a command says when it cannot do its job: one line, and an exit code.

Law: a leaf, so that the fast paths may use it; what it needs of others is imported where it is used. The
text is for people and says what to do. Tracebacks
and the log lines of libraries are for developers: TETHER_DEBUG shows them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

DEBUG = "TETHER_DEBUG"

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_CONNECTION_FAILED = 255
"""As ssh's own: the connection failed, whatever a remote command might have answered."""

EXIT_INTERRUPTED = 130


LOOK_INTO_IT = (
    "`tether netcheck` looks at what is in between; where a proxy is needed, name it in HTTPS_PROXY"
)
"""What to do where something does not answer."""


class Failure(Exception):
    """`main` prints it as `tether: …` on stderr and exits with `code`."""

    def __init__(self, message: str, code: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.code = code


def os_failure(wrong: OSError) -> Failure:
    """The line for a file that cannot be used: the system's words, and which file."""
    what = wrong.strerror or type(wrong).__name__
    return Failure(f"{wrong.filename}: {what}" if wrong.filename else what)


@contextlib.contextmanager
def connecting() -> Iterator[None]:
    """Turns what keeps a connection from coming up into one sentence and the exit code that `ssh` has
    for it."""
    from tether.config import ConfigError
    from tether.net.transport.streams import DialFailed

    try:
        yield
    except (Failure, ConfigError, DialFailed, OSError) as wrong:
        told = os_failure(wrong) if isinstance(wrong, OSError) else wrong
        raise Failure(str(told), EXIT_CONNECTION_FAILED) from wrong


def set_up_logging(env: Mapping[str, str]) -> None:
    """Keep log lines away from users; with TETHER_DEBUG they go to stderr."""
    if env.get(DEBUG):
        from tether.log import configure

        # The WebSocket's library would write our token down with its headers.
        configure(level="debug", program="client", noisy=("websockets",))
    else:
        import logging  # 10 ms that most commands need not pay

        logging.getLogger().addHandler(logging.NullHandler())
