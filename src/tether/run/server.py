"""`tether server`: read the settings, build the parts, run them, stop.

Law: the only place that constructs a server. Signals are blocked before any thread starts. What keeps
the server from starting is one line on stderr and exit code 1; what happens later is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tether import log
from tether.attribution.classify import signal_actor
from tether.attribution.vocabulary import Party
from tether.net import signals
from tether.net.clock import Clock, SystemClock
from tether.net.http_server import Listener, bind
from tether.net.parent import follow_parent
from tether.net.tasks import Tasks
from tether.protocol.relay_pairing import PairingTable
from tether.run.black_box import BlackBox
from tether.server.accounts import Accounts
from tether.server.agent_links import AgentLinks
from tether.server.api import create_api
from tether.server.asgi import RELAY_PATH, Dispatcher
from tether.server.ca import UserCa
from tether.server.client_links import ClientLinks
from tether.server.connlog import ConnectionLog
from tether.server.coordination import CoordinationFront
from tether.server.database_watch import DatabaseWatch
from tether.server.directory import Directory
from tether.server.handshake import Handshakes, Opening
from tether.server.hub import Hub
from tether.server.janitor import Janitor
from tether.server.keys import BadKeyFile, ServerKeys, load_keys
from tether.server.links import Lines
from tether.server.metrics import Metrics
from tether.server.relay import Relay
from tether.server.runs import no_black_box
from tether.server.settings import BadSetting, ServerSettings, TrustedProxies, parse_listen
from tether.server.shutdown import Shutdown
from tether.server.store import Store, StoreUnavailable
from tether.server.throttle import FailureThrottle
from tether.server.tickets import Tickets
from tether.server.workspaces import Workspaces
from tether.version import VERSION

__all__ = [
    "BadSetting",
    "CannotStart",
    "Server",
    "ServerSettings",
    "main",
    "parse_listen",
    "run_server",
]

DATABASE_FILE = "server.db"
ALIVE_EVERY_S = 5.0
LISTENER_STOP_S = 2.0
WILDCARDS = ("0.0.0.0", "::")

_log = log.get_logger("server")


class CannotStart(Exception):
    """The server cannot start; the text is one sentence that says what to do."""


def main(settings: ServerSettings) -> int:
    """Run a server until it is told to stop; the exit code."""
    signals.block()
    log.configure(settings.log_format, settings.log_level, program="server")
    if not follow_parent():
        return 1
    box: BlackBox | None = None
    try:
        with locked(settings.data_dir), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            box = BlackBox.open(settings.data_dir, Party.SERVER, SystemClock())
            return runner.run(run_server(settings, box))
    except CannotStart as wrong:
        print(f"tether: {wrong}", file=sys.stderr)
        return 1
    except Exception as wrong:
        _log.exception("server crashed")
        if box is not None:
            box.failed(wrong)
        return 1


async def run_server(settings: ServerSettings, box: BlackBox | None = None) -> int:
    """Run a server until SIGTERM or SIGINT; the exit code.

    Raises:
        CannotStart: it cannot.
    """
    server = await Server.start(settings, SystemClock(), box)
    asked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_signal(received: signals.Received) -> None:
        if asked.done():
            server.hurry()
        else:
            asked.set_result(signal_actor(received.number, received.sender))
            if box is not None:
                box.signalled(received)

    watcher = signals.SignalWatcher(on_signal, _stop_signals())
    try:
        await asyncio.wait((asked, server.served), return_when=asyncio.FIRST_COMPLETED)
        died = not asked.done()
        if died:
            _log.error("the listener ended by itself")
        await server.stop("" if died else asked.result())
    finally:
        watcher.stop()
    return int(died)


class Server:
    """A running server. Made by `start`; call `stop` once."""

    def __init__(
        self,
        settings: ServerSettings,
        clock: Clock,
        store: Store,
        keys: ServerKeys,
        port: int,
        box: BlackBox | None = None,
    ) -> None:
        self._box = box
        self.port, self.url, self.run_id = port, _url_of(settings, port), uuid.uuid4().hex
        self._clock, self._store = clock, store
        self._tasks = Tasks("server")
        self.metrics = metrics = Metrics()
        self.accounts = accounts = Accounts(store, clock)
        self.connections = connections = ConnectionLog(store, clock, metrics)
        self.relay = relay = Relay(
            log=connections,
            clock=clock,
            metrics=metrics,
            table=PairingTable(wait_s=settings.pairing_wait_s),
        )
        self._janitor = Janitor(
            log=connections, lives=relay.lives, clock=clock, graces=settings.graces
        )
        self._tickets, self._throttle = Tickets(keys.ticket, clock), FailureThrottle(clock)
        self._handshakes = Handshakes(
            accounts=accounts,
            metrics=metrics,
            throttle=self._throttle,
            proxies=TrustedProxies(settings.trusted_proxies),
            hello_s=settings.link_times.hello_s,
        )
        directory = Directory(store)
        self.coordination = CoordinationFront(directory=directory, clock=clock, key=keys.resume)
        self.hub = self._make_hub(settings, UserCa(keys.user_ca), directory)
        self.workspaces = Workspaces(store, accounts, self.hub, clock)
        dispatcher = self._make_front()
        self._listener = Listener(dispatcher)
        self._shutdown = Shutdown(
            dispatcher=dispatcher, hub=self.hub, relay=relay, log=connections, clock=clock
        )
        self.served: asyncio.Task[None]

    def _make_hub(self, settings: ServerSettings, ca: UserCa, directory: Directory) -> Hub:
        """Control links, and who hears of what happens to connections."""
        lines = Lines(
            log=self.connections,
            clock=self._clock,
            metrics=self.metrics,
            times=settings.link_times,
            server_instance=self.run_id,
            still_refused=self._handshakes.still_refused,
            surroundings=None if self._box is None else self._box.host,
        )
        agents = AgentLinks(
            lines=lines,
            directory=directory,
            presence=self._janitor,
            user_ca_key=ca.public_key,
            decline=self.relay.decline,
            lives=self.relay.lives,
            coordination=self.coordination,
            min_version=settings.min_agent_version,
        )
        clients = ClientLinks(
            lines=lines,
            directory=directory,
            agents=agents,
            tickets=self._tickets,
            ca=ca,
            relay_url=_relay_url(settings, self.url),
            resume_s=settings.resume_s,
            coordination=self.coordination,
        )
        self.connections.listen(opened=clients.used, closed=self._janitor.closed)
        self.connections.on_tunnel_over = self._janitor.tunnel_over
        return Hub(
            handshakes=self._handshakes,
            agents=agents,
            clients=clients,
            log=self.connections,
            relay=self.relay,
            clock=self._clock,
            coordination=self.coordination,
        )

    def _make_front(self) -> Dispatcher:
        """What is behind the one port."""
        api = create_api(
            store=self._store,
            accounts=self.accounts,
            workspaces=self.workspaces,
            connlog=self.connections,
            hub=self.hub,
            metrics=self.metrics,
            clock=self._clock,
            version=VERSION,
            throttle=self._throttle,
            client_ip=self._handshakes.client_ip,
        )
        return Dispatcher(
            api=api,
            hub=self.hub,
            relay=self.relay,
            tickets=self._tickets,
            handshakes=self._handshakes,
        )

    @classmethod
    async def start(
        cls, settings: ServerSettings, clock: Clock, box: BlackBox | None = None
    ) -> Server:
        """Build a server and listen.

        Raises:
            CannotStart: it cannot be built, or the address cannot be listened at.
        """
        keys = _or_cannot(lambda: load_keys(settings.data_dir))
        sock = _listen_socket(settings)
        try:
            store = await _open_store(settings)
        except BaseException:
            sock.close()
            raise
        try:
            server = cls(settings, clock, store, keys, sock.getsockname()[1], box)
            await server._begin(settings, sock)
        except BaseException:
            sock.close()
            await store.close()
            raise
        _log.info(
            "server ready",
            url=server.url,
            data_dir=str(settings.data_dir),
            version=VERSION,
            pid=os.getpid(),
        )
        return server

    async def _begin(self, settings: ServerSettings, sock: socket.socket) -> None:
        try:
            await self.accounts.bootstrap(settings.data_dir)
            previous = await self.connections.start_run(
                self.run_id,
                booted_at=_booted_at(self._clock),
                death_of=no_black_box if self._box is None else self._box.death_of,
            )
            if self._box is not None:
                self._box.begin(self.run_id)
        except (StoreUnavailable, ValueError, OSError) as wrong:
            raise CannotStart(str(wrong)) from wrong
        if previous.died:
            _log.warning(
                "previous run died",
                last_alive_at=previous.last_alive_at,
                open_tunnels=len(previous.tunnels),
            )
        self._janitor.inherit(previous.tunnels, previous.last_alive_at)
        self._tasks.spawn(self._janitor.run(), "janitor")
        self._tasks.spawn(self._keep_alive(), "alive")
        self.served = self._tasks.spawn(self._listener.serve(sockets=[sock]), "listener")
        started = self._tasks.spawn(self._listener.wait_started(), "started")
        await asyncio.wait((started, self.served), return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            await self._tasks.cancel()
            raise CannotStart("the listener did not start: look at the log")

    async def stop(self, actor: str) -> None:
        """Leave everybody in order, then stop."""
        await self._shutdown.run(actor)
        self._listener.should_exit = True
        await asyncio.wait({self.served}, timeout=LISTENER_STOP_S)
        await self.relay.aclose()
        await self.coordination.aclose()
        await self._tasks.cancel()
        try:
            await self.accounts.flush_uses()
            await self.connections.end_run(self.run_id)
        except StoreUnavailable as wrong:
            _log.error("the end of this run is not written", error=str(wrong))
        await self._store.close()
        if self._box is not None:
            await self._box.end()
        _log.info("server stopped")

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._shutdown.hurry()

    async def _keep_alive(self) -> None:
        watch = DatabaseWatch(lost=self.hub.database_lost, back=self.hub.database_back)
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            try:
                await self.connections.beat(self.run_id)
                watch.beat_worked()
            except StoreUnavailable as wrong:
                watch.beat_failed(wrong)


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory, made where there is none; one server at a time.

    Raises:
        CannotStart: another server has it, or it cannot be used.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as wrong:
        raise CannotStart(f"{data_dir} cannot be used: {wrong.strerror}") from wrong
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as wrong:
        raise CannotStart(
            f"another `tether server` uses {data_dir}: stop it, or choose another --data-dir"
        ) from wrong
    finally:
        os.close(descriptor)


async def _open_store(settings: ServerSettings) -> Store:
    try:
        return await Store.open(settings.database or settings.data_dir / DATABASE_FILE)
    except StoreUnavailable as wrong:
        raise CannotStart(str(wrong)) from wrong


def _or_cannot(make: Callable[[], ServerKeys]) -> ServerKeys:
    try:
        return make()
    except (BadKeyFile, OSError) as wrong:
        raise CannotStart(str(wrong)) from wrong


def _listen_socket(settings: ServerSettings) -> socket.socket:
    try:
        return bind(settings.host, settings.port)
    except OSError as wrong:
        where = f"{settings.host}:{settings.port}"
        raise CannotStart(f"{where} cannot be listened at: {wrong.strerror or wrong}") from wrong


def _url_of(settings: ServerSettings, port: int) -> str:
    if settings.external_url:
        return settings.external_url.rstrip("/")
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{port}"


def _relay_url(settings: ServerSettings, url: str) -> Callable[[Opening], str]:
    """Where a peer dials the relay: a server that listens everywhere has no address of its own, so
    the peer comes back the way it came."""

    def by_peer(opening: Opening) -> str:
        if opening.host and not settings.external_url and settings.host in WILDCARDS:
            return f"ws://{opening.host}{RELAY_PATH}"
        return f"ws{url.removeprefix('http')}{RELAY_PATH}"

    return by_peer


def _booted_at(clock: Clock) -> float | None:
    """When this machine booted (unix seconds), where the kernel tells."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return None if boottime is None else clock.now().wall - time.clock_gettime(boottime)


def _stop_signals() -> tuple[signal.Signals, ...]:
    """A closed terminal stops a server in order, too, unless it was started to survive that."""
    ending = (signal.SIGTERM, signal.SIGINT)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return ending
    return (*ending, signal.SIGHUP)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
