"""A snapshot makes another terminal the same: what it shows, and what it does with what comes next."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from tests.support.agent.terminals import history_lines, observed, screen_cells
from tests.support.host import tmux
from tether.agent.screen.ghostty import Emulator
from tether.agent.screen.screen import HISTORY_BYTES, TerminalScreen

ROWS, COLS = 8, 24
ALL = 100_000
"""More lines of history than are ever kept."""

_numbers = st.integers(0, 30)
_texts = st.sampled_from(
    [
        "a",
        "word ",
        "0123456789" * 3,
        "日本語",
        "한글 text",
        "e\u0301",
        "👩‍👩‍👧",
        "🇩🇪",
        "\t",
        "ก\u0e33",
        "─",
    ]
).map(str.encode)
_controls = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\b", b"\x0b", b"\x1b7", b"\x1b8", b"\x1bM"),
        *(
            b"\x1bD",
            b"\x1bE",
            b"\x1bH",
            b"\x1b(0lqk\x1b(B",
            b"\x1b)0\x0exj\x0f",
            b"\x1b=",
            b"\x1b>",
        ),
        *(b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[3 q", b"\x1b[0 q", b"\x1b]2;a title\x07"),
        *(b"\x1b]8;;http://x/\x1b\\", b"\x1b]8;;\x1b\\", b"\x1b[r", b"\x1b[2J", b"\x1b[K"),
    ]
)
_sequences = st.builds(
    lambda numbers, final: b"\x1b[%b%c" % (b";".join(b"%d" % n for n in numbers), final),
    st.lists(_numbers, max_size=2),
    st.sampled_from(list(b"ABCDEFGHJKLMPSTXZ@dfb`g")),
)
_regions = st.builds(lambda a, b: b"\x1b[%d;%dr" % (a, a + b), st.integers(1, 6), st.integers(1, 7))
_modes = st.builds(
    lambda mode, on: b"\x1b[?%d%b" % (mode, b"h" if on else b"l"),
    st.sampled_from([1, 5, 6, 7, 9, 25, 66, 1000, 1002, 1003, 1004, 1006, 2004]),
    st.booleans(),
) | st.sampled_from([b"\x1b[4h", b"\x1b[4l", b"\x1b[20h", b"\x1b[20l"])
_colours = st.sampled_from(
    [
        "0",
        "1",
        "3",
        "4",
        "4:3",
        "7",
        "8",
        "9",
        "31",
        "42",
        "96",
        "38;5;200",
        "48;2;1;2;3",
        "58:5:9",
        "53",
    ]
).map(lambda words: b"\x1b[%bm" % words.encode())
_tokens = _texts | _texts | _controls | _sequences | _regions | _modes | _colours
output = st.lists(_tokens, max_size=40)
"""What a program may write, short of sequences that no program writes."""


def twin(screen: TerminalScreen) -> Emulator:
    """A second terminal, fed with the snapshot and nothing else."""
    rows, cols = screen.size
    emulator = Emulator(rows=rows, cols=cols, history_bytes=HISTORY_BYTES)
    emulator.feed(screen.snapshot(history=ALL))
    return emulator


def fed(*parts: bytes, rows: int = ROWS, cols: int = COLS) -> Emulator:
    emulator = Emulator(rows=rows, cols=cols, history_bytes=HISTORY_BYTES)
    for part in parts:
        emulator.feed(part)
    return emulator


@example(before=[b"0123456789" * 2 + "日本".encode()], after=[b"x"])
@given(before=output, after=output)
@settings(max_examples=200)
def test_whoever_attaches_anywhere_sees_what_a_viewer_from_the_start_sees(
    before: list[bytes], after: list[bytes]
) -> None:
    screen = TerminalScreen(rows=ROWS, cols=COLS)
    for token in before:
        screen.feed(token)
    late, early = twin(screen), fed(*before)
    assert observed(late) == observed(early)
    for token in after:
        late.feed(token)
        early.feed(token)
    assert observed(late) == observed(early)


# -- against another terminal -------------------------------------------------------------------

STREAMS = sorted((Path(__file__).parent / "streams").glob("*.vt"))
"""What vim, less, a full-screen table and a shell really wrote (24 rows, 80 columns)."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tmux.Tmux]:
    if not tmux.available:
        pytest.skip("tmux is not installed")
    with tmux.Tmux(tmp_path_factory.mktemp("tmux")) as running:
        yield running


@pytest.mark.parametrize("stream", STREAMS, ids=lambda path: path.stem)
def test_tmux_shows_the_same_after_a_snapshot_as_after_everything(
    stream: Path, reference: tmux.Tmux
) -> None:
    data = stream.read_bytes()
    everything = reference.shows(data, rows=24, cols=80)
    dice = random.Random(stream.stem)
    for attached_at in [len(data), *(dice.randrange(len(data)) for _ in range(3))]:
        screen = TerminalScreen(rows=24, cols=80)
        screen.feed(data[:attached_at])
        late = screen.snapshot(history=ALL) + data[attached_at:]
        assert reference.shows(late, rows=24, cols=80) == everything, attached_at


# -- one by one -----------------------------------------------------------------------------------


def shown(*output: bytes, rows: int = 4, cols: int = 12) -> TerminalScreen:
    screen = TerminalScreen(rows=rows, cols=cols)
    for piece in output:
        screen.feed(piece)
    return screen


@pytest.mark.parametrize(
    "look",
    [
        *(
            b"1",
            b"2",
            b"3",
            b"4",
            b"5",
            b"7",
            b"8",
            b"9",
            b"53",
            b"4:3",
            b"31",
            b"97",
            b"44",
            b"103",
        ),
        *(b"38;5;200", b"48;5;17", b"38;2;1;2;3", b"48;2;4;5;6", b"58:5:9", b"1;3;7;33;40"),
    ],
)
def test_every_look_is_written_as_programs_write_it(look: bytes) -> None:
    emulator = Emulator(rows=1, cols=4, history_bytes=0)
    emulator.feed(b"a\x1b[%bmb\x1b[0mc" % look)
    written = emulator.line(0, 0, 3)
    assert written.startswith(b"a\x1b[")
    assert written.endswith(b"mb\x1b[0mc")
    again = Emulator(rows=1, cols=4, history_bytes=0)
    again.feed(written)
    assert again.line(0, 0, 3) == written
    assert set(look.split(b";")) <= set(
        written.removeprefix(b"a\x1b[").partition(b"m")[0].split(b";")
    )


def test_blank_cells_do_not_take_the_look_of_the_text_before_them() -> None:
    emulator = Emulator(rows=1, cols=10, history_bytes=0)
    emulator.feed(b"\x1b[44mA\x1b[0m\x1b[5GB\x1b[4mC\x1b[0m\x1b[9GD")
    assert emulator.line(0, 0, 9) == b"\x1b[44mA\x1b[0m   B\x1b[4mC\x1b[0m  D"


def test_a_row_of_nothing_but_background_keeps_it() -> None:
    screen = shown(b"\x1b[41m\x1b[K\r\n\x1b[48;2;1;2;3m\x1b[K\x1b[0m")
    assert screen_cells(twin(screen))[:2] == [[(b" ", b"41")] * 12, [(b" ", b"48;2;1;2;3")] * 12]


def test_a_link_stays_a_link() -> None:
    emulator = Emulator(rows=1, cols=8, history_bytes=0)
    emulator.feed(b"\x1b]8;id=7;https://x/y\x1b\\go\x1b]8;;\x1b\\ on")
    assert emulator.line(0, 0, 7) == b"\x1b]8;;https://x/y\x1b\\go\x1b[0m\x1b]8;;\x1b\\ on"


def test_the_primary_screen_is_back_when_the_program_leaves_the_alternate_one() -> None:
    screen = shown(b"$ vim\r\nold\x1b[32m", b"\x1b[?1049h\x1b[2J\x1b[Hin vim")
    late = twin(screen)
    assert (late.alternate, late.line(0, 0, 11)) == (True, b"\x1b[32min vim\x1b[0m")
    late.feed(b"\x1b[?1049l!")
    assert [late.line(row, 0, 11) for row in range(2)] == [b"$ vim", b"old\x1b[32m!\x1b[0m"]


def test_scrollback_comes_with_the_snapshot_as_far_as_asked() -> None:
    screen = shown(b"".join(b"line %d\r\n" % n for n in range(100)))
    assert history_lines(twin(screen)) == [b"line %d" % n for n in range(97)]
    late = Emulator(rows=4, cols=12, history_bytes=HISTORY_BYTES)
    late.feed(screen.snapshot(history=10))
    assert history_lines(late) == [b"line %d" % n for n in range(87, 97)]
    late = Emulator(rows=4, cols=12, history_bytes=HISTORY_BYTES)
    late.feed(screen.snapshot())
    assert history_lines(late) == []


def test_a_long_line_stays_one_line_in_the_scrollback_and_on_the_screen() -> None:
    screen = shown(b"0123456789" * 3 + b"\r\n" * 3 + b"abcdefghijklmnop")
    late = twin(screen)
    assert history_lines(late) == [b"0123456789" * 3]
    assert [late.wraps(row) for row in range(4)] == [False, False, True, False]


def test_a_snapshot_in_the_middle_of_a_sequence_or_a_character_goes_on_in_it() -> None:
    for data in (b"\x1b[3", b"\x1b]2;a ti", "日".encode()[:2]):
        early = fed(data)
        assert twin(shown(data)).half_read == early.half_read == data


def test_an_endless_sequence_is_given_up_so_that_others_can_attach() -> None:
    screen = shown(b"before", b"\x1b]52;c;" + b"A" * (2 << 20))
    late = twin(screen)
    assert (late.line(0, 0, 11), late.at_rest) == (b"before", True)


def test_a_snapshot_ends_what_the_viewer_showed_before() -> None:
    viewer = fed(
        b"\x1b[?1049h\x1b[?1003;2004;1h\x1b[4hrubbish\x1b[2;3r\x1b[?6h\x1b[31", rows=4, cols=12
    )
    screen = shown(b"clean")
    viewer.feed(screen.snapshot())
    assert observed(viewer) == observed(fed(b"clean", rows=4, cols=12))


# -- windows of another size ------------------------------------------------------------------------


def painted(screen: TerminalScreen, rows: int, cols: int) -> Emulator:
    window = Emulator(rows=rows, cols=cols, history_bytes=0)
    window.feed(screen.frame(rows=rows, cols=cols))
    return window


def test_a_larger_window_shows_the_whole_screen_in_its_corner() -> None:
    window = painted(shown(b"one\r\n" + b"x" * 13 + "\r\n日本".encode()), 6, 20)
    rows = [window.line(row, 0, 19) for row in range(6)]
    assert rows == [b"one", b"x" * 12, b"x", "日本".encode(), b"", b""]
    assert window.cursor == (3, 4)


def test_a_smaller_window_shows_the_part_around_the_cursor() -> None:
    window = painted(shown(b"abcdefgh\r\nijklmnop\r\nqrstuvwx\r\nyz"), 2, 5)
    assert [window.line(row, 0, 4) for row in range(2)] == [b"qrstu", b"yz"]
    window = painted(shown(b"abcdefgh\r\nijklmnop"), 2, 5)
    assert [window.line(row, 0, 4) for row in range(2)] == [b"efgh", b"mnop"]
    assert window.cursor == (1, 4)


def test_pictures_for_other_windows_leave_their_scrollback_alone() -> None:
    window = painted(shown(b"hello\x1b[?2004h\x1b[?25l"), 6, 20)
    assert (window.alternate, window.mode(2004), window.mode(25)) == (True, True, False)


# -- questions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (b"\x1b[c", b"\x1b[?62;22c"),
        (b"\x1b[>c", b"\x1b[>1;0;0c"),
        (b"\x1b[5n", b"\x1b[0n"),
        (b"\x1b[2;3H\x1b[6n", b"\x1b[2;3R"),
        (b"\x1b[?2004$p", b"\x1b[?2004;2$y"),
        (b"\x1b[4$p", b"\x1b[4;2$y"),
        (b"\x1bP$qr\x1b\\", b"\x1bP1$r1;4r\x1b\\"),
        *(
            (silent, b"")
            for silent in (b"\x1b[=c", b"\x1b[>q", b"\x1b[?u", b"\x1b]11;?\x07", b"\x1b[21t")
        ),
        *(
            (silent, b"")
            for silent in (b"\x1b]4;1;?\x07", b"\x1b_Gi=1,a=q;AAAA\x1b\\", b"\x1b]52;c;?\x07")
        ),
    ],
)
def test_the_screen_answers_what_is_true_for_every_viewer(question: bytes, answer: bytes) -> None:
    assert shown().feed(question) == answer


def test_a_resize_lays_lines_out_anew() -> None:
    screen = shown(b"0123456789abcdef")
    screen.resize(rows=6, cols=20)
    assert (screen.size, twin(screen).line(0, 0, 19)) == ((6, 20), b"0123456789abcdef")
