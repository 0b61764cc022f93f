"""The screen host: a process of the agent's that emulates its reconnecting terminals, and nothing else.

Law: it reads frames on its standard input, writes frames on its standard output, and ends with its
input. It holds nobody's descriptors, keys or tokens. It exists because the emulator is native code that
parses whatever any program prints: when it crashes, screens are lost, and no session is.
"""

from __future__ import annotations

import os
import signal

from tether.agent.screen.screen import TerminalScreen
from tether.agent.screen.wire import Frames, Op, encode, read_sides, read_wanted, shown

_CHUNK = 256 << 10


def handle(screens: dict[int, TerminalScreen], op: Op, number: int, body: bytes) -> bytes:
    """Carry out one frame; returns the frames to send back."""
    if op is Op.OPEN:
        rows, cols = read_sides(body)
        screens[number] = TerminalScreen(rows=rows, cols=cols)
        return b""
    screen = screens.get(number)
    if screen is None:
        return b""
    match op:
        case Op.FEED:
            answers = screen.feed(body)
            return encode(Op.ANSWER, number, answers) if answers else b""
        case Op.RESIZE:
            rows, cols = read_sides(body)
            screen.resize(rows=rows, cols=cols)
        case Op.SHOW:
            ticket, history, rows, cols = read_wanted(body)
            vt = screen.frame(rows=rows, cols=cols) if rows else screen.snapshot(history=history)
            return encode(Op.SHOWN, number, shown(ticket, screen.title, vt))
        case Op.CLOSE:
            screens.pop(number).close()
        case _:
            pass
    return b""


def main() -> None:
    """Serve until the agent closes our input."""
    # The agent decides when we end: by closing our input, also when it dies.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    screens: dict[int, TerminalScreen] = {}
    frames = Frames()
    while data := os.read(0, _CHUNK):
        for op, number, body in frames.feed(data):
            answer = memoryview(handle(screens, op, number, body))
            while answer:
                answer = answer[os.write(1, answer) :]


if __name__ == "__main__":
    main()
