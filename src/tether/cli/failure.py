"""What a command says when it cannot do its job: one line, and an exit code.

Law: a leaf without imports, so that the fast paths may use it. The text is for people, ends without a
full stop unless it is a whole sentence of the catalogue, and says what to do.
"""

from __future__ import annotations

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_CONNECTION_FAILED = 255
"""As ssh's own: the connection failed, whatever a remote command might have answered."""

EXIT_INTERRUPTED = 130


class Failure(Exception):
    """`main` prints it as `tether: …` on stderr and exits with `code`."""

    def __init__(self, message: str, code: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.code = code
