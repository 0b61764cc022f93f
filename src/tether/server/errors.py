"""Why a request cannot be done, as exceptions that carry a code and one sentence for people.

Law: no HTTP here; `api/errors.py` gives each class its status. A message is safe to show to
whoever asked: it holds no secrets and nothing about what they may not see.
"""

from __future__ import annotations


class RequestError(Exception):
    """Base of what whoever asks can change. `code` is for programs, `message` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class NotFound(RequestError):
    """There is no such thing, or the asker may not know of it."""


class Ambiguous(RequestError):
    """A prefix names more than one thing."""


class Conflict(RequestError):
    """It contradicts what is already so."""


class Forbidden(RequestError):
    """The asker may not do it."""


class Invalid(RequestError):
    """The values of the request make no sense."""
