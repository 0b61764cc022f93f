"""The agent's life: ready, standing by, stopping; and the order in which it ends.

Law: the data plane never depends on the control link. Ending goes top-down and each step has a
deadline: no new tunnels, a cause to every tunnel before anything is closed, their ends in the journal,
the user's stop script, the journal to the server, a goodbye on the control link, the clean-stop mark. A
second signal shortens the waits; it never drops a cause.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from tether.agent.control.link import AgentControl, ServerCommand
from tether.agent.journal.journal import Journal
from tether.agent.journal.previous_run import RunMarker
from tether.agent.lifecycle import Lifecycle
from tether.agent.ssh.server import SshSettings
from tether.agent.stop_script import GRACE_S, StopScript
from tether.agent.tunnels.manager import SshServing, Tunnels
from tether.agent.tunnels.service import EndOrder
from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import WORKSPACE_STOPS, cause_of
from tether.attribution.causes.codes import AGENT_INTERNAL_ERROR, AGENT_SHUTDOWN
from tether.attribution.classify import classify, signal_actor
from tether.attribution.explain import explain
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.signals import Received
from tether.net.tasks import Tasks
from tether.protocol.link.redial import Dismissed, Outcome, Stopped, TokenRejected
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import (
    EndConnections,
    Hello,
    Welcome,
    WorkspaceStart,
    WorkspaceStop,
)
from tether.protocol.messages.reports import LifecycleState
from tether.protocol.messages.tunnel import CarrierOffer, ClientLost, TunnelOffer
from tether.version import VERSION

ALIVE_EVERY_S = 5.0
"""How often the journal notes that this run is alive."""

WHOLE_S = 7.8
"""All of the shutdown: containers are killed after ten seconds."""

SERVES_S = 3.5
"""How long tunnels may take to end in order."""

DROP_S = 0.3
"""How long they may take after that to be dropped."""

FLUSH_S = 2.0
"""How long the server may take to acknowledge the journal."""

LEAVE_S = 1.8
"""How long the control link may take to end after its goodbye."""

COORDINATION_S = 1.2
"""How long the coordinator may take to hang up: its own deadline, and a little."""

SERVER_LEAVES_S = 3.0
"""How long a stopped agent waits for the server to end the control link, before it does so itself."""

SCRIPT_S = 2.5
"""How long the stop script may run; less where the sessions took long to end."""

HURRIED_S = 0.3
"""What is left of each wait after a second signal."""

HELLO_IDS = 20_000
"""How many connection ids fit into a hello (MAX_CONTROL_MESSAGE)."""

T = TypeVar("T")
_log = get_logger("agent")


class Ssh(SshServing, Protocol):
    """What is needed of `agent.ssh.server.SshServer`."""

    settings: SshSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIdentity:
    """Who this agent is."""

    run: RunMarker
    hostname: str
    ssh_host_key: str
    hangup_stops: bool = False
    """Whether SIGHUP means that our terminal is gone, and that we should stop."""


class Supervisor:
    """Runs one agent. `run` returns the process's exit code."""

    def __init__(
        self,
        *,
        me: AgentIdentity,
        control: AgentControl,
        tunnels: Tunnels,
        ssh: Ssh,
        journal: Journal,
        clock: Clock,
        stop_script: StopScript,
    ) -> None:
        self._me = me
        self._control = control
        self._tunnels = tunnels
        self._ssh = ssh
        self._journal = journal
        self._clock = clock
        self._stop_script = stop_script
        self._lifecycle = Lifecycle(journal.post, clock, instance_id=me.run.instance_id)
        self._tasks = Tasks("agent")
        self._signalled = asyncio.Event()  # the first signal came
        self._hurry = asyncio.Event()  # a second one came
        self._first_signal: Received | None = None
        self._welcomed = False  # a link has been up in this run
        self._standby = False  # the workspace is stopped
        self._stopping: asyncio.Task[None] | None = None  # stops the workspace
        # While it does: the control link that the server is going to end, and why.
        self._stop: tuple[str, ev.GoodbyeSaid] | None = None

    def signalled(self, received: Received) -> bool:
        """A signal arrived. The first one stops the agent, the second one hurries it. Returns whether
        this one stops it."""
        actor = signal_actor(received.number, received.sender)
        if received.number == signal.SIGHUP and not self._me.hangup_stops:
            _log.info("hangup ignored", actor=actor)
        elif self._first_signal is None:
            self._first_signal = received
            self._signalled.set()
            return True
        else:
            _log.info("agent hurried", actor=actor)
            self._hurry.set()
        return False

    async def run(self) -> int:
        """Live until a signal, a refusal or the end of the workspace. Returns the exit code."""
        self._lifecycle.enter(LifecycleState.CREATED)
        controlling = self._tasks.keep(lambda: self._control.run(self), "control")
        alive = self._tasks.keep(self._keep_alive, "alive")
        signalled = self._tasks.spawn(self._signalled.wait(), "signal")
        try:
            await asyncio.wait({controlling, signalled}, return_when=asyncio.FIRST_COMPLETED)
            code, said = self._reason_to_stop(controlling)
            await self._shut_down(self._order(said), controlling)
            alive.cancel()
            await self._journal.stopped_cleanly()
            _log.info("agent stopped", exit_code=code)
            return code
        finally:
            await self._tasks.cancel()

    # -- what the server says (control.ControlOwner) --------------------------------------------

    async def hello(self) -> Hello:
        """Our first message on every link."""
        live = self._tunnels.ids
        waiting = await self._journal.unsettled() - live
        return Hello(
            protocol=PROTOCOL,
            role="agent",
            version=VERSION,
            instance_id=self._me.run.instance_id,
            boot_id=self._me.run.boot_id,
            hostname=self._me.hostname,
            ssh_host_key=self._me.ssh_host_key,
            journal_id=self._journal.journal_id,
            open_connections=[*sorted(live), *sorted(waiting)][:HELLO_IDS],
            serving=sorted(live),
        )

    def welcomed(self, welcome: Welcome) -> None:
        """A link is up."""
        self._ssh.settings = replace(
            self._ssh.settings,
            user_ca_key=welcome.user_ca_key,
            workspace=welcome.workspace,
            workspace_id=welcome.workspace_id,
        )
        if not self._welcomed:
            self._welcomed = True
            _log.info(
                "agent ready",
                workspace=welcome.workspace,
                workspace_id=welcome.workspace_id,
                connection_id=welcome.connection_id,
            )
        if welcome.workspace_running:
            self._started(actor="")
        else:
            self._stand_by()
            _log.info("workspace is stopped; standing by", workspace=welcome.workspace)

    def commanded(self, command: ServerCommand) -> None:
        """The server wants something done."""
        match command:
            case TunnelOffer():
                self._tunnels.offered(command, self._control.send)
            case CarrierOffer():
                self._tunnels.carrier_offered(command, self._control.send)
            case EndConnections(connection_ids=ids):
                self._tunnels.end(ids, self._ordered(command))
            case ClientLost(connection_ids=ids):
                self._tunnels.client_lost(ids)
            case WorkspaceStop():
                self._workspace_stops(command)
            case WorkspaceStart(actor=actor):
                self._started(actor)

    # -- standing by -----------------------------------------------------------------------

    def _workspace_stops(self, command: WorkspaceStop) -> None:
        if self._first_signal is not None or self._stopping is not None:
            return  # ending already, with an earlier cause
        order = self._ordered(command)
        self._stop = (self._control.connection_id, order.said)
        _log.info("workspace is stopping", cause=command.cause, actor=command.actor)
        self._lifecycle.go_down()
        self._stand_by()
        self._ssh.abandon(order.said)
        self._tunnels.end(None, order)
        self._stopping = self._tasks.spawn(self._stop_workspace(*self._stop), "workspace-stop")

    async def _stop_workspace(self, link: str, said: ev.GoodbyeSaid) -> None:
        for_ever = said.cause == WORKSPACE_STOPS["deleted"]
        try:
            await self._within(self._tunnels.close(SERVES_S), SERVES_S + DROP_S)
            self._tasks.spawn(self._ssh.hang_up(), "hang-up")
            self._lifecycle.end(await self._run_stop_script(said, SCRIPT_S))
            if not self._standby:  # started again meanwhile
                self._lifecycle.come_up()
            await self._within(self._lifecycle.written(), DROP_S)
            await self._within(self._control.flush(), FLUSH_S)
            if self._control.connection_id == link:
                await self._within(self._control.over(), SERVER_LEAVES_S)
            if self._control.connection_id == link:
                (self._control.quit if for_ever else self._control.leave)(said)
                await self._within(self._control.over(), LEAVE_S)
        finally:
            self._stopping = self._stop = None

    def _stand_by(self) -> None:
        self._standby = True
        if self._first_signal is None:
            self._tunnels.refuse(
                "the workspace is stopped: start it with `tether workspace start "
                f"{self._ssh.settings.workspace}`"
            )

    def _started(self, actor: str) -> None:
        if self._standby and self._first_signal is None:
            self._standby = False
            self._tunnels.refuse("")
            _log.info("workspace started", workspace=self._ssh.settings.workspace, actor=actor)
        if self._first_signal is None:
            self._lifecycle.come_up()

    # -- stopping --------------------------------------------------------------------------

    def _reason_to_stop(self, controlling: asyncio.Task[Outcome]) -> tuple[int, ev.GoodbyeSaid]:
        """The exit code, and what every tunnel is told."""
        said = ev.GoodbyeSaid(
            vantage=Vantage.AGENT,
            at=self._clock.now().wall,
            by=Party.AGENT,
            cause=AGENT_SHUTDOWN,
        )
        received = self._first_signal
        if received is not None:
            return 0, replace(said, actor=signal_actor(received.number, received.sender))
        if (wrong := controlling.exception()) is not None:
            _log.error("run exited with error", error=repr(wrong)[:200])
            return 1, replace(said, cause=AGENT_INTERNAL_ERROR, detail=repr(wrong)[:200])
        match controlling.result():
            case Stopped():
                return 0, said
            case TokenRejected(message=message):
                _log.error("server refused this agent", error=message)
                return 1, replace(said, detail=f"the server refused the agent: {message}")
            case Dismissed(goodbye=goodbye):
                expected = cause_of(goodbye.cause).expected
                said = replace(
                    said,
                    by=Party.SERVER,
                    cause=goodbye.cause,
                    actor=goodbye.actor,
                    detail=goodbye.detail,
                )
                (_log.info if expected else _log.error)(
                    "server dismissed this agent", reason=self._order(said).announcement
                )
                return (0 if expected else 1), said

    async def _shut_down(self, order: EndOrder, controlling: asyncio.Task[Outcome]) -> None:
        began = self._clock.now().mono
        _log.info("shutting down agent", actor=order.said.actor, connections=len(self._tunnels.ids))
        self._lifecycle.go_down()
        self._tunnels.refuse("the agent of this workspace is shutting down")
        self._ssh.abandon(order.said)
        self._tunnels.end(None, order)
        if self._stopping is not None:
            self._stopping.cancel()
        link, earlier = self._stop or ("", order.said)
        await self._within(self._tunnels.close(SERVES_S), SERVES_S + DROP_S)
        await self._within(self._ssh.finish(), DROP_S)  # its last records, before the flush
        hanging_up = self._tasks.spawn(self._ssh.hang_up(), "hang-up")
        # Only now: whoever was connected has been told, and no new tunnel shall be looked for.
        leaving = self._tasks.spawn(self._leave_coordination(order.said), "coordination")
        left = began + WHOLE_S - self._clock.now().mono - FLUSH_S - LEAVE_S
        self._lifecycle.end(await self._run_stop_script(order.said, min(SCRIPT_S, left)))
        await self._within(self._lifecycle.written(), DROP_S)  # else the flush would miss it
        if not await self._within(self._control.flush(), FLUSH_S):
            _log.warning("failed to report final lifecycle state", state=self._lifecycle.state)
        await self._within(asyncio.wait({leaving}), COORDINATION_S)
        # A stop that was under way came first, on the link that it came by.
        on_link = earlier if self._control.connection_id == link else order.said
        self._control.quit(on_link)
        await self._within(asyncio.wait({controlling}), LEAVE_S)
        controlling.cancel()
        await asyncio.wait({controlling})
        await self._within(asyncio.wait({hanging_up}), began + WHOLE_S - self._clock.now().mono)

    async def _leave_coordination(self, said: ev.GoodbyeSaid) -> None:
        acknowledged = await self._control.leave_coordination(said)
        if acknowledged is None:
            return  # there was no stream: nothing was disconnected
        if acknowledged:
            _log.info("coordinator RPC disconnected")
        else:
            _log.warning("timed out waiting for Coordinator RPC disconnect")

    async def _run_stop_script(self, said: ev.GoodbyeSaid, budget_s: float) -> LifecycleState:
        running = self._stop_script.run(
            max(budget_s - GRACE_S, GRACE_S), cause=said.cause, actor=said.actor
        )
        end = await self._within(running, max(budget_s, 2 * GRACE_S) + GRACE_S)
        return LifecycleState.SHUTDOWN_TIMEOUT if end is None else end

    async def _within(self, work: Coroutine[Any, Any, T], seconds: float) -> T | None:
        """Give `work` so many seconds, or a last moment once we are hurried. Returns None if it took
        longer or failed: whatever happens, the rest of a shutdown follows."""
        working = self._tasks.spawn(work, "wait")
        hurried = self._tasks.spawn(self._hurry.wait(), "hurry")
        try:
            await asyncio.wait(
                {working, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not working.done() and hurried.done():
                await asyncio.wait({working}, timeout=HURRIED_S)
            well = working.done() and not working.cancelled() and working.exception() is None
            return working.result() if well else None
        finally:
            hurried.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})

    def _ordered(self, command: WorkspaceStop | EndConnections) -> EndOrder:
        left = isinstance(command, EndConnections) and command.by_client
        by = Party.CLIENT if left else Party.SERVER
        return self._order(
            ev.GoodbyeSaid(
                vantage=Vantage.AGENT,
                at=self._clock.now().wall,
                by=by,
                cause=command.cause,
                actor=command.actor,
                detail=command.detail,
            )
        )

    def _order(self, said: ev.GoodbyeSaid) -> EndOrder:
        judged = classify(ConnectType.AGENT_TO_CLIENT, (said,)).disconnect
        return EndOrder(said, explain(judged, self._ssh.settings.workspace).sentence)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            self._control.refresh()
            await self._journal.alive()
