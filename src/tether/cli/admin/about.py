"""`tether version` and `tether completion`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tether.cli.output import json_option, print_json
from tether.version import VERSION

_HOW = {
    "bash": ("~/.bashrc", 'eval "$(_TETHER_COMPLETE=bash_source tether)"'),
    "zsh": ("~/.zshrc", 'eval "$(_TETHER_COMPLETE=zsh_source tether)"'),
    "fish": (
        "~/.config/fish/completions/tether.fish",
        "_TETHER_COMPLETE=fish_source tether | source",
    ),
}


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version.

    \b
    Examples:
      tether version
      tether version --json
    """
    if as_json:
        print_json({"version": VERSION})
    else:
        click.echo(f"tether {VERSION}")


@click.command()
@click.argument("shell", type=click.Choice(sorted(_HOW)), required=False)
def completion(shell: str | None) -> None:
    """Print how to complete in a shell.

    \b
    Examples:
      tether completion bash >> ~/.bashrc
      tether completion fish >> ~/.config/fish/completions/tether.fish
    """
    chosen = shell or Path(os.environ.get("SHELL", "bash")).name
    file, line = _HOW.get(chosen, _HOW["bash"])
    click.echo(line)
    click.echo(f"Put that line into {file}, then open a new shell.", err=True)
