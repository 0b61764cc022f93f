"""One SSH session: a command, a shell or a subsystem, with or without a terminal.

Law: a session ends once. Its owner is told when its process has ended *and* its output has been
delivered, before the exit status is sent; or when its channel is lost, whichever comes first.

It ends as OpenSSH's do. Without a terminal the output counts as delivered at the end of both pipes, so
a process in the background that keeps them open keeps the session open, and a client that leaves closes
the pipes but kills nothing. With a terminal the end of its shell is the end, and a client that leaves
hangs up. Unlike with OpenSSH, the exit status comes after the output.

What a session is for (its app, whether it moves files) is read from what passes by, and does not change
what runs. Only policy does: what it refuses ends at once, with a message of its own.
"""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol, cast

import asyncssh

from tether.agent.commands.command_line import runner
from tether.agent.commands.policy import PolicyRefusal
from tether.agent.commands.session_type import (
    KINDS,
    PLAIN,
    Bootstrap,
    SessionType,
    Transfer,
    adds_login_keys,
    connection_type,
    from_environment,
    transfer_of,
)
from tether.agent.process.environment import Account
from tether.agent.process.process import ExitStatus, Process, Processes
from tether.agent.process.pty import Terminal
from tether.agent.ssh import sftp_subsystem, udp_subsystem
from tether.agent.ssh.asyncssh_connection import SessionChannel
from tether.agent.ssh.sftp_audit import SftpAudit
from tether.agent.ssh.terminal_subsystem import TerminalChannel
from tether.attribution.vocabulary import AGENT_FAILED_EXIT_CODE, ConnectionType
from tether.net.fd_io import FdReader, FdWriter
from tether.protocol import udp as datagrams
from tether.protocol.messages.reports import FileOperations
from tether.protocol.terminal.messages import SUBSYSTEM

HANGUP_WAIT_S = 0.3
"""How long after its shell's end a terminal may take to reach its own end. It never does while a
process that ignored the hang-up has it open; what was written before has long arrived by then."""

_UNKNOWN_EXIT_CODE = 127
"""What is sent for a process whose status somebody else has taken."""

KEYS_OPEN_NOTHING = (
    "tether: keys in authorized_keys open nothing here: a workspace lets in those for whom the server "
    "vouches; `tether login` and `tether config-ssh` on the other machine are all that it needs"
)
"""For whoever copies a key for logins to a workspace (`ssh-copy-id`)."""

_SUBSYSTEMS = {"sftp": sftp_subsystem.command, datagrams.SUBSYSTEM: udp_subsystem.command}
"""The subsystems that are programs of their own, and their command lines."""

_SSH_SIGNALS = (
    *("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL"),
    *("PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"),
)
"""Signals that SSH has names for (RFC 4254 section 6.10); others are named with an @."""


class SessionOwner(Protocol):
    """The connection that a session belongs to."""

    @property
    def processes(self) -> Processes: ...
    @property
    def account(self) -> Account: ...
    @property
    def directory(self) -> str:
        """Where processes start."""

    def now(self) -> float:
        """Unix seconds."""

    def check_policy(
        self, *, command: str | None = None, subsystem: str | None = None
    ) -> PolicyRefusal | None:
        """Whether policy refuses it."""

    def greeting(self) -> bytes:
        """What a login shell on a terminal is shown first."""

    def environment(self, client: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
        """The environment of a session; `more` is what only this session has."""

    def attach(self, session: Session, channel: SessionChannel) -> TerminalChannel:
        """Let the client see a terminal that outlives it."""

    def session_started(self, session: Session) -> None:
        """It runs, or is about to report why it does not."""

    def session_recognized(self, session: Session, was: SessionType) -> None:
        """Its input has shown which app it serves; `was` is what it was taken for."""

    def session_refused(self, session: Session, refusal: PolicyRefusal) -> None:
        """Policy refused it; `session_ended` follows."""

    def session_failed(self, session: Session, wrong: OSError) -> None:
        """It could not be started; `session_ended` follows."""

    def terminal_refused(self, session: Session, wrong: OSError) -> None:
        """There is no terminal for it. The client may go on without one."""

    def session_ended(self, session: Session, status: ExitStatus) -> None:
        """Its process has ended and its output is out; the exit status is sent after this."""

    def session_lost(self, session: Session) -> None:
        """Its channel is gone. Comes once, last, and after `session_ended` where that came."""

    def process_ended(self, session: Session, status: ExitStatus) -> None:
        """Its process outlived it, and has ended now."""

    def failed(self, exc: Exception) -> None:
        """A bug of ours was hit."""


class Session(asyncssh.SSHServerSession[bytes]):
    """One session. asyncssh calls most of the public methods."""

    def __init__(self, owner: SessionOwner) -> None:
        self.session_id = uuid.uuid4().hex
        self.kind: SessionType = PLAIN
        self.subsystem = ""  # "" for a shell and for a command
        self.started_at: float | None = None  # unix seconds; the owner sets both
        self.ended_at: float | None = None
        self.over = False  # its end has been told
        self.cause = ""  # a code of the catalogue, where the agent itself could not go on
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._channel: SessionChannel | None = None  # None before it is open, and once it is lost
        # What the client asked for.
        self._terminal: Terminal | None = None
        self._term = ""  # its TERM
        self._no_terminal = ""  # why it gets none, where it asked for one
        self._argv: list[str] = []
        self._command: str | None = None  # None for a shell and for a subsystem
        self._login = False  # a login shell
        self._variables: Mapping[str, str] = {}
        # What is known of its purpose.
        self._transfer: Transfer | None = None
        self._refusal: PolicyRefusal | None = None
        self._bootstrap: Bootstrap | None = None  # recognizes editors by their input
        self._audit: SftpAudit | None = None
        # What runs, and how it ended.
        self._attach: TerminalChannel | None = None  # in place of a process
        self._process: Process | None = None
        self._writer: FdWriter | None = None  # to its standard input, or to the terminal
        self._readers: list[FdReader] = []  # of its output
        self._paused = False  # the channel takes no more for now
        self._unread = False  # the client's side reads no more output
        self._status: ExitStatus | None = None  # set once the process has been reaped
        self._hangup_timer: asyncio.TimerHandle | None = None

    @property
    def pty(self) -> bool:
        """Whether the client asked for a terminal and got one."""
        return self._terminal is not None or self.subsystem == SUBSYSTEM

    @property
    def session_type(self) -> ConnectionType:
        """The word for the connection log."""
        return connection_type(self.kind, self._transfer)

    def file_operations(self, connection_id: str) -> FileOperations | None:
        """What it did to files, as far as that could be seen; None for a session that moves none."""
        if self._transfer is None:
            return None
        program = self._transfer.program
        if self._audit is not None:
            return self._audit.record(connection_id, self.session_id, program)
        return FileOperations(
            connection_id=connection_id,
            session_id=self.session_id,
            program=program,
            complete=False,
        )

    # -- what the client asks for --------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = cast(SessionChannel, chan)

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        try:
            self._terminal = Terminal(term_size, term_modes)
        except OSError as wrong:  # ssh prints "PTY allocation request failed", and may go on
            self._no_terminal = wrong.strerror or str(wrong)
            self._owner.terminal_refused(self, wrong)
            return False
        self._term = term_type
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._terminal is not None:
            self._terminal.resize(width, height, pixwidth, pixheight)

    def shell_requested(self) -> bool:
        self._argv = [self._owner.account.shell, "-l"]
        self._login = True
        return True

    def exec_requested(self, command: str) -> bool:
        if "\0" in command:
            return False
        self._command = command
        self._transfer = transfer_of(command)
        self._refusal = self._owner.check_policy(command=command)
        self._argv = runner(command, self._owner.account.shell)
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        if subsystem == SUBSYSTEM:
            self.subsystem = subsystem
            self.kind = KINDS[subsystem]
            return True
        if subsystem not in _SUBSYSTEMS:
            return False
        self._argv = _SUBSYSTEMS[subsystem]()
        self.kind = KINDS.get(subsystem, PLAIN)
        self.subsystem = subsystem
        self._transfer = transfer_of(None, subsystem)
        self._refusal = self._owner.check_policy(subsystem=subsystem)
        return True

    def signal_received(self, name: str) -> None:
        known = signal.Signals.__members__.get(f"SIG{name.removeprefix('SIG')}")
        if self._process is not None and known is not None:
            self._process.signal(known)

    def break_received(self, msec: int) -> bool:
        return False

    # -- running -------------------------------------------------------------------------

    def session_started(self) -> None:
        if self.subsystem == SUBSYSTEM:
            self._owner.session_started(self)
            self._attach = self._owner.attach(self, self._open_channel())
            return
        self._identify()
        self._owner.session_started(self)
        if self._refusal is not None:
            self._owner.session_refused(self, self._refusal)
            self._write(self._refusal.output)
            self._exited(ExitStatus(code=self._refusal.exit_code))
            return
        try:
            self._start()
        except OSError as wrong:
            self._owner.session_failed(self, wrong)
            self._say(
                f"tether: {self._argv[0]} could not be started: {wrong.strerror or wrong} "
                f"(exit code {AGENT_FAILED_EXIT_CODE}: the workspace's agent failed, not your command)"
            )
            self._exited(ExitStatus(code=AGENT_FAILED_EXIT_CODE))

    def _identify(self) -> None:
        """Find out which app it serves: the one that it names, or else one with such a command."""
        declared, self._variables = from_environment(self._open_channel().variables.values.items())
        if declared is not None:
            self.kind = declared
        elif not self.subsystem:
            self._bootstrap = Bootstrap(self._command, pty=self.pty)
            self.kind = self._bootstrap.type
        if self._transfer is not None and self._transfer.program == "sftp" and not self._refusal:
            self._audit = SftpAudit()

    def _start(self) -> None:
        channel = self._open_channel()
        more: dict[str, str] = {}
        if self._terminal is not None:
            more["SSH_TTY"] = self._terminal.path
            if self._term:
                more["TERM"] = self._term
        if (agent := channel.get_agent_path()) is not None:
            more["SSH_AUTH_SOCK"] = agent
        if (display := channel.get_x11_display()) is not None:
            more["DISPLAY"] = display
        if adds_login_keys(self._command):
            self._say(KEYS_OPEN_NOTHING)
        env = self._owner.environment(self._variables, more)
        directory, spawner = self._owner.directory, self._owner.processes
        if self._terminal is not None:
            if self._login and (text := self._owner.greeting()):
                self._write(text)
            self._process = spawner.spawn_on_terminal(
                self._argv,
                self._terminal.path,
                env=env,
                directory=directory,
                on_exit=self._guarded(self._exited),
            )
            read, write = self._terminal.taken_over()
            self._carry(write, (read, self._show))
        else:
            if self._no_terminal:
                self._say(f"tether: no terminal can be opened: {self._no_terminal}")
            self._process, pipes = spawner.spawn(
                self._argv, env=env, directory=directory, on_exit=self._guarded(self._exited)
            )
            errors = self._write_error
            if self.subsystem == "sftp":
                errors = sftp_subsystem.Complaints(errors).feed
            self._carry(pipes.stdin, (pipes.stdout, self._write), (pipes.stderr, errors))

    def _carry(self, write: int, *reads: tuple[int, Callable[[bytes], None]]) -> None:
        channel = self._open_channel()
        self._writer = FdWriter(
            write,
            owned=True,
            on_full=channel.pause_reading,
            on_room=channel.resume_reading,
            on_broken=channel.refuse_input,
        )
        self._readers = [
            FdReader(descriptor, self._guarded(sink), self._guarded(self._end_if_delivered))
            for descriptor, sink in reads
        ]
        if self._paused:
            self.pause_writing()
        if self._unread:
            self.output_refused()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self._attach is not None:
            self._attach.data_received(data)
        if self._audit is not None:
            self._audit.feed(data, self._owner.now())
        if self._bootstrap is not None and self._bootstrap.undecided:
            recognized = self._bootstrap.feed(data)
            if recognized is not None:
                was, self.kind = self.kind, recognized
                self._owner.session_recognized(self, was)
        if self._writer is not None:
            self._writer.write(data)

    def eof_received(self) -> bool:
        if self._attach is not None:
            self._attach.eof_received()
        # A terminal has no end of input of its own: the user types it (OpenSSH does the same).
        if self._writer is not None and self._terminal is None:
            self._writer.end()
        return True  # keep the channel open for the output

    def output_refused(self) -> None:
        """The client's side reads no more output (`ssh dev yes | head -1`).

        As with sshd, the pipe of the output is closed, and that of the errors is not. A terminal is
        hung up at its next output: with sshd its program would wait for ever.
        """
        self._unread = True
        if self._terminal is None and self._readers:
            self._readers[0].close()
            self._end_if_delivered()

    def pause_writing(self) -> None:
        self._paused = True
        if self._attach is not None:
            self._attach.pause_writing()
        for reader in self._readers:
            reader.pause()

    def resume_writing(self) -> None:
        self._paused = False
        if self._attach is not None:
            self._attach.resume_writing()
        for reader in self._readers:
            reader.resume()
        self._end_if_delivered()

    def announce(self, text: str) -> None:
        """Show a line on the terminal, where there is one."""
        if self._terminal is not None:
            self._write(f"\r\n{text}\r\n".encode())

    def redraw(self) -> None:
        """Have the program draw the screen anew: something was written over it."""
        if self._terminal is not None:
            self._terminal.redraw()

    # -- ending --------------------------------------------------------------------------

    def _exited(self, status: ExitStatus) -> None:
        """The process has been reaped; its last output may still be on the way."""
        self._status = status
        if self.over:
            self._owner.process_ended(self, status)
        if self._terminal is not None and any(reader.open for reader in self._readers):
            self._hangup_timer = self._loop.call_later(
                HANGUP_WAIT_S, self._guarded(self._stop_listening)
            )
        self._end_if_delivered()

    def _stop_listening(self) -> None:
        for reader in self._readers:
            reader.finish()

    def _end_if_delivered(self) -> None:
        channel, status = self._channel, self._status
        if self.over or channel is None or channel.over:
            return
        if any(reader.open for reader in self._readers):
            return
        if status is None:
            if self._terminal is None and self._readers:
                channel.write_eof()  # it has closed its output, and may run on
            return
        if channel.get_write_buffer_size():
            channel.set_write_buffer_limits(high=0, low=0)  # resume_writing when it is empty
            return
        self._end(channel, status)

    def _end(self, channel: SessionChannel, status: ExitStatus) -> None:
        self.over = True
        self._owner.session_ended(self, status)
        if status.signal is not None:
            name = status.signal
            channel.exit_with_signal(
                name if name in _SSH_SIGNALS else f"{name}@tether", status.core_dumped
            )
        else:
            channel.exit(_UNKNOWN_EXIT_CODE if status.code is None else status.code)

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self._release()
            self._owner.session_lost(self)
        except Exception as wrong:  # asyncssh would hide it
            self._owner.failed(wrong)

    def _release(self) -> None:
        self._channel = None
        if self._attach is not None:
            self._attach.lost()
        if self._hangup_timer is not None:
            self._hangup_timer.cancel()
        self._let_go()

    def _let_go(self) -> None:
        """Close the pipes, or hang up."""
        for end in (*self._readers, *((self._writer,) if self._writer else ())):
            end.close()
        if self._terminal is not None:
            self._terminal.close()

    # -- helpers ---------------------------------------------------------------------------

    def _open_channel(self) -> SessionChannel:
        assert self._channel is not None, "asyncssh starts a session on an open channel"
        return self._channel

    def _write(self, data: bytes) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)

    def _show(self, data: bytes) -> None:
        if self._unread:
            self._let_go()
            self._end_if_delivered()
        else:
            self._write(data)

    def _write_error(self, data: bytes) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_stderr(data)

    def _say(self, text: str) -> None:
        if self._terminal is not None:
            self._write(f"{text}\r\n".encode())
        else:
            self._write_error(f"{text}\n".encode())

    def _guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        """`function` as the loop may call it: a bug in it ends the connection, and is logged."""

        def call(*arguments: object) -> None:
            try:
                function(*arguments)
            except Exception as wrong:
                self._owner.failed(wrong)

        return call
