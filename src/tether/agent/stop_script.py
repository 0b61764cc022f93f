"""The user's stop script: run once when the agent or its workspace stops, after the sessions ended.

Law: the script is given what is left of the shutdown (containers are killed after ten seconds), and is
ended when that is over. How it went is one log line, and never a reason to stay. What it prints goes
to a file in the data directory.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from tether.agent.process.process import ExitStatus, Process, Processes
from tether.log import get_logger
from tether.protocol.messages.reports import LifecycleState

LOG_NAME = "stop-script.log"
GRACE_S = 0.3
"""How long a script may take to end after SIGTERM."""

_RUN = 'exec "$1" >>"$2" 2>&1 </dev/null'
_log = get_logger("agent")


class StopScript:
    """The script of one agent. Without a `path` there is nothing to run."""

    def __init__(
        self, path: Path | None, *, data_dir: Path, env: Mapping[str, str], directory: str
    ) -> None:
        self._path = None if path is None else path.absolute()
        self._output = data_dir.absolute() / LOG_NAME
        self._env = env
        self._directory = directory

    async def run(self, budget_s: float, *, cause: str, actor: str) -> LifecycleState:
        """Run the script and wait for it, at most `budget_s` seconds.

        Returns:
            The state in which the agent's life ends by that.

        Args:
            budget_s: seconds until it is ended.
            cause: the catalogue code of why the agent stops, given as TETHER_STOP_CAUSE.
            actor: who asked for it, given as TETHER_STOP_ACTOR.
        """
        if self._path is None:
            return LifecycleState.OFF
        ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        told = {"TETHER_STOP_CAUSE": cause, "TETHER_STOP_ACTOR": actor}
        try:
            process, pipes = Processes().spawn(
                ["/bin/sh", "-c", _RUN, "sh", str(self._path), str(self._output)],
                env={**self._env, **told},
                directory=self._directory,
                on_exit=ended.set_result,
            )
        except OSError as wrong:
            _log.error("stop script could not be started", path=str(self._path), error=str(wrong))
            return LifecycleState.SHUTDOWN_ERROR
        for descriptor in (pipes.stdin, pipes.stdout, pipes.stderr):
            os.close(descriptor)
        return await self._wait(process, ended, budget_s)

    async def _wait(
        self, process: Process, ended: asyncio.Future[ExitStatus], budget_s: float
    ) -> LifecycleState:
        late = False
        try:
            await asyncio.wait({ended}, timeout=budget_s)
            late = not ended.done()
            if late:
                process.signal(signal.SIGTERM)
                await asyncio.wait({ended}, timeout=GRACE_S)
        finally:
            process.signal(signal.SIGKILL)  # nothing happens if it has ended
        if not ended.done():
            await asyncio.wait({ended}, timeout=GRACE_S)
        if ended.done() and ended.result().code == 0:
            _log.info("stop script ended", exit_code=0)
            return LifecycleState.SHUTDOWN_TIMEOUT if late else LifecycleState.OFF
        status = ended.result() if ended.done() else None
        _log.warning(
            "stop script failed",
            exit_code=status.code if status else None,
            exit_signal=status.signal if status else None,
            budget_s=round(budget_s, 1),
            output=str(self._output),
        )
        return LifecycleState.SHUTDOWN_TIMEOUT if late else LifecycleState.SHUTDOWN_ERROR
