"""Claims about reading an SFTP request stream: exact where it can be, harmless always."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, strategies as st

from tether.agent.ssh.sftp_audit import MAX_KEPT, MAX_OPERATIONS, MAX_PACKET, MAX_PATH, SftpAudit
from tether.protocol.messages.reports import FileOperation, FileOperations


def string(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def packet(kind: int, body: bytes = b"", request: int = 7) -> bytes:
    payload = bytes([kind]) + struct.pack(">I", request) + body
    return struct.pack(">I", len(payload)) + payload


def opened(path: bytes, flags: int) -> bytes:
    return packet(3, string(path) + struct.pack(">II", flags, 0))


def extended(name: bytes, *strings: bytes) -> bytes:
    return packet(200, string(name) + b"".join(map(string, strings)))


INIT = struct.pack(">IBI", 5, 1, 3)
WRITE = packet(6, string(b"handle") + struct.pack(">Q", 0) + string(b"x" * 32768))

SESSION = b"".join(
    [
        INIT,
        opened(b"/etc/hosts", 0x01),
        opened(b"/tmp/new", 0x1A),
        WRITE,
        packet(4, string(b"handle")),
        opened(b"/tmp/old", 0x02),
        packet(9, string(b"/tmp/new") + struct.pack(">I", 0)),
        packet(13, string(b"/tmp/gone")),
        packet(14, string(b"/tmp/dir") + struct.pack(">I", 0)),
        packet(15, string(b"/tmp/dir")),
        packet(18, string(b"/a") + string(b"/b")),
        packet(20, string(b"leads-to") + string(b"/link")),
        extended(b"posix-rename@openssh.com", b"/c", b"/d"),
        extended(b"hardlink@openssh.com", b"/e", b"/f"),
        extended(b"lsetstat@openssh.com", b"/g"),
        extended(b"statvfs@openssh.com", b"/h"),
        packet(17, string(b"/only/looked/at")),
        packet(11, string(b"/only/listed")),
    ]
)
DONE = [
    ("read", "/etc/hosts", ""),
    ("create", "/tmp/new", ""),
    ("write", "/tmp/old", ""),
    ("set_attributes", "/tmp/new", ""),
    ("remove", "/tmp/gone", ""),
    ("make_directory", "/tmp/dir", ""),
    ("remove_directory", "/tmp/dir", ""),
    ("rename", "/a", "/b"),
    ("symlink", "/link", "leads-to"),
    ("rename", "/c", "/d"),
    ("hard_link", "/f", "/e"),
    ("set_attributes", "/g", ""),
]


def known(audit: SftpAudit) -> list[tuple[str, str, str]]:
    record = audit.record("c1", "s1")
    assert record is not None
    return [(op.act, op.path, op.target) for op in record.operations]


def test_every_change_is_recorded_and_looking_is_not() -> None:
    audit = SftpAudit()
    audit.feed(SESSION, 1.0)
    assert known(audit) == DONE
    assert audit.complete
    assert audit.left_out == 0


@given(st.lists(st.integers(1, 900), max_size=200))
def test_pieces_of_any_size_read_the_same(sizes: list[int]) -> None:
    audit, at = SftpAudit(), 0
    for size in sizes:
        audit.feed(SESSION[at : at + size], 1.0)
        at += size
    audit.feed(memoryview(SESSION)[at:], 1.0)
    assert known(audit) == DONE


def test_the_same_request_is_counted() -> None:
    audit = SftpAudit()
    for at in (1.0, 2.0, 3.0):
        audit.feed(packet(13, string(b"/x")), at)
    assert audit.record("c1", "s1") == FileOperations(
        connection_id="c1",
        session_id="s1",
        program="sftp",
        operations=[FileOperation(act="remove", path="/x", first_at=1.0, count=3)],
    )


def test_what_is_too_much_is_counted_and_known_ones_still_count() -> None:
    audit = SftpAudit()
    for number in range(MAX_OPERATIONS + 100):
        audit.feed(packet(13, string(b"/%d" % number)), 1.0)
    audit.feed(packet(13, string(b"/0")), 1.0)
    record = audit.record("c1", "s1")
    assert record is not None
    assert (len(record.operations), record.left_out) == (MAX_OPERATIONS, 100)
    assert record.operations[0].count == 2


def test_a_path_is_bounded_and_readable() -> None:
    audit = SftpAudit()
    audit.feed(packet(13, string(b"/\xff\xfe" + "é".encode() * 9000)), 1.0)
    ((_, path, _),) = known(audit)
    assert path.startswith("/\\xff\\xfeé")
    assert len(path) == MAX_PATH


def test_names_beyond_what_is_kept_are_counted_as_left_out() -> None:
    audit = SftpAudit()
    audit.feed(packet(18, string(b"x" * MAX_KEPT) + string(b"/b")), 1.0)
    audit.feed(packet(13, string(b"/after")), 1.0)
    assert known(audit) == [("remove", "/after", "")]
    assert (audit.left_out, audit.complete) == (1, True)


@pytest.mark.parametrize(
    "wrong",
    [
        struct.pack(">IB", MAX_PACKET + 1, 6),
        struct.pack(">IB", 0, 1),
        b"SSH-2.0-OpenSSH\r\n",
        struct.pack(">IB", 5, 99),
    ],
    ids=["too long", "empty", "not sftp", "unknown type"],
)
def test_a_stream_that_cannot_be_followed_switches_it_off(wrong: bytes) -> None:
    audit = SftpAudit()
    audit.feed(packet(13, string(b"/before")), 1.0)
    audit.feed(wrong, 1.0)
    audit.feed(packet(13, string(b"/after")), 1.0)
    record = audit.record("c1", "s1")
    assert record is not None
    assert not record.complete
    assert [op.path for op in record.operations] == ["/before"]


def test_a_session_that_did_nothing_has_no_record() -> None:
    audit = SftpAudit()
    audit.feed(INIT, 1.0)
    assert audit.record("c1", "s1") is None


_packets = st.builds(
    packet, st.integers(0, 255), st.binary(max_size=300), st.integers(0, 2**32 - 1)
)


@given(st.lists(st.binary(max_size=400) | _packets, max_size=40))
def test_no_input_raises_or_makes_it_grow(pieces: list[bytes]) -> None:
    audit = SftpAudit()
    for piece in pieces:
        audit.feed(piece, 1.0)
        assert len(audit._kept) <= MAX_KEPT
        assert len(audit._head) < 5
    assert len(audit._operations) <= MAX_OPERATIONS
    audit.record("c1", "s1")


@given(st.integers(0, len(SESSION) - 1), st.integers(0, 255))
def test_one_wrong_byte_is_harmless(position: int, value: int) -> None:
    audit = SftpAudit()
    audit.feed(SESSION[:position] + bytes([value]) + SESSION[position + 1 :], 1.0)
    audit.record("c1", "s1")
