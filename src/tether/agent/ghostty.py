"""The edge to libghostty-vt: bytes, numbers and flags in and out of one emulated terminal.

Law: the only file that touches the library, and it decides nothing. The library is native code that
parses hostile input: it runs in the screen host's process only, never in the agent's own (ADR 0010).
Nothing here is thread-safe.
"""

from __future__ import annotations

import weakref
from typing import Any

from pyghostty._ffi import check, ffi, lib  # type: ignore[import-untyped]
from pyghostty.core import Terminal, init_sized  # type: ignore[import-untyped]

_HISTORY_BYTES = 8 << 20
_CONTINUATION_BYTES = 1 << 20
_OFF = ("KITTY_IMAGE_STORAGE_LIMIT", "CLIPBOARD_WRITE_MAX_BYTES")
_CELL_PX = (8, 16)


class Emulator:
    """One terminal. `feed` returns what it would answer to the program's queries."""

    def __init__(self, *, rows: int, cols: int, history: int, _terminal: Any = None) -> None:
        self._replies: list[bytes] = []
        if _terminal is None:
            _terminal = Terminal(cols, rows, scrollback=history)
            for name, ctype, value in (
                ("SCROLLBACK_MAX_BYTES", "size_t", _HISTORY_BYTES),
                ("CONTINUATION_MAX_BYTES", "size_t", _CONTINUATION_BYTES),
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
        self._terminal.feed(data)
        return list(self._replies)

    def resize(self, *, rows: int, cols: int) -> None:
        """Change the size; lines of the primary screen are laid out anew."""
        self._terminal.resize(cols, rows, *_CELL_PX)

    def wraps(self, row: int) -> bool:
        """Whether the text of screen row `row` goes on in the next."""
        found, wraps = ffi.new("GhosttyRow*"), ffi.new("bool*")
        check(lib.ghostty_grid_ref_row(self._terminal.ref(0, row), found), "row")
        check(lib.ghostty_row_get(found[0], lib.GHOSTTY_ROW_DATA_WRAP, wraps), "wrap")
        return bool(wraps[0])

    def text(
        self,
        first: tuple[int, int],
        last: tuple[int, int],
        *,
        history: bool = False,
        unwrap: bool = False,
        pen: bool = False,
    ) -> bytes:
        """The rectangle from `first` to `last` (row, column) with its colours, rows joined by CR LF.

        Args:
            first: its first cell.
            last: its last cell.
            history: rows count from the oldest that is kept, not from the screen's top.
            unwrap: join the rows of one line; the rectangle must be as wide as the screen.
            pen: append what sets the pen (colours, link, character sets, keyboard protocol).
        """
        selection = init_sized("GhosttySelection")
        tag = "history" if history else "active"
        selection.start = self._terminal.ref(first[1], first[0], tag)[0]
        selection.end = self._terminal.ref(last[1], last[0], tag)[0]
        selection.rectangle = not unwrap
        options = init_sized("GhosttyFormatterTerminalOptions")[0]
        options.emit = lib.GHOSTTY_FORMATTER_FORMAT_VT
        options.unwrap, options.trim, options.selection = unwrap, True, selection
        if pen:
            for name in ("style", "hyperlink", "protection", "charsets", "kitty_keyboard"):
                setattr(options.extra.screen, name, True)
        formatter = ffi.new("GhosttyFormatter*")
        create = lib.ghostty_formatter_terminal_new
        check(create(ffi.NULL, formatter, self._terminal._t[0], options), "formatter")
        try:
            return _owned(
                lambda at, n: lib.ghostty_formatter_format_alloc(formatter[0], ffi.NULL, at, n)
            )
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
        copied = Emulator(rows=rows, cols=cols, history=0, _terminal=twin)
        copied.feed(b"\x18")
        return copied

    def close(self) -> None:
        """Give its memory back."""
        self._terminal.close()

    def _get(self, key: str, ctype: str = "uint16_t") -> Any:
        return self._terminal.get(key, ctype)


def _owned(call: Any) -> bytes:
    """The bytes that `call` allocates, copied, and theirs given back."""
    at, n = ffi.new("uint8_t**"), ffi.new("size_t*")
    check(call(at, n), "format")
    try:
        return bytes(ffi.buffer(at[0], n[0]))
    finally:
        lib.ghostty_free(ffi.NULL, at[0], n[0])
