"""`tether attach` without an agent: its keys, the user's own terminal, its last sentence."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, strategies as st

from tests.support.deadline import DEADLINE_S
from tether.cli.attach.attach import AttachCommand, attach
from tether.cli.attach.keys import PREFIX, Keys
from tether.cli.attach.local_terminal import Gone, LocalTerminal
from tether.cli.attach.loop import AttachEnding
from tether.cli.attach.run import farewell
from tether.protocol.terminal.messages import Attached, AttachEnded, Refused

# -- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "sent", "detached"),
    [
        (b"ls\r", b"ls\r", False),
        (b"\x1cd", b"", True),
        (b"a\x1cdlost", b"a", True),
        (b"\x1c\x1c", b"\x1c", False),
        (b"\x1c\x1cd", b"\x1cd", False),
        (b"\x1c\x0e", b"\x1c\x0e", False),  # neovim's way out of its terminal
        (b"\x1cD", b"\x1cD", False),
        (b"\x1c", b"", False),
        (b"", b"", False),
    ],
)
def test_only_the_detach_key_is_ours(typed: bytes, sent: bytes, detached: bool) -> None:
    assert Keys().feed(typed) == (sent, detached)


@given(st.lists(st.sampled_from([b"a", b"d", PREFIX, b"\xc3\xa4"])), st.data())
def test_keys_mean_the_same_however_they_arrive(parts: list[bytes], data: st.DataObject) -> None:
    typed = b"".join(parts)
    whole = Keys().feed(typed)
    cut = data.draw(st.integers(0, len(typed)))
    keys = Keys()
    first, detached = keys.feed(typed[:cut])
    if not detached:
        rest, detached = keys.feed(typed[cut:])
        first += rest
    assert (first, detached) == whole


def test_whatever_is_typed_without_the_prefix_is_the_programs() -> None:
    every = bytes(set(range(256)) - {PREFIX[0]})
    assert Keys().feed(every) == (every, False)


# -- the user's own terminal ----------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    """The user's end of a pseudo-terminal, and ours."""
    user, ours = pty.openpty()
    os.set_blocking(user, False)
    try:
        yield user, ours
    finally:
        for descriptor in (user, ours):
            try:
                os.close(descriptor)
            except OSError:
                pass  # closed by the test


def test_a_terminal_is_given_back_as_it_was(pair: tuple[int, int]) -> None:
    user, ours = pair
    before = termios.tcgetattr(ours)
    terminal = LocalTerminal(ours, ours)
    terminal.raw()
    terminal.raw()  # after a Ctrl-Z from elsewhere
    assert not termios.tcgetattr(ours)[3] & termios.ICANON
    terminal.show(b"\x1b[?1049h\x1b[?1000hhalf a seq\x1b[3")
    os.read(user, 4096)
    terminal.restore()
    assert termios.tcgetattr(ours) == before
    restored = os.read(user, 4096)
    assert restored.startswith(b"\x18\x1b[?1049l")
    assert b"\x1b[?1000l" in restored
    assert restored.endswith(b"\r\n")
    terminal.restore()
    with pytest.raises(BlockingIOError):
        os.read(user, 1)


@pytest.mark.parametrize(
    ("shown", "leaves"),
    [
        (b"\x1b[?1049h", True),
        (b"\x1b[?25;1049h", True),
        (b"\x1b[?47h", True),
        (b"\x1b[?1049h\x1b[?1049l", False),
        (b"\x1b[?1049h\x1bc", False),
        (b"text", False),
    ],
)
def test_the_other_screen_is_left_only_where_it_shows(
    pair: tuple[int, int], shown: bytes, leaves: bool
) -> None:
    user, ours = pair
    terminal = LocalTerminal(ours, ours)
    terminal.raw()
    terminal.show(shown)
    os.read(user, 4096)
    terminal.restore()
    assert (b"\x1b[?1049l" in os.read(user, 4096)) is leaves


def test_a_terminal_that_was_closed_is_told(pair: tuple[int, int]) -> None:
    user, ours = pair
    terminal = LocalTerminal(ours, ours)
    terminal.raw()
    os.close(user)
    with pytest.raises(Gone):
        terminal.read()
    terminal.restore()


_CRASHES = """
import os, sys
from tether.cli.attach.loop import AttachLoop
from tether.cli.attach.local_terminal import LocalTerminal
from tether.net.clock import SystemClock
from tether.protocol.terminal.messages import Attached, Init

class Line:
    over, waiting, stderr = False, 0, None
    def __init__(self): self.stdout, _ = os.pipe()
    def open(self, message): self.stdout = os.open("/dev/null", os.O_RDONLY); self.turn = 0
    def send(self, item): pass
    def read(self):
        self.turn += 1
        if self.turn > 1: raise RuntimeError("a bug")
        return [Attached(id="t", name="t", created=True, rows=24, cols=80)]

AttachLoop(Line(), LocalTerminal(), SystemClock()).run(Init(rows=24, cols=80))
"""


def test_a_crash_leaves_no_raw_terminal(pair: tuple[int, int]) -> None:
    user, ours = pair
    before = termios.tcgetattr(ours)
    done = subprocess.run(
        [sys.executable, "-c", _CRASHES],
        stdin=ours,
        stdout=ours,
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_S,
    )
    assert "RuntimeError: a bug" in done.stderr
    assert termios.tcgetattr(ours) == before
    assert b"\x1b[?1000l" in os.read(user, 4096)


# -- the last sentence ---------------------------------------------------------------------------

SEEN = Attached(id="w", name="w", created=True, rows=24, cols=80)


def said(cause: str, **more: object) -> AttachEnded:
    return AttachEnded(cause=cause, sentence="The sentence.", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ending", "want"),
    [
        (
            AttachEnding(SEEN, said("session.detached", terminal_lives=True)),
            ("detached; attach again with `tether attach dev --id w`", 0),
        ),
        (
            AttachEnding(
                msgspec.structs.replace(SEEN, idle_s=86_400.0),
                said("session.detached", terminal_lives=True),
            ),
            (
                "detached; the terminal lives for 1 d without a viewer; "
                "attach again with `tether attach dev --id w`",
                0,
            ),
        ),
        (
            AttachEnding(SEEN, said("session.detached"), signal=signal.SIGTERM),
            ("detached; attach again with `tether attach dev --id w`", 143),
        ),
        (
            AttachEnding(SEEN, said("session.exit", exit_code=0)),
            ("the shell ended with exit code 0", 0),
        ),
        (
            AttachEnding(SEEN, said("session.signal", exit_signal="KILL")),
            ("the shell was ended by signal KILL", 137),
        ),
        (AttachEnding(SEEN, said("session.killed", exit_signal="HUP")), ("The sentence.", 1)),
        (AttachEnding(SEEN, said("session.idle_expired")), ("The sentence.", 1)),
        (AttachEnding(SEEN, said("agent.shutdown")), ("The sentence.", 255)),
        (
            AttachEnding(
                None, said("session.refused"), Refused(code="x", message="no more of them")
            ),
            ("no more of them", 1),
        ),
        (AttachEnding(signal=signal.SIGINT), ("stopped by SIGINT", 130)),
        (AttachEnding(), ("it was lost.", 255)),
        (
            AttachEnding(SEEN),
            ("it was lost; try to attach again with `tether attach dev --id w`", 255),
        ),
    ],
)
def test_the_last_sentence_and_the_exit_code_agree(
    ending: AttachEnding, want: tuple[str, int]
) -> None:
    assert farewell(ending, "dev", lost="it was lost.") == want


def test_a_command_is_called_one() -> None:
    ending = AttachEnding(SEEN, said("session.exit", exit_code=3))
    assert farewell(ending, "dev", command="make") == ("the command ended with exit code 3", 3)


@pytest.mark.parametrize(
    ("line", "name", "command", "options"),
    [
        ("dev", "dev", (), {}),
        ("dev --id work", "dev", (), {"terminal_id": "work"}),
        ("--id=work dev vim -R x", "dev", ("vim", "-R", "x"), {"terminal_id": "work"}),
        ("dev --name a -- --id", "dev", ("--id",), {"title": "a"}),
        ("dev --rename a b", "dev", (), {"rename": ("a", "b")}),
        ("dev --list --json", "dev", (), {"listing": True, "as_json": True}),
    ],
)
def test_options_are_read_before_and_right_after_the_name(
    line: str, name: str, command: tuple[str, ...], options: dict[str, object]
) -> None:
    assert isinstance(attach, AttachCommand)
    found = attach.make_context("attach", line.split()).params
    assert (found["name"], found["command"]) == (name, command)
    assert {key: found[key] for key in options} == options
