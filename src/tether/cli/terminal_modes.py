"""What a terminal is told so that it is as usual again, whatever a remote program had told it.

Law: bytes only. They undo modes (another screen, mouse, keyboard protocols, bracketed paste, a hidden
cursor, colours) and leave what is on the user's screen where it is.
"""

CANCEL = b"\x18"
"""Ends a sequence that may have been cut off."""

LEAVE_ALTERNATE = b"\x1b[?1049l"
"""Back to the screen with the shell's lines, and to the cursor that was saved with it."""

LEAVE_ALTERNATE_IF_THERE = b"\x1b7" + LEAVE_ALTERNATE
"""The same where it is not known whether the terminal shows another screen. Each screen has a saved
cursor of its own: on the usual one the cursor is saved here, and so stays where it is."""

# Margins are reset with the cursor kept: DECSTBM moves it home.
USUAL = (
    b"\x1b7\x1b[r\x1b8\x1b[!p\x1b[?5l\x1b[?7h\x1b[?25h\x1b[4l\x1b[20l"
    b"\x1b[0m\x1b[0 q\x1b(B\x1b)B\x0f\x1b>\x1b]8;;\x1b\\\x1b[=0;1u"
    b"\x1b[?1l\x1b[?9l\x1b[?45l\x1b[?66l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l"
    b"\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?2004l\x1b[?2026l\x1b[?2031l\x1b[?12l"
)
