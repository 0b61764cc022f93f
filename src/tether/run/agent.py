"""`tether agent`: read the settings, build the parts, run them, stop.

Law: the only place that constructs an agent. Signals are blocked before any thread starts. What
keeps the agent from starting is one line on stderr and exit code 1; what happens later is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tether import log
from tether.agent.commands.policy import TransferPolicy
from tether.agent.control.link import AgentControl
from tether.agent.debug_http import Introspection
from tether.agent.journal.journal import Journal
from tether.agent.journal.previous_run import JournaledRun, RunMarker, post_mortem
from tether.agent.journal.storage import JournalFailed
from tether.agent.metrics import AgentMetrics, Layer
from tether.agent.process.environment import inherited
from tether.agent.ssh.host_key import HostKey, HostKeyUnusable, load_or_create
from tether.agent.ssh.server import SshServer, SshSettings
from tether.agent.stop_script import StopScript
from tether.agent.supervisor import AgentIdentity, Supervisor
from tether.agent.terminal.browser import browser_terminals
from tether.agent.terminal.pty import PtySettings
from tether.agent.tunnels.direct_endpoint import DirectEndpoint, DirectSettings
from tether.agent.tunnels.manager import Tunnels
from tether.agent.tunnels.probe import probes
from tether.attribution import evidence as ev
from tether.attribution.records import to_record
from tether.attribution.vocabulary import Party, Purpose, Resource
from tether.net import signals
from tether.net.clock import Clock, SystemClock
from tether.net.host.identity import boot_id
from tether.net.host.watch import HostWatch
from tether.net.orphans import OrphanReaper
from tether.net.parent import follow_parent
from tether.net.postmortem.black_box import BlackBox
from tether.net.tasks import Tasks
from tether.net.transport.tcp import NoAddress, join_address
from tether.net.tunnel.relay_dial import dial_relay
from tether.protocol.messages.reports import ReportItem
from tether.protocol.tunnel.resume_policy import VANISHED_S
from tether.run.starting import (
    CannotStart,
    TokenFile,
    control_dial,
    control_url,
    locked,
    loop_factory,
    read_token,
    settle_trust,
    warn_of_readers,
)
from tether.version import VERSION

JOURNAL_FILE = "journal.db"

LISTENER_STOP_S = 0.5
"""How long whoever reads the metrics may hold up our end."""

_log = log.get_logger("agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What `tether agent` is told."""

    server_url: str
    token_file: Path
    data_dir: Path
    log_format: str = "text"
    log_level: str = "info"
    login_timeout_s: float = 30.0
    directory: str = ""
    motd_file: Path = Path("/etc/motd")
    announcement_file: Path | None = None
    stop_script: Path | None = None
    policy: TransferPolicy = field(default_factory=TransferPolicy)
    terminals: PtySettings = field(default_factory=PtySettings)
    metrics_listen: tuple[str, int] | None = None
    """Loopback host and port of /metrics; None for nowhere."""
    direct: DirectSettings = field(default_factory=DirectSettings)
    ca_file: Path | None = None
    """Certificate authorities that are trusted besides the system's."""
    insecure_http: bool = False
    """Whether a server on another machine may be reached without TLS."""
    resume_vanished_s: float = VANISHED_S
    """How long a tunnel waits for a client whose stream ended at once."""


@dataclass(frozen=True, slots=True)
class _Built:
    """The parts that are run."""

    supervisor: Supervisor
    ssh: SshServer
    door: DirectEndpoint


def main(settings: AgentSettings) -> int:
    """Run an agent until it is told to stop; the exit code."""
    signals.block()
    log.configure(settings.log_format, settings.log_level, program="agent")
    if not follow_parent():
        print("tether: the process that started this is gone", file=sys.stderr)
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
        with (
            locked(settings.data_dir, "agent"),
            asyncio.Runner(loop_factory=loop_factory()) as runner,
        ):
            host_key = _host_key(settings.data_dir)
            box = BlackBox.open(settings.data_dir, Party.AGENT, SystemClock())
            code, journal_closed = runner.run(_run(settings, host_key, box))
    except (CannotStart, JournalFailed) as wrong:
        if settings.log_format == "json":  # whoever keeps the log finds it there
            _log.error("agent cannot start", error=str(wrong))
        print(f"tether: {wrong}", file=sys.stderr)
        return 1
    except Exception as wrong:
        _log.exception("agent crashed")
        if box is not None:
            box.failed(wrong)
        return 1
    if not journal_closed:  # its thread hangs in a disk that does not answer, and would hold us
        sys.stderr.flush()
        os._exit(code)
    return code


async def _run(settings: AgentSettings, host_key: HostKey, box: BlackBox) -> tuple[int, bool]:
    clock = SystemClock()
    me = RunMarker(
        instance_id=uuid.uuid4().hex,
        boot_id=boot_id(),
        pid=os.getpid(),
        started_at=clock.now().wall,
    )
    journal, previous = await Journal.open(
        settings.data_dir / JOURNAL_FILE,
        me,
        clock=clock,
        owed=lambda previous: post_mortem(
            previous,
            boot_id=me.boot_id,
            at=clock.now().wall,
            found=box.death_of(previous.marker.instance_id),
        ),
    )
    box.begin(me.instance_id)
    journal.when_full(partial(box.host.exhausted, Resource.DISK))
    _log.info("agent starting", version=VERSION, pid=me.pid, server=settings.server_url)
    if previous is not None and previous.died:
        _tell_of_death(previous, me, box.death_of(previous.marker.instance_id))
    try:
        built = _build(settings, host_key, journal, me, clock, box.host)

        def signalled(received: signals.Received) -> None:
            if built.supervisor.signalled(received):
                box.signalled(received)

        watcher = signals.SignalWatcher(signalled)
        reaper = OrphanReaper()
        built.door.start()
        try:
            async with _told_here(settings.metrics_listen, built.ssh, me):
                code = await built.supervisor.run()
        finally:
            watcher.stop()
            reaper.stop()
            await built.door.close()
        await box.end()
    finally:
        closed = await journal.close()
    return code, closed


def _build(
    settings: AgentSettings,
    host_key: HostKey,
    journal: Journal,
    me: RunMarker,
    clock: Clock,
    watch: HostWatch,
) -> _Built:
    metrics = AgentMetrics()
    ssh = _ssh(settings, host_key, journal, clock, watch, metrics)
    tunnels = _tunnels(settings, ssh, host_key, journal, clock)
    door = _door(settings, tunnels)
    token = TokenFile(lambda: _read_token(settings.token_file))
    control = AgentControl(
        dial=control_dial(control_url(settings.server_url), token.token, Party.AGENT),
        journal=journal,
        clock=clock,
        on_end=partial(metrics.disconnected, Layer.CONTROL_LINK),
        host_context=watch,
        endpoints=door.endpoints,
        ask_others=tunnels.ask_clients,
        another_token=token.another,
    )
    watch.on_network = lambda change: control.refresh_soon()
    supervisor = Supervisor(
        me=AgentIdentity(
            run=me,
            hostname=socket.gethostname(),
            ssh_host_key=host_key.public_line,
            hangup_stops=_hangup_stops(),
        ),
        control=control,
        tunnels=tunnels,
        ssh=ssh,
        journal=journal,
        clock=clock,
        stop_script=StopScript(
            settings.stop_script,
            data_dir=settings.data_dir,
            env=inherited(os.environ),
            directory=os.path.expanduser("~"),
        ),
    )
    return _Built(supervisor, ssh, door)


def _tunnels(
    settings: AgentSettings, ssh: SshServer, host_key: HostKey, journal: Journal, clock: Clock
) -> Tunnels:
    return Tunnels(
        ssh=ssh,
        journal=journal,
        clock=clock,
        dial=dial_relay,
        others={
            Purpose.PROBE: probes(clock=clock),
            Purpose.TERMINAL: browser_terminals(
                terminals=lambda: ssh.terminals,
                host_key=host_key.signer,
                workspace=lambda: ssh.settings.workspace,
                clock=clock,
                on_item=journal.post,
            ),
        },
        vanished_s=settings.resume_vanished_s,
    )


def _ssh(
    settings: AgentSettings,
    host_key: HostKey,
    journal: Journal,
    clock: Clock,
    watch: HostWatch,
    metrics: AgentMetrics,
) -> SshServer:
    def report(item: ReportItem) -> None:
        journal.post(item)

    return SshServer(
        SshSettings(
            host_key=host_key,
            login_timeout_s=settings.login_timeout_s,
            env={**inherited(os.environ), "TETHER_URL": settings.server_url},
            directory=settings.directory,
            motd_file=settings.motd_file,
            announcement_file=settings.announcement_file,
            policy=settings.policy,
            terminals=settings.terminals,
        ),
        clock=clock,
        on_item=report,
        metrics=metrics,
        killed_for_memory=watch.killed_for_memory,
        host_context=watch,
    )


def _door(settings: AgentSettings, tunnels: Tunnels) -> DirectEndpoint:
    try:
        door = DirectEndpoint(settings.direct, settings.server_url, tunnels.join_directly)
    except NoAddress as wrong:
        raise CannotStart(str(wrong)) from wrong
    except OSError as wrong:
        at = settings.direct.listen or "any port"
        raise CannotStart(f"direct carriers cannot be accepted at {at}: {wrong}") from wrong
    tunnels.direct = door.open
    return door


@contextlib.asynccontextmanager
async def _told_here(
    address: tuple[str, int] | None, ssh: SshServer, me: RunMarker
) -> AsyncIterator[None]:
    """Serve `/metrics` meanwhile, if it was asked for."""
    if address is None:
        yield
        return
    from tether.net.transport.http_server import HttpServer, bind

    try:
        sock = bind(*address)
    except OSError as wrong:
        raise CannotStart(
            f"metrics cannot be told at {address[0]}:{address[1]}: {wrong}"
        ) from wrong
    listener = HttpServer(
        Introspection(metrics=ssh.metrics.render, state=lambda: _state(ssh, me)), grace_s=0
    )
    tasks = Tasks("metrics")
    tasks.spawn(listener.serve(sockets=[sock]), "listener")
    _log.info("metrics ready", url=f"http://{join_address(*sock.getsockname()[:2])}/metrics")
    try:
        yield
    finally:
        listener.should_exit = True
        await tasks.wait(LISTENER_STOP_S)
        await tasks.cancel()
        sock.close()


def _state(ssh: SshServer, me: RunMarker) -> dict[str, object]:
    settings = ssh.settings
    return {
        "version": VERSION,
        "pid": me.pid,
        "instance_id": me.instance_id,
        "started_at": me.started_at,
        "workspace": settings.workspace,
        "workspace_id": settings.workspace_id,
        "policy": dataclasses.asdict(settings.policy),
        "variables": sorted(settings.env),
        "sessions": {
            app: count for app, count in sorted(ssh.metrics.sessions_open.items()) if count
        },
        "connections": [
            {"connection_id": key, "user": served.offer.user, "client_ip": served.offer.client_ip}
            for key, served in ssh.live.items()
        ],
    }


def _tell_of_death(
    previous: JournaledRun, me: RunMarker, found: tuple[ev.Evidence, ...] = ()
) -> None:
    told = [to_record(fact)["values"] for fact in found if isinstance(fact, ev.PreviousRunDied)]
    _log.warning(
        "previous run died",
        previous_pid=previous.marker.pid,
        started_at=previous.marker.started_at,
        last_alive_at=previous.last_alive_at,
        host_rebooted=previous.host_rebooted(me.boot_id),
        open_connections=len(previous.open_connections),
        post_mortem={name: value for name, value in told[0].items() if value} if told else None,
    )


def _read_token(path: Path) -> str:
    source = "`tether workspace create` (its agent_token) or `tether workspace token`"
    return read_token(path, "agent", source, prefix="tether_agent_")


def _host_key(data_dir: Path) -> HostKey:
    try:
        return load_or_create(data_dir)
    except HostKeyUnusable as wrong:
        raise CannotStart(str(wrong)) from wrong
    except OSError as wrong:
        raise CannotStart(f"the SSH host key cannot be kept in {data_dir}: {wrong}") from wrong


def _hangup_stops() -> bool:
    """Whether SIGHUP should end this agent: it has a terminal, and was not started by nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        return not ignored
    return False
