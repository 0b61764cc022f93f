"""Terminals that outlive their clients: who sees what, what ends when, and which cause it has."""

from __future__ import annotations

import asyncio
import errno
import signal
from functools import partial

import pytest

from tests.support.agent.terminal_rig import TerminalRig, cells
from tether.agent.process.process import ExitStatus
from tether.agent.terminal.pty import DRAIN_S, INPUT_MAX, KILL_AFTER_S
from tether.agent.terminal.viewers import QUEUE_MAX
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, Party, StreamEnd, Vantage
from tether.protocol.terminal.attach import OPENING_TIMEOUT_S, agent_goodbye
from tether.protocol.terminal.messages import (
    Attached,
    Done,
    Kill,
    List,
    Listing,
    Refused,
    Rename,
    Resize,
)

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def rig() -> TerminalRig:
    return TerminalRig()


# -- seeing --------------------------------------------------------------------------------------


async def test_the_first_client_makes_the_terminal_and_the_next_one_finds_it(
    rig: TerminalRig,
) -> None:
    first = await rig.watching(command="make", name="build")
    second = await rig.watching("bob")
    made, found = first.received[0], second.received[0]
    assert made == Attached(created=True, id="t", name="build", rows=24, cols=80, idle_s=86_400.0)
    assert found == Attached(created=False, id="t", name="build", rows=24, cols=80, idle_s=86_400.0)
    assert rig.programs.commands == ["make"]


async def test_every_viewer_sees_the_output_and_any_may_type(rig: TerminalRig) -> None:
    first, second = await rig.watching(), await rig.watching("bob")
    rig.program.write(b"hello")
    await first.until(lambda: first.output == b"hello")
    await second.until(lambda: second.output == b"hello")
    second.send(b"ls\r")
    first.send(b"pwd\r")
    assert rig.program.typed() == b"ls\rpwd\r"


async def test_whoever_comes_back_sees_the_same_screen_as_whoever_stayed(rig: TerminalRig) -> None:
    stays, goes = await rig.watching(), await rig.watching("bob")
    rig.program.write(b"$ vim\r\n\x1b[?1049h\x1b[H\x1b[44m~\x1b[0m text \x1b[1mbold")
    await goes.until(lambda: b"bold" in goes.output)
    goes.detach()
    rig.program.write(b"\x1b[5;5Hmore \xe6\x97")
    rig.program.write(b"\xa5\x1b[3")
    back = await rig.watching("bob")
    rig.program.write(b"2mgreen")
    await back.until(lambda: b"green" in back.output)
    await stays.until(lambda: b"green" in stays.output)
    assert cells(back.screen()) == cells(stays.screen())
    back.attach.closed_by_client()
    rig.program.write(b"\x1b[?1049l")
    await stays.until(lambda: stays.output.endswith(b"\x1b[?1049l"))


async def test_output_while_the_picture_is_made_is_neither_lost_nor_doubled(
    rig: TerminalRig,
) -> None:
    await rig.watching()
    late = rig.client("bob")
    rig.program.write(b"one two three")
    await late.until(lambda: b"three" in late.screen())
    assert cells(late.screen())[0][:13] == [bytes([char]) for char in b"one two three"]


async def test_questions_are_answered_once_whoever_looks_on(rig: TerminalRig) -> None:
    first, second = await rig.watching(), await rig.watching("bob")
    rig.program.write(b"\x1b[6n\x1b]11;?\x07.")
    await second.until(lambda: b"." in second.output)
    await first.until(lambda: b"." in first.output)
    assert (first.output, second.output) == (b"\x1b]11;?\x07.", b".")
    assert rig.program.typed() == b"\x1b[1;1R"
    second.send(b"x")
    rig.program.write(b"\x1b]11;?\x07!")
    await second.until(lambda: b"!" in second.output)
    assert second.output == b".\x1b]11;?\x07!"


async def test_a_terminal_that_nobody_looks_at_is_answered_too(rig: TerminalRig) -> None:
    watching = await rig.watching()
    watching.detach()
    rig.program.write(b"abc\x1b[6n")
    while not (typed := rig.program.typed()):
        await asyncio.sleep(0)
    assert typed == b"\x1b[1;4R"


# -- sizes ---------------------------------------------------------------------------------------


async def test_the_smallest_window_decides_and_larger_ones_see_pictures(rig: TerminalRig) -> None:
    large = await rig.watching(rows=50, cols=120)
    assert rig.terminals.listing()[0].rows == 50
    small = await rig.watching("bob", rows=20, cols=90)
    assert rig.program.sizes == [(50, 120), (20, 90)]
    rig.program.write(b"x" * 100)
    await small.until(lambda: small.output == b"x" * 100)
    await large.until(lambda: "x" * 90 in large.snapshots[-1].vt)
    assert large.output == b""
    assert cells(large.screen(), 50, 120)[0][90:] == [b" "] * 30
    assert cells(large.screen(), 50, 120)[1][:11] == [*[b"x"] * 10, b" "]
    small.detach()
    assert rig.program.sizes[-1] == (50, 120)
    await large.until(lambda: (large.snapshots[-1].rows, large.snapshots[-1].cols) == (50, 120))
    rig.program.write(b"raw again")
    await large.until(lambda: large.output == b"raw again")


async def test_the_last_window_decides_if_asked_for(rig: TerminalRig) -> None:
    first = await rig.watching(size_policy="last", rows=20, cols=80)
    second = await rig.watching("bob", rows=40, cols=100)
    assert rig.program.sizes[-1] == (40, 100)
    first.send(Resize(rows=30, cols=70))
    assert rig.program.sizes[-1] == (30, 70)
    second.detach()
    assert rig.program.sizes == [(20, 80), (40, 100), (30, 70)]


# -- slow ones -----------------------------------------------------------------------------------


async def test_a_viewer_that_does_not_read_is_shown_a_picture_later_and_stops_nobody(
    rig: TerminalRig,
) -> None:
    fast, slow = await rig.watching(), await rig.watching("bob")
    slow.attach.pause_writing()
    line, lines = b"0123456789" * 6 + b"\r\n", QUEUE_MAX // 62 + 100
    for n in range(lines):
        rig.program.write(line)
        await fast.until(partial(lambda sent: fast.sent == sent, (n + 1) * len(line)))
    assert slow.output == b""
    slow.attach.resume_writing()
    await slow.until(lambda: len(slow.snapshots) == 2)
    rig.program.write(b"end")
    await slow.until(lambda: slow.output == b"end")
    await fast.until(lambda: fast.output.endswith(b"end"))
    assert cells(slow.screen()) == cells(fast.screen())


async def test_a_viewer_that_stalls_for_a_moment_misses_nothing(rig: TerminalRig) -> None:
    watching = await rig.watching()
    watching.attach.pause_writing()
    rig.program.write(b"held ")
    await asyncio.sleep(1)
    rig.program.write(b"back")
    await asyncio.sleep(1)
    assert watching.output == b""
    watching.attach.resume_writing()
    assert (watching.output, len(watching.snapshots)) == (b"held back", 1)


async def test_a_program_that_does_not_read_pauses_who_types(rig: TerminalRig) -> None:
    watching = await rig.watching()
    for _ in range(3 + INPUT_MAX // 65_536):
        watching.send(b"v" * 65_536)
    paused, read = watching.paused, 0
    assert paused
    while watching.paused:
        read += len(rig.program.typed())
        await asyncio.sleep(0)
    assert read > INPUT_MAX // 4


# -- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "killer"), [(0, None), (3, None), (None, "SEGV")])
async def test_an_exit_reaches_every_viewer_with_its_status(
    rig: TerminalRig, code: int | None, killer: str | None
) -> None:
    first, second = await rig.watching(), await rig.watching("bob")
    rig.program.write(b"last words")
    rig.program.exit(code, killer)
    for wire in (first, second):
        told = await wire.over()
        assert told is not None
        assert wire.output == b"last words"
        assert (told.exit_code, told.exit_signal, told.terminal_lives) == (code, killer, False)
        assert wire.exit_code == (code if code is not None else 0)
    cause = "session.signal" if killer else "session.exit"
    assert rig.causes() == [cause, cause]
    assert (len(rig.terminals), rig.program.closed) == (0, True)


async def test_the_output_of_a_command_that_is_over_at_once_is_seen(rig: TerminalRig) -> None:
    wire = rig.client(command="echo hi")
    rig.program.write(b"hi\r\n")
    rig.program.exit(0)
    told = await wire.over()
    assert told is not None
    assert (told.cause, told.exit_code) == ("session.exit", 0)
    assert cells(wire.screen())[0][:2] == [b"h", b"i"]


async def test_a_shell_that_left_something_behind_on_its_terminal_still_ends(
    rig: TerminalRig,
) -> None:
    wire = await rig.watching()
    began = rig.clock.now().mono
    rig.program.reaped(ExitStatus(code=0))
    told = await wire.over()
    assert told is not None
    assert (told.cause, rig.clock.now().mono - began) == ("session.exit", DRAIN_S)


async def test_a_detach_ends_one_attach_and_nothing_else(rig: TerminalRig) -> None:
    stays, goes = await rig.watching(), await rig.watching("bob")
    goes.detach()
    told = await goes.over()
    assert told is not None
    assert (told.cause, told.terminal_lives, goes.exit_code) == ("session.detached", True, 0)
    assert (rig.causes(), [end.terminal_lives for end in rig.ended]) == (
        ["session.detached"],
        [True],
    )
    rig.program.write(b"still here")
    await stays.until(lambda: stays.output == b"still here")
    assert rig.terminals.listing()[0].viewers == ["alice"]


async def test_a_client_that_is_lost_ends_with_what_took_its_connection(rig: TerminalRig) -> None:
    stays, lost = await rig.watching(), await rig.watching("bob")
    fact = ev.StreamEnded(vantage=Vantage.RELAY, at=1.0, peer=Party.CLIENT, how=StreamEnd.RESET)
    lost.attach.lost(fact)
    lost.attach.lost(fact)
    assert (lost.ended, rig.causes()) == (None, ["client.vanished"])
    assert rig.ended[0].terminal_lives is True
    rig.program.write(b"on")
    await stays.until(lambda: stays.output == b"on")


async def test_a_closed_channel_is_the_clients_doing(rig: TerminalRig) -> None:
    wire = await rig.watching()
    wire.attach.closed_by_client()
    assert rig.causes() == ["client.closed"]
    assert len(rig.terminals) == 1


async def test_a_terminal_without_a_viewer_is_ended_after_its_time() -> None:
    rig = TerminalRig(idle_s=300.0)
    wire = await rig.watching()
    await asyncio.sleep(10_000)
    assert len(rig.terminals) == 1
    wire.detach()
    left = rig.clock.now().mono
    while not rig.over:
        await asyncio.sleep(1)
    assert 300 <= rig.clock.now().mono - left <= 302
    assert rig.program.signals == [signal.SIGHUP, signal.SIGCONT]
    disconnect = classify(ConnectType.AGENT_TO_CLIENT, rig.over[0].cell.facts).disconnect
    assert (disconnect.cause, disconnect.reason, disconnect.initiator, disconnect.expected) == (
        "session.idle_expired",
        "idle_timeout",
        "agent",
        True,
    )
    assert disconnect.actor == "policy:terminal-idle"


async def test_coming_back_in_time_starts_the_wait_anew() -> None:
    rig = TerminalRig(idle_s=300.0)
    for _ in range(3):
        wire = await rig.watching()
        wire.detach()
        await asyncio.sleep(299)
    assert rig.terminals.listing()[0].expires_in_s == pytest.approx(1.0)
    assert len(rig.programs.started) == 1


async def test_a_terminal_may_wait_for_ever() -> None:
    rig = TerminalRig(idle_s=None)
    wire = await rig.watching()
    wire.detach()
    await asyncio.sleep(1e6)
    assert rig.terminals.listing()[0].expires_in_s is None
    assert len(rig.terminals) == 1


async def test_a_kill_tells_every_viewer_who_asked_for_it(rig: TerminalRig) -> None:
    first, second = await rig.watching(), await rig.watching("bob")
    second.send(Kill(id="t"))
    for wire in (first, second):
        told = await wire.over()
        assert told is not None
        assert (told.cause, told.actor, told.exit_signal) == ("session.killed", "user:bob", "HUP")
        assert told.sentence == "The terminal was ended on request by bob."
    assert Done(id="t") in second.received
    assert rig.causes() == ["session.killed", "session.killed"]


async def test_a_program_that_ignores_the_hang_up_is_killed() -> None:
    rig = TerminalRig(stubborn=True)
    wire = await rig.watching()
    began = rig.clock.now().mono
    wire.send(Kill(id="t"))
    await wire.over()
    assert rig.program.signals == [signal.SIGHUP, signal.SIGCONT, signal.SIGKILL]
    assert rig.clock.now().mono - began == pytest.approx(KILL_AFTER_S)
    assert rig.causes() == ["session.killed"]


async def test_an_agent_that_leaves_tells_everybody_at_once_and_ends_every_program() -> None:
    rig = TerminalRig(stubborn=True)
    first, second = await rig.watching(), await rig.watching("bob", id="u")
    fact = agent_goodbye("agent.shutdown", rig.clock.now(), actor="signal:15 from pid 1 uid 0")
    began = rig.clock.now().mono
    rig.terminals.abandon(fact)
    assert [wire.ended.cause if wire.ended else None for wire in (first, second)] == [
        "agent.shutdown",
        "agent.shutdown",
    ]
    assert rig.clock.now().mono == began
    late = rig.client("carol", id="v")
    assert (late.exit_code, rig.causes()) == (0, ["agent.shutdown"] * 3)
    await rig.terminals.close(timeout=60)
    assert len(rig.terminals) == 0
    assert [
        classify(ConnectType.AGENT_TO_CLIENT, pty.cell.facts).disconnect.cause for pty in rig.over
    ] == ["agent.shutdown"] * 2


async def test_a_shutdown_never_overwrites_an_earlier_end(rig: TerminalRig) -> None:
    wire = await rig.watching()
    rig.program.exit(7)
    rig.terminals.abandon(agent_goodbye("agent.shutdown", rig.clock.now()))
    told = await wire.over()
    assert told is not None
    assert (told.cause, told.exit_code) == ("session.exit", 7)


async def test_a_bad_beginning_is_a_protocol_error_and_starts_nothing(rig: TerminalRig) -> None:
    wire = rig.client(opens=False)
    wire.attach.data_received(b"SSH-2.0-lost\r\n")
    told = await wire.over()
    assert told is not None
    assert (told.cause, wire.exit_code) == ("client.protocol_error", 1)
    assert (rig.causes(), rig.programs.started) == (["client.protocol_error"], [])


async def test_a_client_that_says_nothing_is_given_up(rig: TerminalRig) -> None:
    wire = rig.client(opens=False)
    told = await wire.over()
    assert told is not None
    assert (told.cause, rig.clock.now().mono) == ("client.handshake_timeout", OPENING_TIMEOUT_S)


# -- limits and requests ---------------------------------------------------------------------------


async def test_limits_are_refused_with_a_sentence_and_disturb_nobody() -> None:
    rig = TerminalRig(max_terminals=2, max_viewers=2)
    first = await rig.watching()
    await rig.watching("bob")
    third = rig.client("carol")
    assert third.received[0] == Refused(
        code="too_many_viewers", message="the terminal shell already has 2 viewers"
    )
    await rig.watching(id="u")
    fourth = rig.client("dave", id="v")
    assert isinstance(fourth.received[0], Refused)
    assert fourth.received[0].code == "too_many_terminals"
    assert rig.causes() == ["session.refused", "session.refused"]
    assert (third.exit_code, fourth.exit_code) == (1, 1)
    rig.programs.started[0].write(b"fine")
    await first.until(lambda: first.output == b"fine")


async def test_a_machine_without_terminals_says_so(rig: TerminalRig) -> None:
    rig.programs.fails = OSError(errno.ENOSPC, "No space left on device")
    wire = rig.client()
    told = await wire.over()
    assert told is not None
    assert told.cause == "session.refused"
    assert "No space left on device" in told.detail


@pytest.mark.parametrize(
    "bad", [{"id": "../x"}, {"id": "x" * 65}, {"command": "a\0b"}, {"name": "\n"}]
)
async def test_a_bad_request_for_a_terminal_is_the_clients_error(
    rig: TerminalRig, bad: dict[str, str]
) -> None:
    told = await rig.client(**bad).over()
    assert told is not None
    assert (told.cause, rig.programs.started) == ("client.protocol_error", [])


async def test_terminals_are_listed_renamed_and_their_ids_are_free_again(rig: TerminalRig) -> None:
    await rig.watching(name="build")
    other = await rig.watching("bob", id="u", command="top", rows=30)
    other.send(Rename(id="u", name="the  list\x07"))
    assert Done(id="u") in other.received
    lister = rig.client(opens=False)
    lister.ask(List())
    (listing,) = [item for item in lister.received if isinstance(item, Listing)]
    assert [(i.id, i.name, i.command, i.rows, i.viewers) for i in listing.terminals] == [
        ("t", "build", "", 24, ["alice"]),
        ("u", "the  list", "top", 30, ["bob"]),
    ]
    assert (lister.exit_code, rig.causes()) == (0, ["session.exit"])
    other.send(Rename(id="zzz", name="x"))
    assert other.received[-1] == Refused(
        code="not_found", message="this workspace has no terminal 'zzz'"
    )
    rig.program.exit(0)
    await other.over()
    again = await rig.watching("bob", id="u")
    assert again.received[0] == Attached(
        id="u", name="shell", created=True, rows=24, cols=80, idle_s=86_400.0
    )


# -- without an emulator -----------------------------------------------------------------------------


async def test_without_an_emulator_the_last_output_is_replayed_as_bytes(rig: TerminalRig) -> None:
    rig.screens.close()
    first = await rig.watching()
    assert first.snapshots[0].exact is False
    rig.program.write(b"some output\x1b[6n")
    await first.until(lambda: first.output == b"some output\x1b[6n")
    second = await rig.watching("bob", rows=50, cols=100)
    assert "some output" in second.snapshots[0].vt
    rig.program.write(b" more")
    await second.until(lambda: second.output == b" more")


# -- environment ---------------------------------------------------------------------------------------
