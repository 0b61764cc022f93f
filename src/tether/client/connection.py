"""One tunnel of this client, from the configuration to its last report: what every command shares.

Law: opens in this order: a control link, a grant, the first carrier. The grant is shown to the caller
before a carrier is dialled, so that a host key is checked before a byte passes. `close` undoes all of
it, whatever came up; the report of the end comes before it, while the way to the server is there. A
bug of ours that ends it is told as one (`failed`), never as an orderly leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import CLIENT_CLOSED, CLIENT_INTERNAL_ERROR
from tether.attribution.vocabulary import ConnectType, Party, Purpose, Vantage
from tether.client.carriers import CarrierManager
from tether.client.control.link import AgentAway, ClientControl
from tether.client.device_key import ensure_device_key, further_device_keys
from tether.client.errors import DEBUG, LOOK_INTO_IT, Failure
from tether.client.home_region import load_home
from tether.client.outcome import say
from tether.client.report.end_report import Seen, ended
from tether.client.report.recorder import ClientRecorder
from tether.config import ClientConfig, ClientFiles, ConfigError, client_files, load
from tether.net.clock import Clock
from tether.net.link.host_context import HostContext
from tether.net.transport.direct import dial_direct
from tether.net.transport.streams import DialFailed, MessageStream
from tether.net.transport.ws_client import dial
from tether.net.tunnel.relay_dial import dial_relay
from tether.net.tunnel.stream import TunnelStream
from tether.net.unexpected import unexpected
from tether.protocol.carriers.commands import Over, Status
from tether.protocol.derp.latency import RegionLatency
from tether.protocol.messages.base import Garbage, records_of
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE
from tether.protocol.messages.control import ROLE_HEADER
from tether.protocol.messages.reports import Ended
from tether.protocol.messages.tunnel import TunnelGrant
from tether.protocol.tunnel.join import TunnelKey
from tether.protocol.tunnel.resume_policy import Waits
from tether.text import duration

if TYPE_CHECKING:
    from tether.net.host.time import TimeEvent
    from tether.net.link.control_log import ControlLog


class RealDialler:
    """Opens carriers over the network."""

    async def relay(self, url: str, ticket: str, small_segments: bool) -> MessageStream:
        return await dial_relay(url, ticket, small_segments)

    async def direct(self, endpoint: str, small_segments: bool) -> MessageStream:
        return await dial_direct(endpoint, small_segments=small_segments)


SESSION_ID = "TETHER_CLIENT_SESSION_ID"
"""Names what this connection is part of: an IDE sets it to the same word for all of its own."""


WAIT = "TETHER_WAIT"
"""For how many seconds an agent that is not connected is waited for; `--wait` sets it."""

WAIT_S = 10.0
"""What that is where nobody has said: a container and its agent start within it."""

SILENCE_S = 2.0
"""How long nothing is said while the server or a carrier does not answer."""

ASK_AGAIN_S = 0.5
"""The pause between two questions."""


class ClientConnection:
    """A tunnel to a workspace, with the control link that it needs."""

    def __init__(
        self,
        workspace: str,
        env: Mapping[str, str],
        *,
        clock: Clock,
        purpose: Purpose = Purpose.SSH,
        on_grant: Callable[[ClientFiles, TunnelGrant], None] = lambda *_: None,
        on_status: Callable[[Status], None] = lambda _: None,
        on_over: Callable[[Over], None] = lambda _: None,
        linger: Callable[[], float] = lambda: 0.0,
        on_wait: Callable[[str], None] = say,
    ) -> None:
        """`on_grant` may raise `Failure`: nothing is dialled then. `linger` is asked how long the
        last report may wait for a server that is away, and makes it so that nobody waits for us.
        `on_wait` is told, in a sentence, what is waited for: an agent that may be starting, a server or
        a relay that does not answer."""
        self._workspace = workspace
        self._clock = clock
        self._purpose = purpose
        self._linger = linger
        self._on_grant = on_grant
        self._on_status = on_status
        self._on_over = on_over
        self.config: ClientConfig = load(env)
        self.files = client_files(env)
        self.control = ClientControl(self._dial_control, clock, log=_control_log(env))
        self._session_id = env.get(SESSION_ID, "")
        self._wait_s = _wait_of(env)
        self._on_wait = on_wait
        self.connection_id = ""
        self._stream: TunnelStream | None = None
        self.ways: CarrierManager | None = None
        self._witness: ClientRecorder | None = None
        self._failure: ev.InternalFailure | None = None

    async def open(self) -> TunnelStream:
        """The tunnel's stream, with a carrier in use.

        Raises:
            Failure: there is none; the text says why.
            DialFailed: the server could not be reached.
        """
        public_key = ensure_device_key(self.files)
        await self._connected()
        home = load_home(self.files, self.config.url, self._clock.now().wall)
        grant = await self._granted(public_key, home)
        self.connection_id = grant.connection_id
        self._on_grant(self.files, grant)
        try:
            key = TunnelKey.read(grant.tunnel_key)
        except Garbage as garbage:
            raise Failure("the server granted a tunnel without its key: update it") from garbage
        self._stream = stream = TunnelStream(
            me=Party.CLIENT,
            connection_id=grant.connection_id,
            key=key,
            clock=self._clock,
            waits=Waits(policy_s=grant.resume_s),
        )
        self.ways = ways = CarrierManager(
            grant,
            stream,
            self.control,
            clock=self._clock,
            dialler=RealDialler(),
            on_status=self._on_status,
            on_over=self._on_over,
        )
        ways.start()
        with self._waiting_for(f"a way to {self._workspace}: {ways.sought()} must answer"):
            await ways.ready()
        self.control.coordinate(grant.workspace_id, home.home)
        self._witness = ClientRecorder(
            self.files,
            self.config.url,
            instance_id=self.control.instance_id,
            clock=self._clock,
            server=self.control,
            keep_links=self.control.keep_links,
            on_time=self._time_passed,
            on_network=lambda _: ways.disturbed(),
        )
        self._witness.start(grant.connection_id)
        self.control.host_context.begin(self._witness.host_context)
        return stream

    async def _connected(self) -> None:
        """Dial the server."""
        url = self.config.url
        try:
            with self._waiting_for(f"the server at {url} to answer"):
                await self.control.connect()
        except DialFailed as failed:
            if not isinstance(failed.__cause__, TimeoutError):
                raise
            raise Failure(f"{failed}: the server is {url}; {LOOK_INTO_IT}") from failed

    @contextmanager
    def _waiting_for(self, what: str) -> Iterator[None]:
        """Say what is waited for, where that takes longer than a user likes to wait in silence."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(SILENCE_S, lambda: self._on_wait(f"waiting for {what}"))
        try:
            yield
        finally:
            timer.cancel()

    async def _granted(self, public_key: str, home: RegionLatency) -> TunnelGrant:
        """Ask for the tunnel, again and again while the agent may be starting."""
        further = further_device_keys(self.files)
        until, told = self._clock.now().mono + self._wait_s, False
        while True:
            try:
                with self._waiting_for(f"the server at {self.config.url} to answer"):
                    return await self.control.request_tunnel(
                        self._workspace,
                        public_key,
                        further_public_keys=further,
                        purpose=self._purpose,
                        home=home,
                        client_session_id=self._session_id or self.control.instance_id,
                    )
            except AgentAway as away:
                if self._clock.now().mono + ASK_AGAIN_S > until:
                    raise
                if not told:
                    told = True
                    self._on_wait(f"{away}; waiting for it up to {duration(self._wait_s)}")
                await asyncio.sleep(ASK_AGAIN_S)

    @property
    def host_context(self) -> HostContext | None:
        """What happened to this machine, once the tunnel is up."""
        return None if self._witness is None else self._witness.host_context

    def failed(self, wrong: Exception) -> None:
        """This program fails by a bug of its own. Call before `close`; what it has `seen` of an end
        by then was before that, and is the cause."""
        self._failure = ev.InternalFailure(
            vantage=Vantage.CLIENT,
            at=self._clock.now().wall,
            party=Party.CLIENT,
            what=f"{type(wrong).__name__}: {wrong}"[:200],
        )

    async def close(self, seen: Seen | None = None) -> None:
        """Report what was `seen` of the end, if anything was, and leave."""
        if self.ways is not None:
            await self.ways.close()
        self.control.leave_coordination()  # answered while the report is under way
        try:
            if (told := self._account(seen)) is None:
                pass
            elif self._witness is not None:
                await self._witness.report(told, linger=self._linger)
            else:
                await self.control.hand_in(self.control.instance_id, [told])
        except Exception as wrong:  # the exit code says how the session ended, not its report
            unexpected("the report of an end", wrong)
        finally:
            if self._stream is not None:
                await self._stream.close(1000, "the client has left")
            failed = self._failure is not None
            try:
                await self.control.leave(CLIENT_INTERNAL_ERROR if failed else CLIENT_CLOSED)
            finally:  # last: a goodbye that nobody heard goes into the journal
                if self._witness is not None:
                    await self._witness.close()

    def _account(self, seen: Seen | None) -> Ended | None:
        """What there is to say of the tunnel's end."""
        if not self.connection_id or (seen is None and self._failure is None):
            return None
        failure = records_of(() if self._failure is None else (self._failure,))
        if seen is None:
            now = self._clock.now().wall
            return Ended(connection_id=self.connection_id, at=now, facts=failure)
        told = ended(self.connection_id, seen, self._clock)
        return replace(told, symptoms=[*told.symptoms, *failure])  # it was over by then

    def _time_passed(self, event: TimeEvent) -> None:
        from tether.net.host.time import ClockSet  # imported by now, but not paid for by `ssh`

        # A process that was stopped has lost nothing, but judges its peers by the time it missed.
        if self.ways is not None and not isinstance(event, ClockSet):
            self.ways.disturbed()

    async def _dial_control(self) -> MessageStream:
        return await dial(
            self.config.control_url,
            token=self.config.token,
            headers={ROLE_HEADER: str(Party.CLIENT)},
            max_size=MAX_CONTROL_MESSAGE,
            small_segments=True,  # it carries little, and must get through
        )


def _wait_of(env: Mapping[str, str]) -> float:
    """How long an agent that may be starting is waited for, in seconds."""
    try:
        return max(0.0, float(env.get(WAIT, "") or WAIT_S))
    except ValueError:
        raise ConfigError(f"{WAIT} is a number of seconds, not {env[WAIT][:40]!r}") from None


def _control_log(env: Mapping[str, str]) -> ControlLog | None:
    if not env.get(DEBUG):
        return None
    from tether.net.link.control_log import ControlLog

    return ControlLog(ConnectType.CLIENT_TO_SERVER)
