"""`tether server`: read the settings, build the parts, run them, stop.

Law: the only place that constructs a server. Signals are blocked before any thread starts. What keeps
the server from starting is one line on stderr and exit code 1; what happens later is logged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable
from typing import Any

from tether import log
from tether.attribution.classify import signal_actor
from tether.attribution.vocabulary import Party
from tether.net import signals
from tether.net.clock import Clock, SystemClock
from tether.net.derp.relay import Relay
from tether.net.derp.tickets import TicketGate, Tickets
from tether.net.link.host_context import SharedHostContext
from tether.net.orphans import OrphanReaper
from tether.net.parent import follow_parent
from tether.net.postmortem.black_box import BlackBox
from tether.net.tasks import Tasks
from tether.net.transport.crowd import Crowd, most_connections
from tether.net.transport.http_server import HttpServer
from tether.net.transport.tls_metric import certificate_gauge
from tether.protocol.derp.pairing import PairingTable
from tether.protocol.messages.derp import EMBEDDED_REGION
from tether.run.addresses import own_hosts, relay_url, url_of
from tether.run.starting import (
    CannotStart,
    booted_at,
    certificate_of,
    listen_socket,
    locked,
    loop_factory,
    stop_signals,
)
from tether.server.api.app import create_api
from tether.server.api.parts import Browsers
from tether.server.app import Dispatcher
from tether.server.auth.accounts import Accounts
from tether.server.auth.ca import UserCa
from tether.server.auth.keys import BadKeyFile, ServerKeys, load_keys
from tether.server.auth.throttle import FailureThrottle
from tether.server.connlog.janitor import Janitor
from tether.server.connlog.log import ConnectionLog
from tether.server.connlog.runs import no_black_box
from tether.server.control.agents import AgentLinks
from tether.server.control.carriers import Carriers
from tether.server.control.clients import ClientLinks
from tether.server.control.coordination import CoordinationFront
from tether.server.control.directory import Directory
from tether.server.control.handshake import Handshakes
from tether.server.control.hub import Hub
from tether.server.control.link import ControlLinkRunner
from tether.server.control.relays import Relays
from tether.server.control.withdrawals import Withdrawals
from tether.server.db.store import Store, StoreUnavailable
from tether.server.derp.map import Regions
from tether.server.derp.map_file import DerpMapFile
from tether.server.derp.map_store import DerpMaps
from tether.server.health import OutageWatch
from tether.server.metrics import Metrics
from tether.server.settings import (
    BadSetting,
    ServerSettings,
    TrustedProxies,
)
from tether.server.shutdown import Shutdown
from tether.server.web.assets import WebInterface
from tether.server.web.cookies import SessionCookie
from tether.server.workspaces import Workspaces
from tether.version import VERSION

__all__ = [
    "BadSetting",
    "CannotStart",
    "Server",
    "ServerSettings",
    "main",
    "run_server",
]

DATABASE_FILE = "server.db"
ALIVE_EVERY_S = 5.0
LISTENER_STOP_S = 2.0

_log = log.get_logger("server")


def main(settings: ServerSettings) -> int:
    """Run a server until it is told to stop; the exit code."""
    signals.block()
    log.configure(settings.log_format, settings.log_level, program="server")
    if not follow_parent():
        return 1
    box: BlackBox | None = None
    try:
        with (
            locked(settings.data_dir, "server"),
            asyncio.Runner(loop_factory=loop_factory()) as runner,
        ):
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

    reloads = settings.derp_map is not None or settings.tls_cert is not None

    def on_signal(received: signals.Received) -> None:
        if received.number == signal.SIGHUP and reloads:
            server.reload()
        elif asked.done():
            server.hurry()
        else:
            asked.set_result(signal_actor(received.number, received.sender))
            if box is not None:
                box.signalled(received)

    watched = stop_signals()
    if reloads and signal.SIGHUP not in watched:
        watched = (*watched, signal.SIGHUP)
    watcher = signals.SignalWatcher(on_signal, watched)
    reaper = OrphanReaper()
    try:
        await asyncio.wait((asked, server.served), return_when=asyncio.FIRST_COMPLETED)
        died = not asked.done()
        if died:
            _log.error("the listener ended by itself")
        await server.stop("" if died else asked.result())
    finally:
        watcher.stop()
        reaper.stop()
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
        self.port = port
        self.url = url_of(settings, port)
        self._own_hosts = own_hosts(settings)
        self.run_id = uuid.uuid4().hex
        self._box = box
        self._clock = clock
        self.store = store
        self._tasks = Tasks("server")
        self.metrics = Metrics()
        self.accounts = Accounts(store, clock)
        self.connections = ConnectionLog(store, clock, self.metrics)
        self.relay = self._make_relay(settings) if settings.embedded_relay else None
        self._tickets = Tickets(keys.ticket, clock)
        self._throttle = FailureThrottle(clock)
        self.regions = Regions(relay_url(settings, self.url) if self.relay is not None else None)
        in_file = settings.derp_map is not None
        self._derp_maps = DerpMaps(store, clock, self.regions, from_file=in_file)
        self._derp_file: DerpMapFile | None = None
        if settings.derp_map is not None:
            self._derp_file = DerpMapFile(settings.derp_map.absolute(), self.regions)
        self._cookie = SessionCookie.of_server(self.url, port)
        proxies = TrustedProxies(settings.trusted_proxies)
        self._handshakes = Handshakes(
            accounts=self.accounts,
            cookie=self._cookie,
            metrics=self.metrics,
            throttle=self._throttle,
            proxies=proxies,
            hello_s=settings.link_times.hello_s,
        )
        directory = Directory(store)
        self.coordination = CoordinationFront(directory=directory, clock=clock, key=keys.resume)
        self.hub = self._make_hub(settings, UserCa(keys.user_ca), directory)
        self.workspaces = Workspaces(store, self.accounts, self.hub, clock)
        expires = certificate_gauge(self.metrics.registry)
        self.tls = certificate_of(settings.tls_cert, settings.tls_key, clock, expires)
        self.crowd = Crowd(
            most=most_connections(), gave_way=lambda: self.metrics.refused("silent_connection")
        )
        dispatcher = self._make_front()
        self._listener = self._make_listener(dispatcher, proxies)
        self._shutdown = Shutdown(
            dispatcher=dispatcher,
            hub=self.hub,
            relay=self.relay,
            regions=self.regions,
            clock=clock,
        )
        self.served: asyncio.Task[None]

    def _make_relay(self, settings: ServerSettings) -> Relay:
        """The embedded relay."""
        host_context = None
        if self._box is not None:
            host_context = SharedHostContext(self._box.host, host=Party.SERVER, guest=Party.RELAY)
        return Relay(
            log=self.connections,
            clock=self._clock,
            counts=self.metrics.relay,
            table=PairingTable(wait_s=settings.pairing_wait_s),
            host_context=host_context,
        )

    def _make_hub(self, settings: ServerSettings, ca: UserCa, directory: Directory) -> Hub:
        """Control links, the janitor, and who is told of what happens."""
        runner = self._make_runner(settings)
        relays = self._make_relays(runner)
        agents = AgentLinks(
            runner=runner,
            directory=directory,
            relays=relays,
            regions=self.regions,
            coordination=self.coordination,
            user_ca_key=ca.public_key,
            min_version=settings.min_agent_version,
        )
        self.agents = agents
        carriers = Carriers(
            log=self.connections,
            agents=agents,
            regions=self.regions,
            coordination=self.coordination,
            tickets=self._tickets,
            clock=self._clock,
            metrics=self.metrics,
        )
        clients = ClientLinks(
            runner=runner,
            directory=directory,
            agents=agents,
            ca=ca,
            regions=self.regions,
            carriers=carriers,
            resume_s=settings.resume_s,
            coordination=self.coordination,
        )
        hub = Hub(
            runner=runner,
            handshakes=self._handshakes,
            agents=agents,
            clients=clients,
            log=self.connections,
            relays=relays,
            clock=self._clock,
            coordination=self.coordination,
        )
        self._janitor = Janitor(
            log=self.connections,
            is_carried=relays.carries,
            end_left=agents.end_left,
            clock=self._clock,
            graces=settings.graces,
        )
        # Calls go from what was made later to what was made earlier. The way back is only these
        # subscriptions: see "Who is told of what" in docs/architecture.md.
        agents.subscribe(self._janitor)
        self.connections.subscribe(self._janitor.log_changed)
        self.connections.subscribe(clients.log_changed)
        self._withdrawals = Withdrawals(self.connections, hub.end_tunnels)
        self.connections.subscribe(self._withdrawals.log_changed)
        self.regions.subscribe(hub.map_changed)
        return hub

    def _make_runner(self, settings: ServerSettings) -> ControlLinkRunner:
        """What runs every control link."""
        return ControlLinkRunner(
            log=self.connections,
            clock=self._clock,
            metrics=self.metrics,
            times=settings.link_times,
            server_instance=self.run_id,
            still_refused=self._handshakes.still_refused,
            host_context=None if self._box is None else self._box.host,
        )

    def _make_relays(self, runner: ControlLinkRunner) -> Relays:
        """The embedded relay, and the links of others."""
        return Relays(
            runner=runner,
            embedded=self.relay,
            regions=self.regions,
            ticket_keys=self._tickets.public_keys,
            carrier_ended=self.connections.carrier_ended,
        )

    def _make_front(self) -> Dispatcher:
        """What is behind the one port."""
        api = create_api(
            store=self.store,
            accounts=self.accounts,
            workspaces=self.workspaces,
            connections=self.connections,
            hub=self.hub,
            derp_maps=self._derp_maps,
            metrics=self.metrics,
            clock=self._clock,
            version=VERSION,
            throttle=self._throttle,
            client_ip=self._handshakes.client_ip,
            browsers=Browsers(
                cookie=self._cookie,
                url=self.url,
                regions=self.regions,
            ),
            warnings=list if self.tls is None else self.tls.warnings,
        )
        return Dispatcher(
            api=api,
            web=WebInterface(),
            hub=self.hub,
            relay=self.relay,
            gate=TicketGate(EMBEDDED_REGION, self._clock, [self._tickets.public_key]),
            handshakes=self._handshakes,
            own_hosts=self._own_hosts,
        )

    def _make_listener(self, front: Dispatcher, proxies: TrustedProxies) -> HttpServer:
        """What listens at the one port."""
        return HttpServer(
            front,
            trusts=proxies.trusts,
            tls=None if self.tls is None else self.tls.context,
            only_by_tls=self.url.startswith("https:"),
            crowd=self.crowd,
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
        sock = listen_socket(settings.host, settings.port)
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
            if self._derp_file is None:
                await self._derp_maps.load()
            else:
                self._derp_file.load()
                self._tasks.keep(self._derp_file.follow, "derp-map")
            await self.accounts.bootstrap(settings.data_dir)
            previous = await self.connections.start_run(
                self.run_id,
                booted_at=booted_at(self._clock),
                death_of=no_black_box if self._box is None else self._box.death_of,
            )
            if self._box is not None:
                self._box.begin(self.run_id)
        except (StoreUnavailable, ValueError, OSError) as wrong:  # BadDerpMap is a ValueError
            raise CannotStart(str(wrong)) from wrong
        if previous.died:
            _log.warning(
                "previous run died",
                last_alive_at=previous.last_alive_at,
                open_tunnels=len(previous.tunnels),
            )
        self._janitor.inherit(previous)
        self.agents.expect(previous.agents)
        if self.tls is not None:
            self._tasks.keep(self.tls.follow, "certificate")
        self._tasks.keep(self._janitor.run, "janitor")
        self._tasks.keep(self._withdrawals.run, "withdrawals")
        self._tasks.keep(self._keep_alive, "alive")
        self.served = self._tasks.spawn(self._listener.serve(sockets=[sock]), "listener")
        started = self._tasks.spawn(self._listener.wait_started(), "started")
        await asyncio.wait((started, self.served), return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            await self._tasks.cancel()
            raise CannotStart("the listener did not start: look at the log")

    async def stop(self, actor: str) -> None:
        """Leave everybody in order, then stop."""
        self.connections.live.close()
        await self._shutdown.run(actor)
        self._listener.should_exit = True
        await asyncio.wait({self.served}, timeout=LISTENER_STOP_S)
        if self.relay is not None:
            await self.relay.aclose()
        await self.coordination.aclose()
        await self._tasks.cancel()
        try:
            await self.accounts.flush_uses()
            await self.connections.end_run(self.run_id)
        except StoreUnavailable as wrong:
            _log.error("the end of this run is not written", error=str(wrong))
        await self.store.close()
        if self._box is not None:
            await self._box.end()
        _log.info("server stopped")

    def reload(self) -> None:
        """Read the DERP map's file and the certificate anew, where there are any."""
        if self._derp_file is not None:
            self._derp_file.reload()
        if self.tls is not None:
            self.tls.reload()

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._shutdown.hurry()

    async def _keep_alive(self) -> None:
        watch = OutageWatch(lost=self.hub.database_lost, back=self.hub.database_back)
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            try:
                await self.connections.beat(self.run_id)
                watch.beat_worked()
            except StoreUnavailable as wrong:
                watch.beat_failed(wrong)


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
