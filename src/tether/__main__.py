"""The `tether` program: `python -m tether`, or the installed script.

Law: imports almost nothing before it knows the command. `tether ssh --stdio` is a ProxyCommand that
every `git fetch` pays for, so it gets to its own module without passing through click.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

PROGRAMS = (
    ("up", "tether.run.programs:up", "Run everything on this machine: server, relay, agent."),
    ("server", "tether.run.programs:server", "Run the server: control plane, relay and API."),
    ("relay", "tether.run.programs:relay", "Run a DERP relay of its own."),
    ("agent", "tether.run.programs:agent", "Run the agent inside a workspace."),
)
"""Commands that are composition roots: name, where, summary."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    open_standard_streams()
    try:
        if argv[:2] == ["ssh", "--stdio"] and "--help" not in argv:
            gc.disable()  # nothing of what is imported becomes garbage: 7 ms of 150
            from tether.cli.ssh import stdio

            gc.freeze()
            gc.enable()
            return stdio.main(argv[2:])
        from tether.cli import main as commands

        return commands.main(argv, PROGRAMS)
    except KeyboardInterrupt:  # while importing: commands treat it themselves
        return 130


def open_standard_streams() -> None:
    """Open the null device where standard input, output or errors are closed, as OpenSSH's programs do.

    Else the next file that is opened would take the number, and what is printed would go into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # programs that we start inherit this one
            if null != number:
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


if __name__ == "__main__":
    sys.exit(main())
