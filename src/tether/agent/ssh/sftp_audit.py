"""Reads the requests of an SFTP session as they pass by, and remembers what is done to which path.

Law: passive and harmless. Bytes go in and nothing comes back: no input raises, delays or changes the
session, and none makes this grow. A packet is kept only as far as its names can reach (64 KiB); data is
skipped by its length. A stream that is no SFTP, or a packet beyond 4 MiB, switches the reader off for
good (`complete` is False then): guessing where the next packet begins would invent records. Equal
requests are counted, not listed; after 512 different ones the rest is only counted.

SFTP version 3 (draft-ietf-secsh-filexfer-02) and OpenSSH's extensions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tether.protocol.messages.reports import FileAct, FileOperation, FileOperations

MAX_KEPT = 64 << 10
"""Bytes of one packet that are looked at."""

MAX_PACKET = 4 << 20
MAX_OPERATIONS = 512
MAX_PATH = 1024
"""Characters of a path in a record."""

_U32 = struct.Struct(">I")
_INIT, _OPEN, _RENAME, _SYMLINK, _EXTENDED = 1, 3, 18, 20, 200
_FLAG_WRITE, _FLAG_CREATE = 0x02, 0x08

_ONE_PATH = {
    9: FileAct.SET_ATTRIBUTES,
    13: FileAct.REMOVE,
    14: FileAct.MAKE_DIRECTORY,
    15: FileAct.REMOVE_DIRECTORY,
}
_EXTENSIONS = {
    b"posix-rename@openssh.com": FileAct.RENAME,
    b"hardlink@openssh.com": FileAct.HARD_LINK,
    b"lsetstat@openssh.com": FileAct.SET_ATTRIBUTES,
}
_KEPT_TYPES = frozenset({_OPEN, _RENAME, _SYMLINK, _EXTENDED, *_ONE_PATH})
_KNOWN_TYPES = frozenset({_INIT, *range(3, 24), _EXTENDED})


class _Short(Exception):
    """The packet ends before its fields do."""


@dataclass(frozen=True, slots=True)
class _Key:
    act: FileAct
    path: str
    target: str = ""


class SftpAudit:
    """Follows the client's half of one session. Call `feed` with every piece of its input."""

    def __init__(self) -> None:
        self.complete = True  # everything could be read
        self.left_out = 0  # operations that are in no record
        self._operations: dict[_Key, tuple[float, int]] = {}  # when it was first, and how often
        self._head = b""  # what has come of a packet's length and type
        self._kept = bytearray()  # what is kept of the present packet
        self._missing = 0  # bytes of the present packet that have not come yet
        self._keeping = False  # the present packet names paths

    def feed(self, data: bytes | memoryview, at: float) -> None:
        """More of the input arrived; `at` is unix seconds."""
        view = memoryview(data)
        while view and self.complete:
            if self._missing:
                view = self._body(view, at)
                continue
            wanted = 5 - len(self._head)  # length and type
            self._head, view = self._head + bytes(view[:wanted]), view[wanted:]
            if len(self._head) == 5:
                self._begin(at)

    def record(
        self, connection_id: str, session_id: str, program: str = "sftp"
    ) -> FileOperations | None:
        """What is known now; None where nothing was seen."""
        if not self._operations and self.complete:
            return None
        return FileOperations(
            connection_id=connection_id,
            session_id=session_id,
            program=program,
            operations=[
                FileOperation(
                    act=key.act, path=key.path, target=key.target, first_at=at, count=count
                )
                for key, (at, count) in self._operations.items()
            ],
            left_out=self.left_out,
            complete=self.complete,
        )

    def _begin(self, at: float) -> None:
        length, kind = _U32.unpack_from(self._head)[0], self._head[4]
        self._head = b""
        if not 1 <= length <= MAX_PACKET or kind not in _KNOWN_TYPES:
            self.complete = False
            self._kept.clear()
            return
        self._missing = length - 1
        self._keeping = kind in _KEPT_TYPES
        self._kept = bytearray([kind])
        if not self._missing:
            self._end(at)

    def _body(self, view: memoryview, at: float) -> memoryview:
        here, rest = view[: self._missing], view[self._missing :]
        self._missing -= len(here)
        if self._keeping:
            self._kept += here[: MAX_KEPT - len(self._kept)]
        if not self._missing:
            self._end(at)
        return rest

    def _end(self, at: float) -> None:
        packet, self._kept = bytes(self._kept), bytearray()
        if not self._keeping:
            return
        try:
            key = _read(packet)
        except _Short:
            self.left_out += 1  # names beyond what is kept, or a request that will be refused
            return
        if key is None:
            return
        first, count = self._operations.get(key, (at, 0))
        if not count and len(self._operations) >= MAX_OPERATIONS:
            self.left_out += 1
            return
        self._operations[key] = (first, count + 1)


def _read(packet: bytes) -> _Key | None:
    kind, at = packet[0], 5  # behind the request's id
    if kind == _EXTENDED:
        name, at = _string(packet, at)
        return _read_extension(name, packet, at)
    path, at = _string(packet, at)
    if kind == _OPEN:
        return _Key(_opened(_number(packet, at)), _text(path))
    if kind in _ONE_PATH:
        return _Key(_ONE_PATH[kind], _text(path))
    second, at = _string(packet, at)
    if kind == _SYMLINK:  # OpenSSH's order, which nearly everybody follows: first what it leads to
        return _Key(FileAct.SYMLINK, _text(second), _text(path))
    return _Key(FileAct.RENAME, _text(path), _text(second))


def _read_extension(name: bytes, packet: bytes, at: int) -> _Key | None:
    act = _EXTENSIONS.get(name)
    if act is None:
        return None
    path, at = _string(packet, at)
    if act is FileAct.SET_ATTRIBUTES:
        return _Key(act, _text(path))
    target, at = _string(packet, at)
    if act is FileAct.HARD_LINK:
        return _Key(act, _text(target), _text(path))
    return _Key(act, _text(path), _text(target))


def _opened(flags: int) -> FileAct:
    if flags & _FLAG_CREATE:
        return FileAct.CREATE
    return FileAct.WRITE if flags & _FLAG_WRITE else FileAct.READ


def _number(packet: bytes, at: int) -> int:
    if at + 4 > len(packet):
        raise _Short
    return int(_U32.unpack_from(packet, at)[0])


def _string(packet: bytes, at: int) -> tuple[bytes, int]:
    end = at + 4 + _number(packet, at)
    if end > len(packet):
        raise _Short
    return packet[at + 4 : end], end


def _text(raw: bytes) -> str:
    """A path for people and JSON; bytes that are no UTF-8 show as escapes."""
    text = raw[: 4 * MAX_PATH].decode("utf-8", "backslashreplace")
    return text if len(text) <= MAX_PATH else text[: MAX_PATH - 1] + "…"
