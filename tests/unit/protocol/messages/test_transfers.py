"""Records of file transfers: they survive the wire, and keep their tag."""

from __future__ import annotations

import msgspec
from hypothesis import given

from tests.support.protocol.messages import of_type
from tether.protocol.messages.transfers import FileAct, FileOperations


@given(of_type(FileOperations))
def test_a_record_survives_the_wire(record: msgspec.Struct) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=FileOperations) == record


def test_the_words_do_not_change() -> None:
    assert FileOperations.__struct_config__.tag == "file_operations"
    assert [str(act) for act in FileAct] == [
        "read",
        "write",
        "create",
        "set_attributes",
        "remove",
        "make_directory",
        "remove_directory",
        "rename",
        "symlink",
        "hard_link",
    ]
