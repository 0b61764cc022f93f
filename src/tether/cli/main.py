"""The command line: one table of commands, each imported when it is called.

Law: nothing here does a command's work. Whatever goes wrong becomes one line `tether: …` on stderr
and an exit code; a traceback appears only with TETHER_DEBUG set.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

from tether.client.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, Failure, os_failure
from tether.config import ConfigError
from tether.text import did_you_mean
from tether.version import VERSION


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One command: its name, `module:attribute`, the line in the overview, and its section."""

    name: str
    target: str
    summary: str
    section: str


_CONNECT, _NETWORK, _RECORD = "Connect", "Network", "Why was I cut off?"
_ADMIN, _RUN = "Administration", "Programs"

CLIENT = (
    CommandEntry(
        "login", "tether.cli.admin.login:login", "Save which server to use, and a token.", _CONNECT
    ),
    CommandEntry("logout", "tether.cli.admin.login:logout", "Forget the saved token.", _CONNECT),
    CommandEntry(
        "whoami", "tether.cli.admin.login:whoami", "Show who the server takes you for.", _CONNECT
    ),
    CommandEntry(
        "ssh", "tether.cli.ssh.ssh:ssh", "Open a shell or run a command in a workspace.", _CONNECT
    ),
    CommandEntry(
        "attach",
        "tether.cli.attach.attach:attach",
        "Open a terminal that survives you, or return to it.",
        _CONNECT,
    ),
    CommandEntry(
        "config-ssh",
        "tether.cli.ssh.config:config_ssh",
        "Make `ssh NAME.tether` work with any ssh program.",
        _CONNECT,
    ),
    CommandEntry(
        "port-forward",
        "tether.cli.port_forward.port_forward:port_forward",
        "Bring ports of a workspace to this machine.",
        _CONNECT,
    ),
    CommandEntry(
        "mosh",
        "tether.cli.port_forward.mosh:mosh",
        "Open a mosh session in a workspace.",
        _CONNECT,
    ),
    CommandEntry("ping", "tether.cli.network.ping:ping", "Time the way to a workspace.", _NETWORK),
    CommandEntry(
        "speedtest",
        "tether.cli.network.speedtest:speedtest",
        "Measure how much a tunnel to a workspace carries.",
        _NETWORK,
    ),
    CommandEntry(
        "netcheck",
        "tether.cli.network.netcheck:netcheck",
        "Check the way to the server and to each of its relays.",
        _NETWORK,
    ),
    CommandEntry(
        "relays",
        "tether.cli.network.relays:relays",
        "List relays by region, and what they lost.",
        _NETWORK,
    ),
    CommandEntry(
        "connections",
        "tether.cli.log.connections:connections",
        "List connections, and why they ended.",
        _RECORD,
    ),
    CommandEntry(
        "explain",
        "tether.cli.log.explain:explain",
        "Explain one connection's end, with its evidence.",
        _RECORD,
    ),
    CommandEntry(
        "incidents",
        "tether.cli.log.incidents:incidents",
        "List what ended together, and whom it hit.",
        _RECORD,
    ),
    CommandEntry("report", "tether.cli.log.report:report", "Count how connections ended.", _RECORD),
    CommandEntry("web", "tether.cli.admin.web:web", "Open the web interface, signed in.", _RECORD),
    CommandEntry(
        "workspace",
        "tether.cli.admin.workspaces:workspace",
        "Create, list, stop, start and delete workspaces.",
        _ADMIN,
    ),
    CommandEntry("user", "tether.cli.admin.users:user", "Create, list and delete users.", _ADMIN),
    CommandEntry(
        "token", "tether.cli.admin.tokens:token", "Create, list and delete your tokens.", _ADMIN
    ),
    CommandEntry("version", "tether.cli.admin.about:version", "Print the version.", _RUN),
    CommandEntry(
        "completion", "tether.cli.admin.about:completion", "Print how to complete in a shell.", _RUN
    ),
)


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def __init__(self, entries: Iterable[CommandEntry]) -> None:
        super().__init__(
            name="tether",
            help="Remote workspaces that never leave people guessing why they were cut off.",
            epilog="`tether COMMAND --help` shows examples. Files and server: TETHER_CONFIG_DIR, "
            "TETHER_URL, TETHER_TOKEN.",
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )
        self.entries = {entry.name: entry for entry in entries}
        self.params.append(
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Print the version and exit.",
            )
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{entry.target} is a command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.entries and not name.startswith("-"):
            meant = did_you_mean(name, self.entries)
            raise click.UsageError(f"No such command {name!r}{meant or '.'}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for entry in self.entries.values():
            sections.setdefault(entry.section, []).append((entry.name, entry.summary))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)


def build(programs: Sequence[tuple[str, str, str]] = ()) -> LazyGroup:
    """The whole command line; `programs` are the composition roots, named by who starts us."""
    return LazyGroup(
        (*CLIENT, *(CommandEntry(name, at, what, _RUN) for name, at, what in programs))
    )


def main(arguments: Sequence[str], programs: Sequence[tuple[str, str, str]] = ()) -> int:
    """Run a command and turn every way in which it can fail into one line and an exit code."""
    try:
        result = build(programs).main(
            args=list(arguments), prog_name="tether", standalone_mode=False
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as wrong:
        click.echo(wrong.format_message(), err=True)
        return EXIT_USAGE
    except click.UsageError as wrong:
        where = wrong.ctx.command_path if wrong.ctx else "tether"
        return complain(f"{wrong.format_message()} See `{where} --help`.", EXIT_USAGE)
    except Failure as failure:
        return complain(str(failure), failure.code)
    except (ConfigError, click.ClickException) as wrong:
        text = wrong.format_message() if isinstance(wrong, click.ClickException) else str(wrong)
        return complain(text, EXIT_ERROR)
    except (click.Abort, KeyboardInterrupt):
        return complain("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has seen enough: `tether … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_ERROR
    except OSError as wrong:
        return complain(str(os_failure(wrong)), EXIT_ERROR)
    except Exception as wrong:
        if os.environ.get("TETHER_DEBUG"):
            raise
        return complain(internal_error(wrong), EXIT_ERROR)


def complain(message: str, code: int) -> int:
    """Say what went wrong, in one line on stderr; returns `code`."""
    line = " ".join(message.split())
    sys.stderr.write(f"tether: {line}\n")
    return code


def internal_error(wrong: Exception) -> str:
    """The line for a failure that nobody foresaw."""
    return (
        f"internal error: {type(wrong).__name__}: {wrong}; "
        "this is a bug in Tether: please report it with the output of TETHER_DEBUG=1"
    )


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"tether {VERSION}")
        ctx.exit()
