"""What `tether attach` does: a terminal shown to its end, or one question asked.

Law: one sentence says how an attach ended, and the exit code agrees: the program's own where it ended,
0 for a detach, 255 where the connection failed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from tether.attribution.causes.codes import SESSION_DETACHED, SESSION_EXIT, SESSION_SIGNAL
from tether.cli.attach.line import Line, ask
from tether.cli.attach.local_terminal import LocalTerminal
from tether.cli.attach.loop import AttachEnding, AttachLoop
from tether.cli.output import add_row, clean, print_json, print_table, span, table
from tether.client.errors import EXIT_CONNECTION_FAILED, EXIT_ERROR, Failure
from tether.net.clock import SystemClock
from tether.protocol.terminal.messages import (
    Attached,
    Done,
    Info,
    Init,
    Kill,
    List,
    Listing,
    Refused,
    Rename,
    TerminalMessage,
)

A = TypeVar("A")


def attach_to(host: str, init: Init) -> int:
    """Show a terminal until it ends or lets go; the exit code."""
    if not (os.isatty(0) and os.isatty(1)):
        raise Failure(
            "`tether attach` shows a terminal, and needs one: for scripts there is `tether ssh`",
        )
    terminal = LocalTerminal()
    rows, cols = terminal.size()
    init = msgspec.structs.replace(init, rows=rows, cols=cols)

    def stay(line: Line) -> tuple[str, int]:
        ending = AttachLoop(line, terminal, SystemClock()).run(init)
        line.finish()
        lost = "" if ending.said is not None else _loss(line, ending)
        return farewell(ending, host, command=init.command, lost=lost)

    sentence, code = _over(host, stay, columns=cols)
    print(f"tether: {clean(sentence)}", file=sys.stderr)
    return code


def _loss(line: Line, ending: AttachEnding) -> str:
    """Why there is no connection (any more), in one sentence."""
    told = line.result()
    if told.get("by") in ("remote", "failed") and told.get("sentence"):
        return str(told["sentence"])
    words = line.words().strip().rpartition("\n")[2].removeprefix("tether: ").strip()
    if words:
        return words
    return "the connection was lost" if ending.attached else "ssh ended without a connection"


def farewell(
    ending: AttachEnding, host: str, *, command: str = "", lost: str = ""
) -> tuple[str, int]:
    """The last sentence, and the exit code.

    Args:
        ending: how it ended.
        host: the workspace's name.
        command: what ran; "" was the login shell.
        lost: why the connection ended, where the agent did not say that the attach did.
    """
    said, what = ending.said, "the command" if command else "the shell"
    again = f"`tether attach {host} --id {ending.attached.id}`" if ending.attached else ""
    if said is None:
        if ending.signal:
            return f"stopped by {signal.Signals(ending.signal).name}", 128 + ending.signal
        if again:
            lost = f"{lost.rstrip('.')}; try to attach again with {again}"
        return lost, EXIT_CONNECTION_FAILED
    if ending.refused is not None and ending.attached is None:
        return ending.refused.message, EXIT_ERROR
    if said.cause == SESSION_DETACHED:
        code = 128 + ending.signal if ending.signal else 0
        return f"detached{_lives(ending.attached)}; attach again with {again}", code
    if said.cause == SESSION_EXIT and said.exit_code is not None:
        return f"{what} ended with exit code {said.exit_code}", said.exit_code
    if said.cause == SESSION_SIGNAL and said.exit_signal:
        number = getattr(signal, f"SIG{said.exit_signal}", None)
        code = 128 + number if isinstance(number, signal.Signals) else EXIT_ERROR
        return f"{what} was ended by signal {said.exit_signal}", code
    code = EXIT_ERROR if said.cause.startswith("session.") else EXIT_CONNECTION_FAILED
    return said.sentence, code


def _lives(attached: Attached | None) -> str:
    """For how long the terminal waits for somebody to look at it."""
    if attached is None or attached.idle_s is None:
        return ""
    return f"; the terminal lives for {span(attached.idle_s)} without a viewer"


def list_terminals(host: str, as_json: bool) -> int:
    """Print the terminals of a workspace."""
    answer = _asked(host, List(), Listing)
    if as_json:
        print_json([_row(info) for info in answer.terminals])
        return 0
    if not answer.terminals:
        click.echo(f"{host} has no terminals: `tether attach {host}` opens one.")
        return 0
    drawn = table("ID", "NAME", "COMMAND", "SIZE", "VIEWERS", "EXPIRES IN")
    for info in answer.terminals:
        viewers = ", ".join(info.viewers) or "nobody"
        expires = span(info.expires_in_s) if info.expires_in_s is not None else ""
        add_row(
            drawn, info.id, info.name, info.command, f"{info.cols}x{info.rows}", viewers, expires
        )
    print_table(drawn)
    return 0


def _row(info: Info) -> dict[str, Any]:
    return {field: getattr(info, field) for field in info.__struct_fields__}


def end(host: str, pty_id: str) -> int:
    """End a terminal."""
    return _done(host, Kill(id=pty_id), f"terminal {pty_id} is being ended")


def rename(host: str, pty_id: str, text: str) -> int:
    """Call a terminal by another name."""
    return _done(host, Rename(id=pty_id, name=text), f"terminal {pty_id} is called {text} now")


def _done(host: str, request: TerminalMessage, sentence: str) -> int:
    _asked(host, request, Done)
    click.echo(clean(sentence))
    return 0


def _asked(host: str, request: TerminalMessage, wanted: type[A]) -> A:
    def work(line: Line) -> A:
        answer = ask(line, request)
        line.finish()
        if isinstance(answer, wanted):
            return answer
        if isinstance(answer, Refused):
            raise Failure(answer.message)
        raise Failure(_loss(line, AttachEnding()), EXIT_CONNECTION_FAILED)

    return _over(host, work)


def _over(host: str, work: Callable[[Line], A], columns: int = 0) -> A:
    """What `work` makes of a line to `host`, which is gone afterwards."""
    line = Line(host, columns)
    try:
        return work(line)
    except BaseException:
        line.give_up()
        line.finish()
        raise
    finally:
        line.forget()
