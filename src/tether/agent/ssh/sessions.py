"""The sessions of one SSH connection: admitted, recorded, counted.

Law: every session that started is recorded at its start and at its end, whichever way it ends. The fact
of its end is in the connection's cell before its exit status is sent. What a session did to files is
recorded with its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import asyncssh

from tether.agent.commands.policy import PolicyRefusal, check_session
from tether.agent.commands.session_type import SessionType
from tether.agent.metrics import SessionError
from tether.agent.process.environment import Account, connection_environment, session_environment
from tether.agent.process.process import ExitStatus, Processes
from tether.agent.ssh.asyncssh_connection import SessionChannel
from tether.agent.ssh.motd import greeting
from tether.agent.ssh.session import Session
from tether.agent.ssh.settings import SharedParts, SshSettings
from tether.agent.ssh.terminal_subsystem import TerminalChannel
from tether.agent.terminal.attach import AttachEnd
from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import EXHAUSTIONS
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import OomVictim, Party, Vantage
from tether.log import get_logger
from tether.net.link.evidence import exhausted
from tether.protocol.messages.base import Message
from tether.protocol.messages.reports import SessionRecord
from tether.protocol.messages.tunnel import SessionResult, TunnelOffer

MAX_SESSIONS = 64
"""SshSessions open at once on one SSH connection."""


class SshSessions:
    """Owns the sessions of one connection: the `SessionOwner` of each."""

    def __init__(
        self,
        offer: TunnelOffer,
        settings: SshSettings,
        account: Account,
        shared: SharedParts,
        *,
        cell: CloseCell,
        send: Callable[[Message], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """`send` sends a message on the tunnel; `failed` is told of a bug of ours."""
        self.account = account
        self.failed = failed
        self.directory = settings.directory_of(account)
        self._offer = offer
        self._settings = settings
        self._shared = shared
        self._cell = cell  # the connection's
        self._send = send
        self._open: set[Session] = set()  # those whose channels are open
        self._log = get_logger("session", connection_id=offer.connection_id, user=offer.user)

    @property
    def processes(self) -> Processes:
        return self._shared.processes

    @property
    def running(self) -> int:
        """SshSessions that were started and have not ended."""
        return sum(s.started_at is not None and not s.over for s in self._open)

    def new(self) -> Session:
        """A session for a channel that the client opens."""
        if len(self._open) >= MAX_SESSIONS:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE,
                f"tether: this connection has {MAX_SESSIONS} sessions already",
            )
        session = Session(self)
        self._open.add(session)
        return session

    def announce(self, text: str) -> None:
        """Show a line on every terminal."""
        for session in self._open:
            session.announce(text)

    def redraw(self) -> None:
        """Have the programs on the terminals draw their screens anew."""
        for session in self._open:
            session.redraw()

    # -- what sessions ask (SessionOwner) -----------------------------------------------------

    def now(self) -> float:
        return self._shared.clock.now().wall

    def check_policy(
        self, *, command: str | None = None, subsystem: str | None = None
    ) -> PolicyRefusal | None:
        return check_session(self._settings.policy, command=command, subsystem=subsystem)

    def environment(self, client: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
        return session_environment(
            self.account,
            settings=self._settings.env,
            client=client,
            connection={
                "TETHER_WORKSPACE": self._settings.workspace,
                "TETHER_WORKSPACE_ID": self._settings.workspace_id,
                **environment_of(self._offer),
                **more,
            },
        )

    def greeting(self) -> bytes:
        settings = self._settings
        return greeting(settings.motd_file, settings.announcement_file, home=self.account.home)

    def attach(self, session: Session, channel: SessionChannel) -> TerminalChannel:
        return TerminalChannel(
            channel,
            self._shared.terminals.current,
            user=self._offer.user,
            environment=environment_of(self._offer),
            workspace=self._settings.workspace,
            attach_id=session.session_id,
            cell=self._cell,
            clock=self._shared.clock,
            on_end=partial(self._attach_ended, session),
        )

    def _attach_ended(self, session: Session, end: AttachEnd, exit_code: int) -> None:
        session.over = True
        if not end.terminal_lives:
            why = end.disconnect
            own = why.cause if why.row.ends_session else ""
            status = end.status or ExitStatus(code=exit_code)
            self.session_ended(session, status, cause=own, actor=why.actor if own else "")
            return
        now = self.now()
        self._cell.note(
            ev.TerminalDetached(
                vantage=Vantage.AGENT, at=now, by=Party.CLIENT, open_sessions=self.running
            )
        )
        self._over(session, now, None)

    # -- what sessions tell (SessionOwner) ----------------------------------------------------

    def session_started(self, session: Session) -> None:
        session.started_at = self.now()
        self._shared.metrics.session_began(session.kind)
        self._log.info("ssh session started", pty=session.pty, **_names(session))
        self._shared.on_item(self._record(session))

    def session_recognized(self, session: Session, was: SessionType) -> None:
        self._shared.metrics.session_recognized(was, session.kind)
        self._log.info("ssh session recognized", **_names(session))
        self._shared.on_item(self._record(session))

    def session_refused(self, session: Session, refusal: PolicyRefusal) -> None:
        self._went_wrong(session, SessionError.BLOCKED)
        self._log.warning(
            "ssh session blocked", what=refusal.what, reason=refusal.message, **_names(session)
        )
        self._cell.note(refusal.fact(self.now()))

    def terminal_refused(self, session: Session, wrong: OSError) -> None:
        self._went_wrong(session, SessionError.TERMINAL)
        if gone := exhausted(wrong, party=Party.AGENT, at=self.now()):
            self._cell.note(gone)
        self._log.warning("no terminal can be opened", error=str(wrong), **_names(session))

    def session_failed(self, session: Session, wrong: OSError) -> None:
        self._went_wrong(session, SessionError.START_COMMAND)
        if gone := exhausted(wrong, party=Party.AGENT, at=self.now(), starting=True):
            self._cell.note(gone)
            session.cause = EXHAUSTIONS.get(gone.resource, "")
        self._log.error("ssh session failed", error=str(wrong), **_names(session))

    def session_ended(
        self, session: Session, status: ExitStatus, *, cause: str = "", actor: str = ""
    ) -> None:
        now = self.now()
        if status.out_of_memory:
            self._cell.note(
                ev.OomKills(
                    vantage=Vantage.AGENT,
                    at=now,
                    party=Party.AGENT,
                    count=1,
                    victim=OomVictim.CHILD,
                )
            )
        self._cell.note(
            ev.SessionEnded(
                vantage=Vantage.AGENT,
                at=now,
                exit_code=status.code,
                exit_signal=status.signal,
                open_sessions=self.running,
                cause=cause or session.cause,
                actor=actor,
            )
        )
        self._send(SessionResult(exit_code=status.code, exit_signal=status.signal))
        self._over(session, now, status)

    def session_lost(self, session: Session) -> None:
        self._open.discard(session)
        if session.started_at is not None and not session.over:
            session.over = True  # its channel closed before its process ended
            self._over(session, self.now(), None)

    def process_ended(self, session: Session, status: ExitStatus) -> None:
        self._log.info(
            "process of an ended session ended",
            exit_code=status.code,
            exit_signal=status.signal,
            **_names(session),
        )
        if session.started_at is not None:
            self._shared.on_item(self._record(session, session.ended_at, status, self.now()))

    def _went_wrong(self, session: Session, error: SessionError) -> None:
        self._shared.metrics.session_failed(error, session.session_type, pty=session.pty)

    def _over(self, session: Session, now: float, status: ExitStatus | None) -> None:
        session.ended_at = now
        metrics = self._shared.metrics
        metrics.session_ended(session.kind, session.session_type, pty=session.pty)
        if session.subsystem == "sftp":
            metrics.sftp_ended(failed=status is not None and status != ExitStatus(code=0))
        self._log.info(
            "ssh session ended",
            exit_code=status.code if status else None,
            exit_signal=status.signal if status else None,
            **_names(session),
        )
        files = session.file_operations(self._offer.connection_id)
        if files is not None:
            self._shared.on_item(files)
        self._shared.on_item(self._record(session, now, status))

    def _record(
        self,
        session: Session,
        ended_at: float | None = None,
        status: ExitStatus | None = None,
        process_ended_at: float | None = None,
    ) -> SessionRecord:
        assert session.started_at is not None, "what never started is not recorded"
        return SessionRecord(
            connection_id=self._offer.connection_id,
            session_id=session.session_id,
            session_type=str(session.session_type),
            app=session.kind.app,
            started_at=session.started_at,
            pty=session.pty,
            subsystem=session.subsystem,
            ended_at=ended_at,
            process_ended_at=process_ended_at,
            exit_code=status.code if status else None,
            exit_signal=status.signal if status else None,
        )


def environment_of(offer: TunnelOffer) -> dict[str, str]:
    """What a program may know of the connection that `offer` has opened."""
    return connection_environment(
        connection_id=offer.connection_id,
        user=offer.user,
        client=(offer.client_ip, offer.client_port),
    )


def _names(session: Session) -> dict[str, object]:
    return {
        "session_id": session.session_id,
        "session_type": str(session.session_type),
        "app": session.kind.app,
    }
