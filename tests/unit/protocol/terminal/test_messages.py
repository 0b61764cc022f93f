"""Attaches: their messages, their framing, and the machine that ends each of them exactly once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.support.clock import at
from tests.support.protocol.messages import of_type
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.messages.base import Garbage
from tether.protocol.terminal import attach
from tether.protocol.terminal.attach import AttachServer, AttachState, agent_goodbye
from tether.protocol.terminal.messages import (
    MAX_FRAME,
    MAX_INIT,
    TYPES,
    AttachEnded,
    Detach,
    FrameReader,
    Init,
    Item,
    Kill,
    List,
    OpeningReader,
    Rename,
    Resize,
    Snapshot,
    TerminalMessage,
    Unrecognized,
    decode_text,
    encode_text,
    frame,
    opening_line,
    pack,
    unpack,
)

messages: st.SearchStrategy[Any] = st.one_of(*(of_type(cls) for cls in TYPES.values()))
items: st.SearchStrategy[Item] = messages | st.binary(max_size=50)


def read(data: bytes) -> list[Item]:
    return list(FrameReader().feed(data))


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return (data[a:b] for a, b in itertools.pairwise(marks))


# -- messages ---------------------------------------------------------------------------------


@given(message=messages)
def test_a_message_survives_the_wire(message: TerminalMessage) -> None:
    assert decode_text(encode_text(message)) == message
    assert unpack(pack(message)) == message


def test_every_message_has_a_wire_type_and_only_data_is_without() -> None:
    assert set(TYPES) == {
        *("init", "resize", "detach", "list", "rename", "kill"),
        *("attached", "snapshot", "listing", "done", "refused", "attach_ended"),
    }
    assert unpack(pack(b"\x1b[2J")) == b"\x1b[2J"


def test_a_message_of_a_newer_peer_is_told_apart_from_garbage() -> None:
    assert decode_text(b'["teleport",{"to":"moon"}]') == Unrecognized(message_type="teleport")


def test_unknown_keys_are_ignored_and_missing_ones_take_their_defaults() -> None:
    text = b'["init",{"rows":24,"cols":80,"colour":"red"}]'
    assert decode_text(text) == Init(rows=24, cols=80)
    assert Init(rows=24, cols=80).history == 1_000


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b'["init"]', b'["init",{"rows":"x","cols":80}]', b'["init",{}]', b"\xff"],
)
def test_what_is_no_message_is_garbage(text: bytes) -> None:
    with pytest.raises(Garbage):
        decode_text(text)


@pytest.mark.parametrize("payload", [b"", b"\x02abc", b"\x01nonsense"])
def test_a_payload_of_unknown_kind_is_garbage(payload: bytes) -> None:
    with pytest.raises(Garbage):
        unpack(payload)


def test_a_message_is_one_line_of_json_so_that_it_can_be_typed_by_hand() -> None:
    assert encode_text(Detach()) == b'["detach",{}]'
    assert opening_line(Init(rows=1, cols=2, command="a\nb")) == (
        b'["init",{"rows":1,"cols":2,"command":"a\\nb"}]\n'
    )


# -- framing ----------------------------------------------------------------------------------


@given(sent=st.lists(items, max_size=6), cuts=st.lists(st.integers(0, 10_000), max_size=5))
def test_frames_arrive_whole_however_the_carrier_cuts_them(
    sent: list[Item], cuts: list[int]
) -> None:
    reader = FrameReader()
    stream = b"".join(map(frame, sent))
    assert [item for piece in pieces(stream, cuts) for item in reader.feed(piece)] == sent


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 2**32 - 1])
def test_a_frame_of_absurd_length_is_garbage_at_once(length: int) -> None:
    with pytest.raises(Garbage):
        read(length.to_bytes(4, "big"))


@given(cuts=st.lists(st.integers(0, 10_000), max_size=5), rest=st.binary(max_size=20))
def test_the_first_line_may_arrive_in_pieces_and_with_what_follows(
    cuts: list[int], rest: bytes
) -> None:
    reader, opened = OpeningReader(), None
    after = b""
    for piece in pieces(opening_line(INIT) + rest, cuts):
        if opened is not None:
            after += piece
        else:
            opened = reader.feed(piece)
    assert opened is not None
    assert (opened[0], opened[1] + after) == (INIT, rest)


@pytest.mark.parametrize("line", [b"x" * (MAX_INIT + 1), b"x" * (MAX_INIT + 1) + b"\n", b"\n"])
def test_a_first_line_that_is_too_long_or_empty_is_garbage(line: bytes) -> None:
    with pytest.raises(Garbage):
        OpeningReader().feed(line)


# -- the machine ------------------------------------------------------------------------------

INIT = Init(rows=24, cols=80, id="work")


def server(**options: Any) -> AttachServer:
    return AttachServer(at(0), workspace="dev", **options)


def opened() -> AttachServer:
    machine = server()
    assert machine.receive(opening_line(INIT), at(1)) == [attach.Open(INIT)]
    machine.attached = True
    return machine


def said(commands: list[attach.Command]) -> AttachEnded:
    """What the client is told last; the carrier is closed after it."""
    assert commands[-1] == attach.Close()
    (told,) = [read(c.frame)[0] for c in commands if isinstance(c, attach.SendToClient)]
    assert isinstance(told, AttachEnded)
    return told


def test_a_client_says_what_it_wants_and_then_types() -> None:
    machine = server()
    sent = opening_line(INIT) + frame(b"ls\r") + frame(Resize(rows=30, cols=100))
    assert machine.receive(sent, at(1)) == [
        attach.Open(INIT),
        attach.Type(b"ls\r"),
        attach.SetSize(30, 100),
    ]
    assert (machine.state, machine.cell.ended) == (AttachState.OPEN, False)


def test_sizes_are_bounded_and_a_hidden_window_changes_nothing() -> None:
    machine = server()
    huge = Init(rows=70_000, cols=70_000)
    assert machine.receive(opening_line(huge), at(1)) == [attach.Open(Init(rows=1000, cols=1000))]
    assert machine.receive(frame(Resize(rows=0, cols=0)), at(2)) == []
    assert machine.receive(frame(Resize(rows=5, cols=9_999)), at(2)) == [attach.SetSize(5, 1000)]


@pytest.mark.parametrize("request_", [List(), Rename(id="a", name="b"), Kill(id="a")])
def test_a_request_may_come_alone_or_during_an_attach(request_: Any) -> None:
    machine = server()
    assert machine.receive(opening_line(request_), at(1)) == [
        attach.AnswerRequest(request_, alone=True)
    ]
    told = said(machine.finish(at(2)))
    assert (told.cause, told.exit_code) == ("session.exit", 0)
    assert opened().receive(frame(request_), at(1)) == [attach.AnswerRequest(request_, alone=False)]


def test_a_detach_is_the_clients_goodbye_and_the_terminal_lives_on() -> None:
    machine = opened()
    commands = machine.receive(frame(b"x") + frame(Detach()) + frame(b"too late"), at(2))
    assert commands[0] == attach.Type(b"x")
    told = said(commands[1:])
    assert (told.cause, told.terminal_lives) == ("session.detached", True)
    assert (
        told.sentence == "The client detached from the terminal, which lives on in the workspace."
    )
    disconnect = machine.verdict().disconnect
    assert (disconnect.reason, disconnect.initiator, disconnect.expected) == (
        "client_closed",
        "client",
        True,
    )


def test_a_channel_that_the_client_closes_is_closed_by_the_client() -> None:
    assert said(opened().closed_by_client(at(2))).cause == "client.closed"


def test_a_lost_connection_keeps_its_own_cause_and_nobody_is_told() -> None:
    machine = opened()
    lost = ev.StreamEnded(vantage=Vantage.RELAY, at=2.0, peer=Party.CLIENT, how=StreamEnd.EOF)
    known = ev.Authenticated(vantage=Vantage.AGENT, at=0.5, user="alice", method="publickey")
    assert machine.lost(known, lost) == [attach.Close()]
    assert machine.cell.facts == (known, lost)
    assert machine.verdict().disconnect.cause == "client.vanished"


@pytest.mark.parametrize(("code", "killer"), [(0, None), (3, None), (None, "KILL")])
def test_an_exit_carries_the_processs_status(code: int | None, killer: str | None) -> None:
    told = said(opened().exited(at(9), exit_code=code, exit_signal=killer))
    cause = "session.signal" if killer else "session.exit"
    assert (told.cause, told.exit_code, told.exit_signal) == (cause, code, killer)
    assert told.terminal_lives is False


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b'["teleport",{}]\n',
        b'["resize",{"rows":1,"cols":1}]\n',
        b'["init",{"rows":0,"cols":80}]\n',
        b'["init",{"rows":-1,"cols":80}]\n',
        b"\xff\xff\n",
    ],
)
def test_a_bad_beginning_is_the_clients_protocol_error(line: bytes) -> None:
    machine = server()
    told = said(machine.receive(line, at(1)))
    assert (told.cause, told.terminal_lives) == ("client.protocol_error", False)
    assert told.detail
    assert machine.receive(opening_line(INIT), at(2)) == []


@pytest.mark.parametrize("sent", [b"\0\0\0\0", frame(Snapshot(rows=1, cols=1, vt=""))])
def test_garbage_during_an_attach_ends_it_but_not_the_terminal(sent: bytes) -> None:
    told = said(opened().receive(sent, at(2)))
    assert (told.cause, told.terminal_lives) == ("client.protocol_error", True)


def test_what_a_newer_client_sends_is_ignored() -> None:
    newer = b'\x01["teleport",{}]'
    assert opened().receive(len(newer).to_bytes(4, "big") + newer, at(2)) == []
    assert opened().receive(frame(b""), at(2)) == []


def test_a_client_that_says_nothing_is_given_up() -> None:
    machine = server(timeout=30.0)
    assert machine.receive(b'["init",', at(5)) == []
    assert machine.deadline() == 30.0
    assert machine.tick(at(29.9)) == []
    assert said(machine.tick(at(30))).cause == "client.handshake_timeout"
    assert machine.deadline() is None


def test_an_open_attach_has_no_deadline() -> None:
    machine = opened()
    assert (machine.deadline(), machine.tick(at(1e6))) == (None, [])


def test_the_first_end_wins_and_later_ones_are_symptoms() -> None:
    machine = opened()
    first = agent_goodbye("agent.shutdown", at(2), actor="signal:15 from pid 1 uid 0")
    told = said(machine.end(first, terminal_lives=False))
    assert (told.cause, told.actor) == ("agent.shutdown", "signal:15 from pid 1 uid 0")
    assert machine.closed_by_client(at(3)) == []
    assert machine.receive(frame(Detach()), at(3)) == []
    assert machine.cell.facts == (first,)
    assert [type(fact) for fact in machine.cell.symptoms] == [ev.GoodbyeSaid]


@given(data=st.lists(st.binary(max_size=30), max_size=5))
def test_no_bytes_break_the_machine(data: list[bytes]) -> None:
    machine = server()
    closes = 0
    for piece in data:
        closes += machine.receive(piece, at(1)).count(attach.Close())
    assert closes == int(machine.state is AttachState.CLOSED)
    assert machine.cell.ended == (machine.state is AttachState.CLOSED)
