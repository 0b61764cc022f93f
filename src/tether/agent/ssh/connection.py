"""One tunnel and the SSH connection in it, from the first byte to the one cause of its end.

Law: whichever of the ways below ends asyncssh or the tunnel, a fact is offered to the tunnel's cell
before that; everything later is a symptom. Exceptions of asyncssh become facts here, by one table. When
SSH ends, the tunnel says goodbye with the cause, so that the client's side hears it. When the tunnel
ends, SSH is told and its sessions are cleaned up.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable

import asyncssh
from asyncssh.packet import PacketDecodeError

from tether.agent.forwarding.callbacks import ForwardingCallbacks
from tether.agent.forwarding.forwards import Forwards
from tether.agent.process.environment import Account
from tether.agent.ssh import auth
from tether.agent.ssh.asyncssh_connection import SshConnection
from tether.agent.ssh.host_key import CertifiedHostKey
from tether.agent.ssh.negotiation import NothingInCommon
from tether.agent.ssh.session import Session
from tether.agent.ssh.sessions import SshSessions
from tether.agent.ssh.settings import SharedParts, SshSettings
from tether.agent.ssh.transport import TunnelTransport
from tether.agent.tunnels.service import EndOrder, ServedTunnel
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import AccessRefusal, Party, Vantage
from tether.log import get_logger
from tether.net.link.evidence import exhausted
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages import tunnel as msg
from tether.protocol.messages.base import Message
from tether.protocol.messages.control import Goodbye
from tether.protocol.messages.tunnel import LoginResult, Redraw, TunnelOffer
from tether.version import VERSION

ANSWER_S = 3.0
"""How long a client whose port somebody else asks for may take to show that it is there."""


class AgentConnection(ServedTunnel):
    """One tunnel with SSH in it."""

    def __init__(
        self,
        stream: TunnelStream,
        offer: TunnelOffer,
        *,
        settings: SshSettings,
        account: Account,
        options: asyncssh.SSHServerConnectionOptions,
        shared: SharedParts,
    ) -> None:
        self.offer = offer
        self._clock = shared.clock
        self._trust = _trust(offer, settings)
        self._login_timeout_s = settings.login_timeout_s
        self._log = get_logger("ssh", connection_id=offer.connection_id, user=offer.user)
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(f"ssh-{offer.connection_id[:8]}")
        self.tunnel = self._tunnel_over(stream, shared)
        client = (offer.client_ip or "0.0.0.0", offer.client_port)
        self._transport = TunnelTransport(self.tunnel, self._tasks, client=client)
        self._sessions = SshSessions(
            offer,
            settings,
            account,
            shared,
            cell=self.cell,
            send=self.tunnel.send,
            failed=self.failed,
        )
        self._forwards = Forwards(
            offer.connection_id,
            client=f"{offer.user}/{hashlib.sha256(auth.wire_form(offer.public_key)).hexdigest()[:16]}",
            cell=self.cell,
            clock=self._clock,
            cause=lambda: self.judged(self._clock.now()).cause,
            policy=settings.policy,
            ide=shared.ide,
            on_item=shared.on_item,
            listeners=shared.listeners,
            answers=lambda: self.tunnel.stream.answers(ANSWER_S),
        )
        self._ssh = SshConnection(
            options,
            settings.host_key,
            self,
            _Handler(self, self._forwards),
            self._forwards,
            shared.displays,
            _xauthority(settings, account),
        )
        self._transport.attach(self._ssh)
        self._begun = False  # asyncssh was handed its transport
        self._login_timer: asyncio.TimerHandle | None = None
        self._refused: list[str] = []  # the sentence of each refused credential
        self._method = ""  # by which the client was let in
        self.cell.last_words = self._unfinished

    def _tunnel_over(self, stream: TunnelStream, shared: SharedParts) -> TunnelEndpoint:
        return TunnelEndpoint(
            stream,
            me=Party.AGENT,
            peer=Party.CLIENT,
            clock=self._clock,
            version=VERSION,
            on_data=self._receive,
            on_message=self._heard,
            host_context=shared.host_context,
        )

    @property
    def open_sessions(self) -> int:
        """SshSessions that were started and have not ended."""
        return self._sessions.running

    async def run(self) -> None:
        """Serve until the tunnel is over. Raises nothing but CancelledError.

        Cancelled, it still cleans up. Offer a cause with `end` before you cancel: a cancellation
        without one counts as a failure of the agent.
        """
        try:
            await self._serve()
        except Exception as wrong:
            self.failed(wrong)
        finally:
            self._forwards.finish()

    async def _serve(self) -> None:
        tunnel = self._tasks.spawn(self.tunnel.run(), "tunnel")
        begin = self._loop.call_soon(self._begin)  # after the tunnel's hello
        try:
            await tunnel
        except asyncio.CancelledError:
            self.judged(self._clock.now())  # a cause comes before anything is closed
            raise
        finally:
            begin.cancel()
            if self._login_timer is not None:
                self._login_timer.cancel()
            await self._tasks.cancel()
            self._close_ssh()
            if self._begun:
                await self._ssh.wait_closed()

    def _begin(self) -> None:
        self._begun = True
        self._login_timer = self._loop.call_later(self._login_timeout_s, self._login_timed_out)
        self._ssh.connection_made(self._transport)

    # -- ways to end -------------------------------------------------------------------------

    def end(self, order: EndOrder) -> None:
        """End because of `order`: show its announcement to terminals, then say goodbye."""
        self.cell.offer(order.said)
        self._ssh.resume_writing()  # nothing of what is still to be said may wait for room
        self._sessions.announce(order.announcement)
        self._leave(order.said)

    def failed(self, exc: Exception) -> None:
        """A bug of ours was hit while this connection was handled."""
        self._log.error("ssh connection failed", exc_info=exc)
        self._leave(self._failure(exc))

    def said_disconnect(self, code: int, text: str) -> None:
        """SSH_MSG_DISCONNECT arrived."""
        self._part(
            ev.SshDisconnected(
                vantage=Vantage.AGENT,
                at=self._now(),
                by=Party.CLIENT,
                code=code,
                text=text[:200],
                open_sessions=self.open_sessions,
            )
        )

    def closing(self, exc: Exception | None) -> None:
        """asyncssh is about to close: what it knows becomes a fact, by this table."""
        match exc:
            case None | asyncssh.ConnectionLost():
                pass  # we closed, or the tunnel did: the cell knows
            case asyncssh.DisconnectError(reason=what):
                self._violated(what)
            case PacketDecodeError():
                self._violated(str(exc))
            case UnicodeDecodeError():
                self._violated("bytes that are no text where text should be")
            case _:
                self._log.error("ssh connection failed", exc_info=exc)
                self._part(self._failure(exc))

    def _violated(self, what: str) -> None:
        self._part(
            ev.ProtocolViolated(
                vantage=Vantage.AGENT, at=self._now(), by=Party.CLIENT, what=what[:200]
            )
        )

    def _login_timed_out(self) -> None:
        after = self._login_timeout_s
        if not self.tunnel.stream.in_use:  # detached, it cannot log in: its time begins anew
            self._login_timer = self._loop.call_later(after, self._login_timed_out)
            return
        self._leave(
            ev.HandshakeTimedOut(
                vantage=Vantage.AGENT, at=self._now(), by=Party.CLIENT, after_s=after
            )
        )

    def _heard(self, message: Message) -> None:
        match message:
            case Goodbye():  # the link has offered it to the cell
                self._close_ssh()
            case Redraw():
                self._sessions.redraw()
            case _:
                pass  # a newer client may send more kinds of messages

    def _leave(self, fact: Evidence) -> None:
        """End from our side: the fact first, then the goodbye, then the channels.

        In this order the client's tether process has the cause before ssh has a reason to leave. ssh
        is sent no SSH_MSG_DISCONNECT: it would print a second, cryptic line beside our sentence.
        """
        self._part(fact)
        if not self._ssh.over:
            self._ssh.close_channels()
            self._transport.flush()

    def _part(self, fact: Evidence) -> None:
        """Offer the fact, and have the tunnel say goodbye after everything that was written."""
        self.cell.offer(fact)
        end = self.judged(self._clock.now())
        said = fact if isinstance(fact, ev.GoodbyeSaid) else None
        self._transport.flush()
        self.tunnel.leave(
            said.cause if said else end.cause,
            because=fact,
            actor=(said.actor if said else "") or end.actor,
            detail=said.detail if said else "",
        )

    def _close_ssh(self) -> None:
        if not self._ssh.over:
            self._ssh.connection_lost(None)

    def _failure(self, wrong: Exception) -> Evidence:
        what = f"{type(wrong).__name__}: {wrong}"
        if gone := exhausted(wrong, party=Party.AGENT, at=self._now()):
            self.cell.note(gone)
        return ev.InternalFailure(
            vantage=Vantage.AGENT, at=self._now(), party=Party.AGENT, what=what[:200]
        )

    # -- bytes -------------------------------------------------------------------------------

    def _receive(self, data: memoryview) -> None:
        if not self._ssh.over and not self.cell.ended:  # a client that is being left goes unheard
            self._ssh.data_received(data)  # type: ignore[arg-type]  # it only appends

    # -- who may in --------------------------------------------------------------------------

    def no_common_algorithm(self, nothing: NothingInCommon) -> None:
        """The client's offer of algorithms has nothing in common with ours: the user is told both."""
        sentence = (
            f"this SSH program and the workspace have no {nothing.purpose} in common: it offers "
            f"{nothing.theirs or 'none'}, the workspace takes {nothing.ours}"
        )
        self.tunnel.send(LoginResult(accepted=False, sentence=sentence))
        self._part(
            ev.NoCommonAlgorithm(
                vantage=Vantage.AGENT,
                at=self._now(),
                purpose=nothing.purpose,
                theirs=nothing.theirs,
                ours=nothing.ours,
            )
        )

    def uses_further(self, key: CertifiedHostKey) -> None:
        """The client has asked for another host key than the one that it was told of: its tether pins
        this one before ssh sees it."""
        self.tunnel.send(
            msg.FurtherHostKey(public_key=key.public_line, certificate=key.certificate)
        )

    def _unfinished(self) -> Iterable[Evidence]:
        """What the record tells of a client that was not let in, where no refusal tells more."""
        stage = self._ssh.handshake_stage
        if stage is not None and not self._refused:
            yield ev.HandshakeUnfinished(
                vantage=Vantage.AGENT,
                at=self._now(),
                stage=stage,
                client=self._ssh.client_software,
                methods=",".join(self._ssh.methods),
            )

    def admits(self, credential: auth.Credential, proven: bool | None) -> bool:
        """Whether a credential lets the client in. A refusal is noted and shown to the user."""
        now = self._now()
        decision = auth.decide(credential, self._trust, now)
        if isinstance(decision, auth.Accepted) and proven is False:
            decision = auth.UNPROVEN
        if isinstance(decision, auth.Accepted):
            self._method = decision.method
            return True
        fact = ev.AccessRefused(
            vantage=Vantage.AGENT, at=now, why=decision.why, detail=decision.detail
        )
        self._refused.append(decision.sentence)
        # A client offers several keys: of the unknown ones, only the first is worth a message.
        if decision.why is not AccessRefusal.UNKNOWN_KEY or not self._refused[:-1]:
            self.tunnel.send(LoginResult(accepted=False, sentence=decision.sentence))
        # OpenSSH would print it even where its next key is let in, and the tether beside it says it
        # where none is. Other programs may hide what that one says.
        first = self._refused.count(decision.sentence) == 1  # an ssh-agent may offer many keys
        if first and not self._ssh.client_software.startswith("OpenSSH"):
            self._ssh.refuse_with(decision.sentence)
        if len(self._refused) < auth.MAX_REFUSALS:
            self.cell.note(fact)
        else:
            self._leave(fact)
        return False

    def display_failed(self, wrong: Exception) -> None:
        """A session asked for a display, and there is none."""
        self._log.warning("no display can be opened", error=str(wrong))

    def logged_in(self) -> None:
        """The client has proved who it is."""
        if self._login_timer is not None:
            self._login_timer.cancel()
        self.tunnel.send(LoginResult(accepted=True))
        self.cell.note(
            ev.Authenticated(
                vantage=Vantage.AGENT,
                at=self._now(),
                user=self.offer.user,
                method=self._method,
                client=self._ssh.client_software,
            )
        )

    def new_session(self) -> Session:
        """A session for a channel that the client opens."""
        return self._sessions.new()

    def _now(self) -> float:
        return self._clock.now().wall


class _Handler(ForwardingCallbacks):
    """asyncssh's callbacks, handed to the connection."""

    def __init__(self, connection: AgentConnection, forwards: Forwards) -> None:
        super().__init__(forwards)
        self._connection = connection

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def auth_completed(self) -> None:
        self._connection.logged_in()

    def session_requested(self) -> Session:
        return self._connection.new_session()


def _trust(offer: TunnelOffer, settings: SshSettings) -> auth.Trust:
    return auth.Trust(
        announced=tuple(
            key
            for line in (offer.public_key, *offer.further_public_keys)
            if (key := auth.wire_form(line))
        ),
        ca=auth.wire_form(settings.user_ca_key),
        user=offer.user,
        workspace=settings.workspace,
        workspace_id=settings.workspace_id,
        client_ip=offer.client_ip,
    )


def _xauthority(settings: SshSettings, account: Account) -> str:
    return settings.env.get("XAUTHORITY") or os.path.join(account.home, ".Xauthority")
