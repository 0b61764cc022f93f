"""`tether config-ssh`: `ssh NAME.tether` with any ssh program, host keys pinned.

Law: in a file of the user's, one line (or one marked block) is ours; the rest stays byte for byte. A
second run changes nothing, and `--remove` takes back exactly what was added. The functions on bytes
are pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tether.cli.api import Api, segment
from tether.cli.ssh.options import executable, options
from tether.client.device_key import ensure_device_keys
from tether.client.errors import Failure
from tether.client.host_keys import SUFFIX, Pin, accept, check, normal_key, workspace_name
from tether.config import ClientFiles, client_files, load, write_atomically
from tether.net.ssh_key import KeyType

_NOTE = b"# tether config-ssh: `ssh NAME.tether` reaches workspaces\n"
_BEGIN, _END = b"# >>> tether config-ssh >>>\n", b"# <<< tether config-ssh <<<\n"
_SECTION = re.compile(rb"^\s*(host|match)\b", re.IGNORECASE | re.MULTILINE)


@click.command("config-ssh")
@click.option(
    "--ssh-config-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write everything into this file, and leave ~/.ssh/config alone.",
)
@click.option("--accept-new-host-key", metavar="NAME", help="Trust this workspace's new host key.")
@click.option("--remove", is_flag=True, help="Take back what config-ssh added.")
@click.option("--dry-run", "-n", is_flag=True, help="Only print what would be written.")
def config_ssh(
    ssh_config_file: Path | None, accept_new_host_key: str | None, remove: bool, dry_run: bool
) -> None:
    """Make `ssh NAME.tether` work with any ssh program.

    And so scp, sftp, rsync, git, VS Code and JetBrains Gateway, which use it. Adds one Include line
    at the top of ~/.ssh/config, and pins the workspaces' host keys.

    \b
    Examples:
      tether config-ssh && ssh dev.tether
      tether config-ssh --ssh-config-file ./ssh_config && ssh -F ./ssh_config dev.tether
      tether config-ssh --accept-new-host-key dev
      tether config-ssh --remove
    """
    files = client_files(os.environ)
    target = (ssh_config_file or Path.home() / ".ssh" / "config").expanduser()
    if remove:
        _rewrite(target, without_ours(_read(target), files.ssh_config), dry_run)
        if not dry_run:
            files.ssh_config.unlink(missing_ok=True)
            click.echo(f"Removed from {target}.")
        return
    api = Api(load(os.environ))
    if accept_new_host_key is not None:
        _accept(api, files, workspace_name(accept_new_host_key), dry_run)
    block = host_block(files, executable(), tuple(KeyType))
    if ssh_config_file is not None:
        _rewrite(target, with_block(_read(target), block), dry_run)
    else:
        if dry_run:
            click.echo(f"--- {files.ssh_config}\n{block.decode()}", nl=False)
        elif _read(files.ssh_config) != block:
            write_atomically(files.ssh_config, block)
        _rewrite(target, with_include(_read(target), files.ssh_config), dry_run)
    if not dry_run:
        ensure_device_keys(files, tuple(KeyType))
        names = pin_all(files, api.get("/workspaces"))
        click.echo(f"Wrote {target}.")
        known = ", ".join(f"ssh {name}{SUFFIX}" for name in names[:5]) or f"ssh NAME{SUFFIX}"
        click.echo(f"Try: {known}")


def host_block(files: ClientFiles, program: list[str], keys: Sequence[KeyType]) -> bytes:
    """The section for every workspace; `keys` are the types of the device's keys."""
    lines = [f"Host *{SUFFIX}"]
    lines += [f"    {key} {value}" for key, value in options(files, program, "%h", keys)]
    return ("\n".join(lines) + "\n").encode()


def include_line(path: Path) -> bytes:
    """The line that brings `path` into the user's own file."""
    return f'Include "{path}"\n'.encode()


def with_include(text: bytes, path: Path) -> bytes:
    """`text` with the Include at its top, where no Host section can hide it."""
    line = include_line(path)
    first_section = _SECTION.search(text)
    head = text[: first_section.start()] if first_section else text
    if line in head.splitlines(keepends=True):
        return text
    return _NOTE + line + b"\n" + without_ours(text, path)


def with_block(text: bytes, block: bytes) -> bytes:
    """`text` with our marked block, in its old place if it has one, else at the top."""
    ours = _BEGIN + block + _END
    begin, end = text.find(_BEGIN), text.find(_END)
    if 0 <= begin < end:
        return text[:begin] + ours + text[end + len(_END) :]
    return ours + (b"\n" + text if text else b"")


def without_ours(text: bytes, path: Path) -> bytes:
    """`text` as it was before we came."""
    begin, end = text.find(_BEGIN), text.find(_END)
    if 0 <= begin < end:
        after = text[end + len(_END) :]
        text = text[:begin] + (after.removeprefix(b"\n") if begin == 0 else after)
    line = include_line(path)
    for ours in (_NOTE + line + b"\n", _NOTE + line, line):
        if ours in text:
            text = text.replace(ours, b"", 1)
    return text


def pin_all(files: ClientFiles, workspaces: list[dict[str, Any]]) -> list[str]:
    """Pin the host keys of all workspaces that have told one; the names of all.

    Raises:
        Failure: a pinned key changed.
    """
    for workspace in workspaces:
        if normal_key(workspace.get("host_key") or ""):
            check(files, str(workspace["name"]), _pin(workspace))
    return [str(workspace["name"]) for workspace in workspaces]


def _accept(api: Api, files: ClientFiles, name: str, dry_run: bool) -> None:
    workspace = api.get(f"/workspaces/{segment(name)}")
    if not normal_key(workspace.get("host_key") or ""):
        raise Failure(f"the agent of workspace {name} has told no host key yet: start it first")
    if dry_run:
        click.echo(f"would pin {name}{SUFFIX} {workspace['host_key']}")
        return
    accept(files, name, _pin(workspace))
    click.echo(f"Pinned the new host key of {name}.")


def _pin(workspace: dict[str, Any]) -> Pin:
    return Pin(str(workspace["workspace_id"]), str(workspace["host_key"]))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as wrong:
        raise Failure(f"{path} cannot be read: {wrong.strerror}") from wrong


def _rewrite(path: Path, text: bytes, dry_run: bool) -> None:
    """Put `text` into the file that `path` names, which may be a link to the user's dotfiles."""
    if dry_run:
        click.echo(f"--- {path}\n{text.decode(errors='replace')}", nl=False)
        return
    real = path.resolve()
    if _read(real) == text and (text == b"" or real.exists()):
        return
    mode = real.stat().st_mode & 0o777 if real.exists() else 0o600
    try:
        write_atomically(real, text, mode)
    except OSError as wrong:
        raise Failure(f"{path} cannot be written: {wrong.strerror}") from wrong
