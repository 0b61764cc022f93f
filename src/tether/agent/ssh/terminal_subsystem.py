"""The subsystem `tether-pty`: an attach to a reconnecting terminal over an SSH channel.

Law: what the channel's end means is decided before the channel is closed. A client that closes its
channel on a connection that lives on has detached; a connection that ended hands its cause to the
attach. When the agent leaves, the connection closes the channel, because its goodbye has to come first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tether.agent.ssh.asyncssh_connection import SessionChannel
from tether.agent.terminal.attach import AttachEnd, TerminalAttach
from tether.agent.terminal.terminals import Terminals
from tether.attribution.disconnect import CloseCell
from tether.net.clock import Clock


class TerminalChannel:
    """The `AttachTransport` of one channel. The channel's session hands on what asyncssh calls."""

    def __init__(
        self,
        channel: SessionChannel,
        terminals: Terminals,
        *,
        user: str,
        environment: Mapping[str, str],
        workspace: str,
        attach_id: str,
        cell: CloseCell,
        clock: Clock,
        on_end: Callable[[AttachEnd, int], None],
    ) -> None:
        """`cell` is the connection's; `on_end` is told of an end that the connection outlives, and
        of the exit code that the client is sent after it."""
        self._channel = channel
        self._terminals = terminals
        self._cell = cell
        self._on_end = on_end
        self._exit_code: int | None = None  # for the client; set once the attach has ended
        self._gone = False  # the channel is lost
        self._attach = TerminalAttach(
            self,
            terminals,
            user=user,
            environment=environment,
            clock=clock,
            workspace=workspace,
            attach_id=attach_id,
            on_end=self._ended,
        )

    # -- what the session hands on ------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """The client sent bytes."""
        self._attach.data_received(data)

    def eof_received(self) -> None:
        """The client will send no more: it has detached."""
        self._attach.closed_by_client()

    def pause_writing(self) -> None:
        """The channel takes no more for now."""
        self._attach.pause_writing()

    def resume_writing(self) -> None:
        """The channel takes more."""
        self._attach.resume_writing()
        self._exit_if_delivered()

    def lost(self) -> None:
        """The channel is gone."""
        self._gone = True
        if self._cell.ended:
            self._attach.lost(*self._cell.facts)
        else:
            self._attach.closed_by_client()

    # -- what the attach asks for: see `attach.AttachTransport` -----------------------------------

    def write(self, data: bytes) -> None:
        if not self._gone and not self._channel.is_closing():
            self._channel.write(data)

    def close(self, exit_code: int) -> None:
        self._exit_code = exit_code  # sent by `_ended`, which comes next

    def pause_reading(self) -> None:
        if not self._gone:
            self._channel.pause_reading()

    def resume_reading(self) -> None:
        if not self._gone:
            self._channel.resume_reading()

    # -- the end --------------------------------------------------------------------------------

    def _ended(self, end: AttachEnd) -> None:
        if self._cell.ended or self._terminals.leaving is not None:
            return
        assert self._exit_code is not None, "an attach closes its transport before it says so"
        self._on_end(end, self._exit_code)
        self._exit_if_delivered()

    def _exit_if_delivered(self) -> None:
        channel, code = self._channel, self._exit_code
        if code is None or self._gone or self._cell.ended or channel.is_closing():
            return
        if self._terminals.leaving is not None:
            return
        if channel.get_write_buffer_size():
            channel.set_write_buffer_limits(high=0, low=0)  # resume_writing when it is empty
            return
        channel.exit(code)
