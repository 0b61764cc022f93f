"""`tether up`: a whole Tether on this machine, for one person.

Law: a parent and two children, server and agent; the parent only starts, watches, restarts and stops
them, in that order, and says each thing that it does in one line. The agent is stopped first, so that
its last reports find a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tether import config
from tether.cli.api import Api
from tether.client.errors import Failure, set_up_logging
from tether.net import signals
from tether.net.clock import Clock, SystemClock
from tether.net.orphans import OrphanReaper
from tether.net.tasks import Tasks
from tether.net.transport.tcp import NoAddress, join_address, split_address
from tether.protocol.backoff import Backoff
from tether.run.children import ChildProgram, how_it_ended, rotate
from tether.run.starting import CannotStart, locked

WORKSPACE = "local"
DEFAULT_PORT = 7080
READY_S = 60.0
STOP_S = 10.0
RESTART_FIRST_S, RESTART_MOST_S = 0.5, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """What `tether up` is told."""

    data_dir: Path
    listen: str = ""
    """"" for the remembered port, the default one, or a free one."""
    log_format: str = "json"
    verbose: bool = False


def main(settings: UpSettings) -> int:
    """Run until Ctrl-C or SIGTERM; the exit code.

    Raises:
        Failure, ConfigError: it cannot start; the text says what to do.
    """
    signals.block()
    set_up_logging(os.environ)
    with locked(settings.data_dir, "up"):
        return asyncio.run(Up(settings, SystemClock()).run())


class Up:
    """One run."""

    def __init__(self, settings: UpSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._dir = settings.data_dir
        self._memory = self._dir / "up.json"
        self._remembered = _read_memory(self._memory)
        self._listen = choose_listen(settings.listen, self._remembered.get("listen", ""))
        self._url = url_of(self._listen)
        self._stop = asyncio.Event()
        self._tasks = Tasks("up")
        self._server = self._child(
            "server", ["--listen", self._listen, "--data-dir", str(self._dir / "server")]
        )
        self._agent = self._child(
            "agent",
            [
                *("--server", self._url, "--token-file", str(self._agent_token)),
                *("--data-dir", str(self._dir / "agent")),
                *(["--insecure-http"] if config.is_clear_text(self._url) else []),
            ],
        )

    async def run(self) -> int:
        """Start everything, stay, stop everything; the exit code."""
        watcher = signals.SignalWatcher(self._signalled)
        reaper = OrphanReaper()
        starting = self._tasks.spawn(self._start(), "start")
        stop = self._tasks.spawn(self._stop.wait(), "stop")
        try:
            await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stop
        finally:
            await self._tasks.cancel()  # first: nothing may be started or restarted any more
            await self._shut_down()
            watcher.stop()
            reaper.stop()
        return 0

    async def _start(self) -> None:
        say(f"Starting the server at {self._url} …")
        await self._start_child(self._server, "server ready")
        _write_memory(self._memory, {"listen": self._listen, "url": self._url})
        admin = config.ClientConfig(
            url=self._url,
            token=self._admin_token.read_text().strip(),
            insecure_http=config.is_clear_text(self._url),  # an address of this machine
        )
        state = await asyncio.to_thread(self._prepare_workspace, Api(admin, timeout=STOP_S))
        say("Starting the agent of workspace local …")
        await self._start_child(self._agent, "agent ready")
        for child in (self._server, self._agent):
            self._tasks.spawn(self._keep(child), child.name)
        link = await asyncio.to_thread(_sign_in_link, Api(admin, timeout=STOP_S))
        self._greet(configure_client(admin, self._remembered.get("url", "")), state, link)

    async def _start_child(self, child: ChildProgram, event: str) -> None:
        rotate(child.log)
        child.start()
        if self._settings.verbose:
            self._tasks.spawn(_tail(child), f"tail {child.name}")
        if await child.wait_event(event, READY_S) is None:
            said = child.last_words()
            raise Failure(
                f"the {child.name} did not start{f': {said}' if said else ''} (log: {child.log})"
            )

    def _prepare_workspace(self, api: Api) -> str:
        """Have the workspace and its agent's token; the workspace's state."""
        found = {row["name"]: row for row in api.get("/workspaces")}
        if WORKSPACE not in found:
            say(f"Creating workspace {WORKSPACE} …")
            token = api.post("/workspaces", {"name": WORKSPACE})["agent_token"]
        elif not self._agent_token.exists():
            token = api.post(f"/workspaces/{WORKSPACE}/agent-token")["agent_token"]
        else:
            return str(found[WORKSPACE]["state"])
        config.write_atomically(self._agent_token, f"{token}\n")
        return str(found.get(WORKSPACE, {}).get("state", "running"))

    async def _keep(self, child: ChildProgram) -> None:
        """Start `child` again whenever it ends."""
        backoff = Backoff(first=RESTART_FIRST_S, most=RESTART_MOST_S)
        while True:
            status = await child.ended()
            backoff.lived(self._clock.now().mono - child.started_at)
            delay = backoff.delay(jitter=0.0)
            why = child.last_words() if status > 0 else ""
            say(
                f"The {child.name} {how_it_ended(status)}{f' ({why})' if why else ''}; "
                f"restarting it in {delay:g} s."
            )
            await asyncio.sleep(delay)
            child.start()

    async def _shut_down(self) -> None:
        for child in (self._agent, self._server):
            if child.pid is None:
                continue
            say(f"Stopping the {child.name} …")
            if not await child.stop(STOP_S):
                say(f"The {child.name} was killed.")
        say("Stopped.")

    def _signalled(self, received: signals.Received) -> None:
        if not self._stop.is_set():
            self._stop.set()
            if received.number == signal.SIGINT:
                say("Stopping; Ctrl-C again kills at once.")
        elif received.number == signal.SIGINT:
            for child in (self._agent, self._server):
                child.signal(signal.SIGKILL)

    def _greet(self, note: str, state: str, link: str) -> None:
        say(f"Tether runs at {self._url}. Its files and logs are in {self._dir}.")
        say(f"Open it in a browser (this link signs in once, within 10 minutes):\n  {link}")
        if note:
            say(note)
        if state != "running":
            say(f"Workspace {WORKSPACE} is stopped: `tether workspace start {WORKSPACE}`.")
        say(
            "Try, in another terminal:\n"
            f"  tether ssh {WORKSPACE}\n"
            f"  tether config-ssh && ssh {WORKSPACE}.tether\n"
            "  tether connections\n"
            "  tether web --print    (another sign-in link)\n"
            "Ctrl-C stops it."
        )

    def _child(self, name: str, arguments: list[str]) -> ChildProgram:
        log_format = ["--log-format", self._settings.log_format]
        return ChildProgram(
            name,
            [*arguments, *log_format],
            self._dir / "logs" / f"{name}.log",
            self._clock,
            leaves_note_in=self._dir / name,
        )

    @property
    def _agent_token(self) -> Path:
        return self._dir / "agent-token"

    @property
    def _admin_token(self) -> Path:
        return self._dir / "server" / "admin-token"


def _sign_in_link(api: Api) -> str:
    return str(api.post("/sign-in-links")["url"])


def configure_client(mine: config.ClientConfig, formerly: str) -> str:
    """Point the user's client to this server, unless it points to another; what to tell them.

    Args:
        mine: this server, as its administrator.
        formerly: where this server was last time; a client that points there is ours.
    """
    files = config.client_files(os.environ)
    try:
        saved = config.load_saved(files)
    except config.ConfigError as wrong:
        return f"Your client is not set up: {wrong}"
    if saved is None or saved.url in (mine.url, formerly):
        if saved != mine:
            config.save(files, mine)
        other = os.environ.get("TETHER_URL", "")
        return f"TETHER_URL points to {other}, not here." if other not in ("", mine.url) else ""
    return (
        f"Your client uses {saved.url}; `tether login {mine.url} --token -` with the token in the "
        f"server directory (admin-token) switches to this one."
    )


def choose_listen(given: str, remembered: str) -> str:
    """Where to listen: as told, as last time, at the default port, or at a free one.

    Raises:
        CannotStart: what was told cannot be used.
    """
    if given:
        _checked(given)
        if not _free(given):
            raise CannotStart(
                f"{given} cannot be listened at: it is in use, or not of this machine"
            )
        return given
    for candidate in (remembered, f"127.0.0.1:{DEFAULT_PORT}"):
        if candidate and _free(candidate):
            return candidate
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _checked(listen: str) -> None:
    try:
        _, port = split_address(listen)
    except NoAddress as wrong:
        raise CannotStart(str(wrong)) from wrong
    if not port:
        raise CannotStart("--listen names a port: leave it out for one that is free")


def url_of(listen: str) -> str:
    """How this machine reaches a server that listens there."""
    host, port = split_address(listen)
    return f"http://{join_address({'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host), port)}"


def say(text: str) -> None:
    """Tell the user, at once."""
    with contextlib.suppress(OSError):  # a closed terminal must not keep us from stopping in order
        print(text, flush=True)


def _free(address: str) -> bool:
    host, port = split_address(address)
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError:
        return False
    return True


def _read_memory(path: Path) -> dict[str, str]:
    try:
        memory = json.loads(path.read_bytes())
        return {str(key): str(value) for key, value in memory.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _write_memory(path: Path, memory: dict[str, Any]) -> None:
    config.write_atomically(path, json.dumps(memory) + "\n")


async def _tail(child: ChildProgram) -> None:
    """Copy a child's log to stderr as it grows."""
    with child.log.open("rb") as file:
        while True:
            if new := file.read():
                sys.stderr.buffer.write(new)
                sys.stderr.flush()
            await asyncio.sleep(0.2)
