"""What the platform says when there is no more of something."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tether.attribution.vocabulary import Party, Resource
from tether.net.link.evidence import exhausted


@pytest.mark.parametrize(
    ("number", "starting", "of"),
    [
        (errno.ENOSPC, False, Resource.DISK),
        (errno.EDQUOT, False, Resource.DISK),
        (errno.EMFILE, False, Resource.DESCRIPTORS),
        (errno.ENFILE, False, Resource.DESCRIPTORS),
        (errno.ENOMEM, False, Resource.MEMORY),
        (errno.EAGAIN, True, Resource.PROCESSES),
        (errno.EAGAIN, False, None),
        (errno.ECONNRESET, False, None),
    ],
)
def test_an_errno_says_what_ran_out(number: int, starting: bool, of: Resource | None) -> None:
    fact = exhausted(OSError(number, "x"), party=Party.AGENT, at=1.0, starting=starting)
    assert (None if fact is None else fact.resource) == of


def test_what_is_no_error_of_the_platform_says_nothing() -> None:
    assert exhausted(ValueError("x"), party=Party.AGENT, at=1.0) is None
    assert exhausted(None, party=Party.AGENT, at=1.0) is None


def test_a_full_disk_says_so_and_where(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full to write to")
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left") as full:
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)
    fact = exhausted(full.value, party=Party.AGENT, at=1.0)
    assert fact is not None and fact.resource is Resource.DISK
