"""The edge to libghostty-vt: bytes, numbers and flags in and out of one emulated terminal.

Law: the only file that touches the library, and it decides nothing. The library is native code that
parses hostile input: it runs in the screen host's process only, never in the agent's own (ADR 0010).
Nothing here is thread-safe.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import Any

from pyghostty._ffi import GhosttyError, check, ffi, lib  # type: ignore[import-untyped]
from pyghostty.core import Terminal, init_sized  # type: ignore[import-untyped]

# Bytes, not lines: the library drops whole pages for a limit in bytes, but goes line by line for one in
# lines, which costs nine tenths of its speed.
_MANY_LINES = 1 << 30
_CONTINUATION_BYTES = 1 << 20
_OFF = ("KITTY_IMAGE_STORAGE_LIMIT", "CLIPBOARD_WRITE_MAX_BYTES")
# No program can choose this shape, so it tells that none has chosen one.
_UNCHOSEN = lib.GHOSTTY_TERMINAL_CURSOR_STYLE_BLOCK_HOLLOW
_CELL_PX = (8, 16)


class Emulator:
    """One terminal. `feed` returns what it would answer to the program's queries."""

    def __init__(self, *, rows: int, cols: int, history_bytes: int, _terminal: Any = None) -> None:
        self._replies: list[bytes] = []
        self._looks: dict[tuple[int, int], bytes] = {}
        if _terminal is None:
            _terminal = Terminal(cols, rows, scrollback=_MANY_LINES)
            for name, ctype, value in (
                ("SCROLLBACK_MAX_BYTES", "size_t", history_bytes),
                ("CONTINUATION_MAX_BYTES", "size_t", _CONTINUATION_BYTES),
                ("DEFAULT_CURSOR_STYLE", "GhosttyTerminalCursorStyle", _UNCHOSEN),
                *((name, "uint64_t", 0) for name in _OFF),
            ):
                option = getattr(lib, f"GHOSTTY_TERMINAL_OPT_{name}")
                check(
                    lib.ghostty_terminal_set(_terminal._t[0], option, ffi.new(f"{ctype}*", value)),
                    name,
                )
        self._terminal = _terminal
        self._terminal.on_reply(self._replies.append)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._get("rows"), self._get("cols")

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column, from 0."""
        return self._get("cursor_y"), self._get("cursor_x")

    @property
    def wrap_pending(self) -> bool:
        """Whether the next character goes to the next line although the cursor is in the last column."""
        return bool(self._get("cursor_pending_wrap", "bool"))

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen shows."""
        return bool(self._get("active_screen", "int"))

    @property
    def at_rest(self) -> bool:
        """Whether no control sequence or character is half read."""
        return bool(self._get("vt_ground", "bool"))

    @property
    def own_cursor(self) -> bool:
        """Whether the program has chosen the cursor's shape."""
        state, style = ffi.new("GhosttyRenderState*"), ffi.new("int*")
        check(lib.ghostty_render_state_new(ffi.NULL, state), "render state")
        try:
            check(lib.ghostty_render_state_update(state[0], self._terminal._t[0]), "render state")
            what = lib.GHOSTTY_RENDER_STATE_DATA_CURSOR_VISUAL_STYLE
            check(lib.ghostty_render_state_get(state[0], what, style), "cursor")
        finally:
            lib.ghostty_render_state_free(state[0])
        return bool(style[0] != lib.GHOSTTY_RENDER_STATE_CURSOR_VISUAL_STYLE_BLOCK_HOLLOW)

    @property
    def half_read(self) -> bytes:
        """The control sequence or character that is half read; b"" at rest, or if it is endless."""
        if self.at_rest:
            return b""
        handle, take = self._terminal._t[0], lib.ghostty_terminal_continuation_alloc
        try:
            return _owned(lambda at, n: take(handle, ffi.NULL, at, n))
        except GhosttyError:
            return b""

    @property
    def history_rows(self) -> int:
        """Rows that have left the screen at its top and are kept."""
        return int(self._get("scrollback_rows", "size_t"))

    @property
    def title(self) -> str:
        """What the program has called the window."""
        text = self._get("title", "GhosttyString")
        return ffi.buffer(text.ptr, text.len)[:].decode("utf-8", "replace") if text.len else ""

    def mode(self, number: int, *, ansi: bool = False) -> bool:
        """Whether a mode is set; a DEC private one unless `ansi`."""
        return bool(self._terminal.mode(number, ansi=ansi))

    def feed(self, data: bytes) -> list[bytes]:
        """Take what the program wrote; returns the answers to its queries."""
        self._replies.clear()
        self._looks.clear()
        self._terminal.feed(data)
        return list(self._replies)

    def resize(self, *, rows: int, cols: int) -> None:
        """Change the size; lines of the primary screen are laid out anew."""
        self._looks.clear()
        self._terminal.resize(cols, rows, *_CELL_PX)

    def second_half(self, row: int, col: int) -> bool:
        """Whether a cell of the screen is the second half of a wide character."""
        raw = ffi.new("GhosttyCell*")
        check(lib.ghostty_grid_ref_cell(self._terminal.ref(col, row), raw), "cell")
        return _decoded(int(raw[0])).spacer

    def wraps(self, row: int, *, history: bool = False) -> bool:
        """Whether the text of row `row` goes on in the next."""
        found, wraps = ffi.new("GhosttyRow*"), ffi.new("bool*")
        ref = self._terminal.ref(0, row, "history" if history else "active")
        check(lib.ghostty_grid_ref_row(ref, found), "row")
        check(lib.ghostty_row_get(found[0], lib.GHOSTTY_ROW_DATA_WRAP, wraps), "wrap")
        return bool(wraps[0])

    def line(self, row: int, first: int, last: int, *, history: bool = False) -> bytes:
        """Columns `first` to `last` of one row with their looks; the pen is plain before and after.

        The library's own formatter is not used for this: it lends a blank cell the look of the text
        before it, and leaves out rows that are nothing but background.

        Args:
            row: from the top of the screen, or of the history (then 0 is the oldest that is kept).
            first: the first column.
            last: the last column.
            history: which of the two.
        """
        ref, raw = self._terminal.ref(first, row, "history" if history else "active"), _CELL
        parts: list[bytes] = []
        blanks, look_now = 0, b""
        for col in range(first, last + 1):
            ref.x = col
            check(lib.ghostty_grid_ref_cell(ref, raw), "cell")
            if not raw[0]:
                blanks += 1
                continue
            cell = _decoded(int(raw[0]))
            if cell.spacer and col > first:
                continue
            look = cell.background + (self._look(ref, cell.style) if cell.style else b"")
            if cell.linked:
                look += b"\x1b]8;;%b\x1b\\" % _link(ref)
            if blanks:
                parts += [_plain_again(look_now), b" " * blanks]
                blanks, look_now = 0, b""
            if look != look_now:
                parts += [_plain_again(look_now), look]
                look_now = look
            parts.append(_graphemes(ref) if cell.cluster else cell.text)
        return b"".join([*parts, _plain_again(look_now)])

    def _look(self, ref: Any, style: int) -> bytes:
        """The look of a cell. Every page numbers its styles anew, so page and number name one."""
        key = int(ffi.cast("uintptr_t", ref.node)), style
        look = self._looks.get(key)
        if look is None:
            look = self._looks[key] = _look(ref)
        return look

    def pen(self) -> bytes:
        """What sets colours, link, protection, character sets and keyboard protocol as they are."""
        return self._formatted(pen=True)[len(self._formatted()) :]

    def _formatted(self, *, pen: bool = False) -> bytes:
        """The first cell of the screen, and after it the pen if `pen`."""
        selection = init_sized("GhosttySelection")
        selection.start = selection.end = self._terminal.ref(0, 0)[0]
        options = init_sized("GhosttyFormatterTerminalOptions")[0]
        options.emit = lib.GHOSTTY_FORMATTER_FORMAT_VT
        options.selection = selection
        if pen:
            for name in ("style", "hyperlink", "protection", "charsets", "kitty_keyboard"):
                setattr(options.extra.screen, name, True)
        formatter = ffi.new("GhosttyFormatter*")
        create, fill = lib.ghostty_formatter_terminal_new, lib.ghostty_formatter_format_alloc
        check(create(ffi.NULL, formatter, self._terminal._t[0], options), "formatter")
        try:
            return _owned(lambda at, n: fill(formatter[0], ffi.NULL, at, n))
        finally:
            lib.ghostty_formatter_free(formatter[0])

    def copy(self) -> Emulator:
        """A second terminal in the same state, at rest: a sequence that is half read is dropped."""
        data = _owned(
            lambda at, n: lib.ghostty_snapshot_encode_alloc(self._terminal._t[0], ffi.NULL, at, n)
        )
        decoder, handle = ffi.new("GhosttySnapshotDecoder*"), ffi.new("GhosttyTerminal*")
        buffer = ffi.from_buffer("uint8_t[]", data)
        check(lib.ghostty_snapshot_decoder_new_buf(ffi.NULL, decoder, buffer, len(data)), "decoder")
        try:
            check(lib.ghostty_snapshot_decoder_decode(decoder[0], handle), "decode")
        finally:
            lib.ghostty_snapshot_decoder_free(decoder[0])
        twin = Terminal(1, 1)
        twin.close()
        twin.__dict__.update(
            _t=handle, _free=weakref.finalize(twin, lib.ghostty_terminal_free, handle[0])
        )
        rows, cols = self.size
        copied = Emulator(rows=rows, cols=cols, history_bytes=0, _terminal=twin)
        copied.feed(b"\x18")
        return copied

    def close(self) -> None:
        """Give its memory back."""
        self._terminal.close()

    def _get(self, key: str, ctype: str = "uint16_t") -> Any:
        return self._terminal.get(key, ctype)


def _owned(call: Any) -> bytes:
    """A copy of the bytes that `call` allocates, which are freed."""
    at, n = ffi.new("uint8_t**"), ffi.new("size_t*")
    check(call(at, n), "format")
    try:
        return bytes(ffi.buffer(at[0], n[0]))
    finally:
        lib.ghostty_free(ffi.NULL, at[0], n[0])


# -- one cell -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cell:
    text: bytes
    background: bytes
    spacer: bool
    """The second half of a wide character, or the gap before one that went to the next row."""
    cluster: bool
    style: int
    """Its number; 0 for none."""
    linked: bool


_CELL = ffi.new("GhosttyCell*")
_FLAGS = (("bold", 1), ("faint", 2), ("italic", 3), ("blink", 5), ("inverse", 7), ("invisible", 8))
_MORE_FLAGS = (("strikethrough", 9), ("overline", 53))


def _plain_again(look: bytes) -> bytes:
    return (b"\x1b[0m" if look else b"") + (b"\x1b]8;;\x1b\\" if b"\x1b]8;" in look else b"")


@functools.lru_cache(4096)
def _decoded(raw: int) -> _Cell:
    """What a cell's packed value means; the same value always means the same."""
    tag = _of_cell(raw, "CONTENT_TAG", "GhosttyCellContentTag")
    background = b""
    if tag == lib.GHOSTTY_CELL_CONTENT_BG_COLOR_PALETTE:
        index = _of_cell(raw, "COLOR_PALETTE", "GhosttyColorPaletteIndex")
        background = b"\x1b[%bm" % _palette(40, index)
    elif tag == lib.GHOSTTY_CELL_CONTENT_BG_COLOR_RGB:
        rgb = _of_cell(raw, "COLOR_RGB", "GhosttyColorRgb")
        background = b"\x1b[48;2;%d;%d;%dm" % (rgb.r, rgb.g, rgb.b)
    code = 0 if background else _of_cell(raw, "CODEPOINT", "uint32_t")
    return _Cell(
        text=chr(code).encode("utf-8", "replace") if code >= 0x20 else b" ",
        background=background,
        spacer=_of_cell(raw, "WIDE", "GhosttyCellWide") >= lib.GHOSTTY_CELL_WIDE_SPACER_TAIL,
        cluster=tag == lib.GHOSTTY_CELL_CONTENT_CODEPOINT_GRAPHEME,
        style=int(_of_cell(raw, "STYLE_ID", "GhosttyStyleId")),
        linked=bool(_of_cell(raw, "HAS_HYPERLINK", "bool")),
    )


def _of_cell(raw: int, what: str, ctype: str) -> Any:
    out = ffi.new(f"{ctype}*")
    check(lib.ghostty_cell_get(raw, getattr(lib, f"GHOSTTY_CELL_DATA_{what}"), out), what)
    return out[0]


def _look(ref: Any) -> bytes:
    """What sets the style of a cell, after a plain pen."""
    style = init_sized("GhosttyStyle")
    check(lib.ghostty_grid_ref_style(ref, style), "style")
    words = [b"%d" % code for name, code in _FLAGS + _MORE_FLAGS if getattr(style, name)]
    if style.underline:
        words.append(b"4" if style.underline == 1 else b"4:%d" % style.underline)
    words += _colour(30, style.fg_color) + _colour(40, style.bg_color)
    words += [word.replace(b";", b":") for word in _colour(50, style.underline_color)]
    return b"\x1b[%bm" % b";".join(words) if words else b""


def _colour(base: int, colour: Any) -> list[bytes]:
    if colour.tag == lib.GHOSTTY_STYLE_COLOR_PALETTE:
        return [_palette(base, colour.value.palette)]
    if colour.tag == lib.GHOSTTY_STYLE_COLOR_RGB:
        rgb = colour.value.rgb
        return [b"%d;2;%d;%d;%d" % (base + 8, rgb.r, rgb.g, rgb.b)]
    return []


def _palette(base: int, index: int) -> bytes:
    if index >= 16 or base == 50:  # underlines have no short forms
        return b"%d;5;%d" % (base + 8, index)
    return b"%d" % (base + index if index < 8 else base + 60 + index - 8)


def _graphemes(ref: Any) -> bytes:
    codes, n = ffi.new("uint32_t[]", 64), ffi.new("size_t*")
    if lib.ghostty_grid_ref_graphemes(ref, codes, len(codes), n):
        return b" "  # a cluster of more than 64 code points
    return "".join(map(chr, codes[0 : n[0]])).encode("utf-8", "replace")


def _link(ref: Any) -> bytes:
    uri, n = ffi.new("uint8_t[]", 2048), ffi.new("size_t*")
    if lib.ghostty_grid_ref_hyperlink_uri(ref, uri, len(uri), n):
        return b""
    return bytes(ffi.buffer(uri, n[0]))
