"""What a user types at an attached terminal: everything is the program's but the detach key.

Law: pure. Ctrl-\\ is the prefix, as in dtach and abduco; `d` after it detaches, a second Ctrl-\\ sends
one, and any other key is sent with the prefix before it. Nothing waits for a time.
"""

from __future__ import annotations

PREFIX = b"\x1c"
DETACH = b"d"
HINT = "Ctrl-\\ d"


class Keys:
    """Tells the detach key from what is for the program."""

    def __init__(self) -> None:
        self._held = False

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What the program is sent, and whether to detach; what follows the detach key is dropped."""
        sent = bytearray()
        while typed:
            if self._held:
                key, typed, self._held = typed[:1], typed[1:], False
                if key == DETACH:
                    return bytes(sent), True
                sent += PREFIX if key == PREFIX else PREFIX + key
                continue
            plain, found, typed = typed.partition(PREFIX)
            sent += plain
            self._held = bool(found)
        return bytes(sent), False
