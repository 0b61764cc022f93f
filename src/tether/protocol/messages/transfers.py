"""What an agent records about files that a session moved or changed.

Law: types only; bounded by whoever fills them. A record says what a client asked for, not whether it
was done: the agent reads the requests that pass it by and looks into no answer.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class FileAct(StrEnum):
    """What was asked to be done to a path."""

    READ = "read"
    WRITE = "write"
    CREATE = "create"
    SET_ATTRIBUTES = "set_attributes"
    REMOVE = "remove"
    MAKE_DIRECTORY = "make_directory"
    REMOVE_DIRECTORY = "remove_directory"
    RENAME = "rename"
    SYMLINK = "symlink"
    HARD_LINK = "hard_link"


class FileOperation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request, or the same one several times. `act` is a `FileAct` word."""

    act: str
    path: str
    target: str = ""
    """Rename: the new name. Links: what they lead to."""
    first_at: float
    count: int = 1


class FileOperations(
    msgspec.Struct, frozen=True, kw_only=True, tag="file_operations", omit_defaults=True
):
    """The file operations of one session."""

    connection_id: str
    session_id: str
    program: str
    """"sftp", "scp" or "rsync"; operations are known of sftp only."""
    operations: list[FileOperation] = []
    left_out: int = 0
    """Requests that were too many to be kept."""
    complete: bool = True
    """False where the stream could not be followed to its end."""
