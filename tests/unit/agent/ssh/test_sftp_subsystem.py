"""What users are told of errors that SFTP has no word for, and our own SFTP server on such disks."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any, cast

import pytest

from tether.agent.ssh import sftp_subsystem


def test_what_an_sftp_server_says_is_shown_once_and_without_its_functions_names() -> None:
    shown: list[bytes] = []
    complaints = sftp_subsystem.Complaints(shown.append)
    full = b'process_write: write "/d/f": No space left on device\r\n'
    for piece in (
        full[:20],
        full[20:] + full,
        full,
        b'open "/q/\xff": Disk quota exceeded\n\n',
        b"half",
    ):
        complaints.feed(piece)
    assert shown == [
        b'tether: sftp: write "/d/f": No space left on device\n',
        b'tether: sftp: open "/q/\xff": Disk quota exceeded\n',
    ]
    for number in range(100):
        complaints.feed(b"line %d\n" % number)
    assert len(shown) == sftp_subsystem.MAX_COMPLAINTS


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_our_own_sftp_server_says_what_the_protocol_cannot(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(OSError, match=os.strerror(number)),
        sftp_subsystem._errors_printed("write", bytes(tmp_path / "f")),
    ):
        raise OSError(number, os.strerror(number))
    assert capsys.readouterr().err == f'write "{tmp_path}/f": {os.strerror(number)}\n'


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EEXIST])
def test_what_the_protocol_can_say_is_not_said_twice(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(OSError, match=os.strerror(number)),
        sftp_subsystem._errors_printed("open", "f"),
    ):
        raise OSError(number, os.strerror(number))
    assert capsys.readouterr().err == ""


def test_our_own_sftp_server_writes_all_or_fails(tmp_path: Path) -> None:
    class Narrow(io.FileIO):
        """Takes three bytes at a time, as a disk that fills up may."""

        def write(self, data: Any) -> int:
            return super().write(bytes(data[:3]))

    server = sftp_subsystem._Server(cast(Any, sftp_subsystem._Standard()))
    with Narrow(str(tmp_path / "f"), "w") as file:
        assert server.write(file, 0, b"0123456789") == 10
    assert (tmp_path / "f").read_bytes() == b"0123456789"
