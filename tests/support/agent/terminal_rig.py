"""An agent's terminals and their clients, without a network: the programs are played, or real ones."""

from __future__ import annotations

from typing import Any

from tests.support.agent.programs import Program, Programs, Wire
from tests.support.agent.terminals import LocalScreens, screen_cells
from tests.support.clock import LoopClock
from tether.agent.screen.client import Screens
from tether.agent.screen.ghostty import Emulator
from tether.agent.terminal.attach import AttachEnd, TerminalAttach
from tether.agent.terminal.pty import PtySettings, ReconnectingPty
from tether.agent.terminal.terminals import Terminals
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType


class TerminalRig:
    """An agent's terminals, with programs that the test plays and screens in this process."""

    def __init__(
        self, *, stubborn: bool = False, screens: Screens | None = None, **settings: Any
    ) -> None:
        self.clock = LoopClock()
        self.programs = Programs(stubborn=stubborn)
        self.ended: list[AttachEnd] = []
        self.over: list[ReconnectingPty] = []
        self.screens = screens or LocalScreens()
        self.terminals = Terminals(
            start=self.programs,
            screens=self.screens,
            clock=self.clock,
            settings=PtySettings(**settings),
            on_over=self.over.append,
        )

    def client(self, user: str = "alice", **init: Any) -> Wire:
        wire = Wire()
        wire.attach = TerminalAttach(
            wire,
            self.terminals,
            user=user,
            environment={"TETHER_USER": user},
            clock=self.clock,
            workspace="dev",
            on_end=self.ended.append,
        )
        if init.pop("opens", True):
            wire.open(**{"id": "t", **init})
        return wire

    @property
    def program(self) -> Program:
        """What was started last."""
        return self.programs.started[-1]

    async def watching(self, user: str = "alice", **init: Any) -> Wire:
        """A client that has been shown its first picture."""
        wire = self.client(user, **init)
        await wire.until(lambda: wire.snapshots or wire.exit_code is not None)
        return wire

    def causes(self) -> list[str]:
        """Of the attaches that have ended, in order."""
        return [
            classify(ConnectType.AGENT_TO_CLIENT, end.cell.facts).disconnect.cause
            for end in self.ended
        ]


def cells(stream: bytes, rows: int = 24, cols: int = 80) -> list[list[Any]]:
    """What shows after `stream` on a screen that was blank."""
    emulator = Emulator(rows=rows, cols=cols, history_bytes=0)
    emulator.feed(stream)
    return screen_cells(emulator)
