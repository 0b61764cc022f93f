"""The watch over a scenario's run, from its fault until everybody has returned.

Law: the watch goes on for as long as the scenario says, and what counts is what the log says once
everybody has returned. A log that cannot be read meanwhile says nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence

from tether_gauntlet.lab.program import children
from tether_gauntlet.lab.shell import LabError
from tether_gauntlet.lab.stack import Row
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.scoring import settled
from tether_gauntlet.sessions import SessionLost
from tether_gauntlet.stage import Stage

POLL_S = 0.2
IDLE_POLL_S = 1.0
"""Between two looks at a log that already says all of the truth."""
ANSWER_S = 30.0
"""How long a session that should live may take to answer once everything has been healed."""
QUIET_S, RETURN_S = 3.0, 20.0
"""Everybody has returned: the log says nothing new for so long, or so much time has passed."""


class LogWatch:
    """Looks at the log again and again, and at the sessions once all is over."""

    def __init__(self, stage: Stage, scenario: Scenario) -> None:
        self._stage = stage
        self._scenario = scenario

    def until_over(self) -> tuple[list[Row], float]:
        """LogWatch the log for as long as the scenario says.

        Returns:
            The rows that have ended then, and how many seconds after the fault the log began to say just
            the truth; where it does not, when the watch was over.
        """
        assert self._stage.faulted_at, "the scenario marks its fault"
        right_since: float | None = None
        while True:
            ended, seconds = self._look()
            if not settled(self._scenario, ended):
                right_since = None
            elif right_since is None:
                right_since = seconds
            left = self._scenario.limit_s - seconds
            if left <= 0:
                return ended, seconds if right_since is None else right_since
            time.sleep(min(left, POLL_S if right_since is None else IDLE_POLL_S))

    def after_return(self, ended: Sequence[Row]) -> list[Row]:
        """Heal the world, let everybody return who can, and wait until the log says nothing new.

        Returns:
            What the log says then of the rows that had `ended`. What returns brings rows of its own,
            which are not scored.
        """
        self._stage.lab.heal()
        if self._stage.front is not None and not self._stage.front.runs():
            self._stage.front.start()
        if self._stage.stack.server.returncode is not None:
            self._stage.stack.start_server()
        if not self._scenario.gone_for_good:
            self._start_again()
        for session in self._stage.sessions:
            for pid in (*children(session.ssh.pid), session.ssh.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        for host in dict.fromkeys(self._stage.hosts):
            # whatever a dead client left is reported by the next one
            with contextlib.suppress(LabError):
                self._stage.stack.ssh("true", host=host, check=False, seconds=15)
        ids = {row["id"] for row in ended}

        def theirs() -> list[Row]:
            rows, _ = self._look()
            return [row for row in rows if row["id"] in ids]

        deadline = time.monotonic() + RETURN_S
        rows, since = theirs(), time.monotonic()
        while time.monotonic() < min(deadline, since + QUIET_S):
            time.sleep(POLL_S)
            before, rows = rows, theirs()
            if rows != before:
                since = time.monotonic()
        return rows

    def _start_again(self) -> None:
        """Start whoever was killed and can come back."""
        for host, relay in list(self._stage.stack.relays.items()):
            if (relay.returncode or 0) < 0:
                self._stage.stack.start_relay(host)
        for name, agent in list(self._stage.stack.agents.items()):
            if (agent.returncode or 0) < 0:
                with contextlib.suppress(LabError):  # it may have been deleted meanwhile
                    self._stage.stack.start_agent(name)

    def lost_sessions(self) -> list[str]:
        """The sessions that should live and do not, in a line each. To be called once the world has been
        healed; a session that a truth is about may have ended."""
        rows = self._stage.stack.connections()
        truths = self._scenario.truths
        ends = {row["id"] for row in rows if any(truth.concerns(row) for truth in truths)}
        lost = []
        for number, session in enumerate(self._stage.sessions):
            if not session.connection_id or session.connection_id in ends:
                continue
            if session.ssh.returncode is not None:
                lost.append(session.last_words(0))
            elif session.shell:
                try:
                    session.echoes(f"alive-{number}", ANSWER_S)
                except SessionLost as wrong:
                    lost.append(str(wrong))
        return lost

    def _look(self) -> tuple[list[Row], float]:
        with contextlib.suppress(LabError, OSError):
            ended = self._stage.ended()
            return ended, self._stage.seconds()
        return [], self._stage.seconds()  # the server is away: the log cannot be read now
