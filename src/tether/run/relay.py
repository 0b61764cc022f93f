"""`tether relay`: read the settings, build the parts, run them, stop.

Law: the only place that constructs a standalone relay. What keeps it from starting is one line on
stderr and exit code 1; what happens later is logged.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from tether import log
from tether.attribution.classify import signal_actor
from tether.attribution.vocabulary import Party
from tether.config import write_atomically
from tether.net import signals
from tether.net.clock import Clock, SystemClock
from tether.net.derp.metrics import RelayCounts
from tether.net.derp.relay import Relay, RelayLimits
from tether.net.derp.splice import CarrierLog
from tether.net.derp.tickets import TicketGate
from tether.net.link.handshake import sentence_of
from tether.net.orphans import OrphanReaper
from tether.net.parent import follow_parent
from tether.net.postmortem.black_box import BlackBox
from tether.net.tasks import Tasks
from tether.net.transport.crowd import Crowd, most_connections
from tether.net.transport.http_server import HttpServer
from tether.net.transport.tcp import join_address
from tether.net.transport.tls_metric import certificate_gauge
from tether.net.unexpected_metric import UnexpectedExceptions
from tether.protocol.derp.outbox import RelayLedger
from tether.protocol.link.redial import Dismissed, Outcome, Stopped, TokenRejected
from tether.protocol.messages.derp import EMBEDDED_REGION, REGION_NAME
from tether.relay.app import PATH, RelayFront
from tether.relay.control import RelayControl
from tether.relay.lifecycle import RelayLife
from tether.relay.previous_run import CarriersOnDisk, owed, read_left
from tether.run.starting import (
    CannotStart,
    certificate_of,
    control_dial,
    control_url,
    listen_socket,
    locked,
    loop_factory,
    read_token,
    settle_trust,
    stop_signals,
    warn_of_readers,
)
from tether.version import VERSION

LISTENER_STOP_S = 2.0
KEYS_FILE = "ticket-keys.json"
WILDCARDS = ("0.0.0.0", "::")

_log = log.get_logger("relay")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """What `tether relay` is told."""

    host: str
    port: int
    server_url: str
    token_file: Path
    region: str
    url: str = ""
    """Where legs are dialled; "" for the address that is listened on."""
    data_dir: Path | None = None
    """Where the server's ticket keys are kept, so that a restart needs no server; None for nowhere."""
    limits: RelayLimits = field(default_factory=RelayLimits)
    ca_file: Path | None = None
    """Certificate authorities that are trusted besides the system's."""
    insecure_http: bool = False
    """Whether a server on another machine may be reached without TLS."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    """With both, legs are dialled by TLS; None: a proxy before the relay does that, or nobody."""
    log_format: str = "text"
    log_level: str = "info"

    def __post_init__(self) -> None:
        if REGION_NAME.fullmatch(self.region) is None or self.region == EMBEDDED_REGION:
            raise CannotStart(
                f"--region is 1 to 32 of a-z, 0-9 and '-', and not {EMBEDDED_REGION}:"
                f" {self.region[:60]!r} is no region's name"
            )
        if self.url and not self.url.startswith(("ws://", "wss://")):
            raise CannotStart(f"--url begins with ws:// or wss://: {self.url}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise CannotStart("--tls-cert and --tls-key go together: give both, or none")


def main(settings: RelaySettings) -> int:
    """Run a relay until it is told to stop; the exit code."""
    signals.block()
    log.configure(settings.log_format, settings.log_level, program="relay")
    if not follow_parent():
        return 1
    box: BlackBox | None = None
    try:
        settle_trust(
            settings.server_url,
            ca_file=settings.ca_file,
            insecure_http=settings.insecure_http,
        )
        _read_token(settings.token_file)
        warn_of_readers(settings.token_file)
        with contextlib.ExitStack() as held:
            if settings.data_dir is not None:
                held.enter_context(locked(settings.data_dir, "relay"))
                box = BlackBox.open(settings.data_dir, Party.RELAY, SystemClock())
            runner = held.enter_context(asyncio.Runner(loop_factory=loop_factory()))
            return runner.run(_run(settings, box))
    except CannotStart as wrong:
        print(f"tether: {wrong}", file=sys.stderr)
        return 1
    except Exception as wrong:
        _log.exception("relay crashed")
        if box is not None:
            box.failed(wrong)
        return 1


class _Parts:
    """A relay and what it runs with."""

    def __init__(self, settings: RelaySettings, port: int, box: BlackBox | None) -> None:
        clock: Clock = SystemClock()
        self.box = box
        self.instance_id = uuid.uuid4().hex
        self.url = settings.url or _own_url(settings, port)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(UnexpectedExceptions())
        counts, ledger = RelayCounts(registry), RelayLedger()
        if box is not None and settings.data_dir is not None:
            _take_over(settings.data_dir, box, ledger, clock)
        self.gate = TicketGate(settings.region, clock, _kept_keys(settings.data_dir))
        self.control = RelayControl(
            dial=control_dial(
                control_url(settings.server_url),
                lambda: _read_token(settings.token_file),
                Party.RELAY,
            ),
            region=settings.region,
            url=self.url,
            instance_id=self.instance_id,
            hostname=socket.gethostname()[:255],
            clock=clock,
            ledger=ledger,
        )
        carrier_log: CarrierLog = self.control
        self.on_disk: CarriersOnDisk | None = None
        if settings.data_dir is not None:
            carrier_log = self.on_disk = CarriersOnDisk(
                self.control, settings.data_dir, self.instance_id
            )
        self.relay = Relay(
            log=carrier_log,
            clock=clock,
            counts=counts,
            limits=settings.limits,
            host_context=None if box is None else box.host,
        )
        self.life = RelayLife(
            relay=self.relay,
            gate=self.gate,
            control=self.control,
            clock=clock,
            on_keys=lambda keys: _keep_keys(settings.data_dir, keys),
        )
        expires = certificate_gauge(registry)
        self.tls = certificate_of(settings.tls_cert, settings.tls_key, clock, expires)
        front = RelayFront(
            relay=self.relay,
            gate=self.gate,
            registry=registry,
            ready=lambda: bool(self.gate.keys),
            warnings=list if self.tls is None else self.tls.warnings,
        )
        self.listener = self._make_listener(front, counts)

    def _make_listener(self, front: RelayFront, counts: RelayCounts) -> HttpServer:
        return HttpServer(
            front,
            tls=None if self.tls is None else self.tls.context,
            only_by_tls=self.tls is not None,
            crowd=Crowd(
                most=most_connections(), gave_way=lambda: counts.refused("silent_connection")
            ),
        )


async def _run(settings: RelaySettings, box: BlackBox | None) -> int:
    sock = listen_socket(settings.host, settings.port)
    tasks = Tasks("relay-run")
    parts = _Parts(settings, sock.getsockname()[1], box)
    if box is not None:
        box.begin(parts.instance_id)
    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_signal(received: signals.Received) -> None:
        if asked.done():
            parts.life.hurry()
        else:
            asked.set_result(signal_actor(received.number, received.sender))
            if box is not None:
                box.signalled(received)

    watcher = signals.SignalWatcher(on_signal, stop_signals())
    reaper = OrphanReaper()
    served = tasks.spawn(parts.listener.serve(sockets=[sock]), "listener")
    controlled = tasks.keep(lambda: parts.control.run(parts.life), "control")
    announcing = tasks.spawn(_announce(parts), "announce")
    if parts.tls is not None:
        tasks.keep(parts.tls.follow, "certificate")
    try:
        await asyncio.wait((asked, served, controlled), return_when=asyncio.FIRST_COMPLETED)
        code = int(not asked.done())
        if controlled.done() and (why := _refusal(controlled.result())):
            _log.error("the server does not take this relay", error=why)
        await parts.life.leave(asked.result() if asked.done() else "")
        parts.listener.should_exit = True
        await asyncio.wait({served}, timeout=LISTENER_STOP_S)
    finally:
        announcing.cancel()
        watcher.stop()
        reaper.stop()
        await parts.relay.aclose()
        if parts.on_disk is not None:
            await parts.on_disk.close()
        await tasks.cancel()
        sock.close()
    if box is not None:
        await box.end()
    _log.info("relay stopped")
    return code


def _refusal(outcome: Outcome) -> str:
    """Why the server does not take this relay any more, as one sentence; "" where it does."""
    match outcome:
        case TokenRejected(message=message):
            return message
        case Dismissed(goodbye=goodbye):
            return sentence_of(goodbye)
        case Stopped():
            return ""


def _take_over(data_dir: Path, box: BlackBox, ledger: RelayLedger, clock: Clock) -> None:
    """What the last run of this relay carried when it died is the first that there is to report."""
    if box.last is None or box.last.flight.ended == "clean":
        return
    left = read_left(data_dir)
    ends = owed(left, box.death_of(left.instance_id), at=clock.now().wall)
    for ended in ends:
        ledger.ended(ended)
    number, _ = box.last.ended_by
    _log.warning(
        "previous run died",
        last_alive_at=box.last.flight.alive_at,
        signal=number,
        carriers=len(ends),
    )


async def _announce(parts: _Parts) -> None:
    await parts.listener.wait_started()
    await parts.life.ready.wait()
    _log.info("relay ready", url=parts.url, version=VERSION, pid=os.getpid())


def _own_url(settings: RelaySettings, port: int) -> str:
    if settings.host in WILDCARDS:
        raise CannotStart("a relay that listens everywhere has no address of its own: give --url")
    scheme = "ws" if settings.tls_cert is None else "wss"
    return f"{scheme}://{join_address(settings.host, port)}{PATH}"


def _read_token(path: Path) -> str:
    return read_token(path, "relay", "`tether token create NAME --relay`", prefix="tether_relay_")


def _kept_keys(data_dir: Path | None) -> list[Ed25519PublicKey]:
    """The keys that the server told the last run; a file that is none is no reason not to start."""
    if data_dir is None:
        return []
    try:
        told = json.loads((data_dir / KEYS_FILE).read_text())
        return [Ed25519PublicKey.from_public_bytes(base64.b64decode(one)) for one in told]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as wrong:
        _log.warning("kept ticket keys cannot be read", error=str(wrong))
        return []


def _keep_keys(data_dir: Path | None, keys: list[Ed25519PublicKey]) -> None:
    if data_dir is None:
        return
    told = [base64.b64encode(key.public_bytes_raw()).decode() for key in keys]
    try:
        write_atomically(data_dir / KEYS_FILE, json.dumps(told))
    except OSError as wrong:
        _log.warning("ticket keys cannot be kept", error=str(wrong))
