"""Pinned host keys: which SSH host key belongs to which workspace.

Law: a workspace is trusted on its first use, by its id; afterwards another key for the same id is
refused until the user accepts it by name. Only the pinned key itself may vouch for further ones.
`known_hosts` is written from the pins and never read, so that the two cannot disagree. A key that must
not be trusted is a `Failure`, and nothing is dialled.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from tether.client.errors import Failure
from tether.config import ClientFiles, unless_read_only, write_atomically
from tether.net.host import platform

if TYPE_CHECKING:
    from tether.protocol.messages.tunnel import FurtherHostKey, TunnelGrant

SUFFIX = ".tether"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Pin:
    """The key that a workspace had when it was first used."""

    workspace_id: str
    host_key: str
    further: tuple[str, ...] = ()
    """Keys of other types, for which `host_key` has vouched."""


Pins = Mapping[str, Pin]


class KeyCheck(Enum):
    KNOWN = auto()  # the pinned key
    FIRST_USE = auto()
    OTHER_WORKSPACE = auto()  # the name was given to a new workspace: its key is new, too
    CHANGED_KEY = auto()  # the same workspace with another key


def check_host_key(pins: Pins, name: str, offered: Pin) -> KeyCheck:
    """What `offered` is, compared with what is pinned."""
    pinned = pins.get(name)
    if pinned is None:
        return KeyCheck.FIRST_USE
    if (pinned.workspace_id, pinned.host_key) == (offered.workspace_id, offered.host_key):
        return KeyCheck.KNOWN
    if pinned.workspace_id != offered.workspace_id:
        return KeyCheck.OTHER_WORKSPACE
    return KeyCheck.CHANGED_KEY


def normal_key(line: str) -> str:
    """Type and key of an OpenSSH public key line, without its comment; "" if it is none."""
    words = line.split()
    if len(words) < 2 or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        return ""
    return f"{words[0]} {words[1]}"


def workspace_name(host: str) -> str:
    """`dev` from `dev` or `dev.tether`.

    Raises:
        Failure: no workspace can have that name; nothing else reaches a file, or a shell.
    """
    name = host.removesuffix(SUFFIX)
    if not _NAME.fullmatch(name):
        raise Failure(f"{host[:80]!r} is no workspace's name: `tether workspace list` shows them")
    return name


def known_hosts_text(pins: Pins) -> str:
    """The file that `ssh` reads."""
    lines = ["# Written by tether from known_hosts.json; changes are lost."]
    lines += [
        f"{name}{SUFFIX} {key}"
        for name in sorted(pins)
        for key in (pins[name].host_key, *pins[name].further)
    ]
    return "\n".join(lines) + "\n"


def read_pins(files: ClientFiles) -> dict[str, Pin]:
    """The pins on disk.

    Raises:
        Failure: the file is damaged. Forgetting pins silently would trust anybody anew.
    """
    try:
        raw = json.loads(files.pins.read_bytes())
        return {
            str(name): Pin(
                str(pin["workspace_id"]),
                str(pin["host_key"]),
                tuple(map(str, pin.get("further", ()))),
            )
            for name, pin in raw.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise Failure(
            f"{files.pins} is damaged; if nobody tampered with it, delete it and connect again"
        ) from wrong


def check(files: ClientFiles, name: str, offered: Pin) -> KeyCheck:
    """Compare with the pins, and pin what may be pinned. Call before a byte is forwarded.

    Raises:
        Failure: the key must not be trusted; the text says what to do.
    """
    offered = Pin(offered.workspace_id, normal_key(offered.host_key))
    if not offered.host_key:
        raise Failure(
            f"the agent of workspace {name} has told no host key yet; try again when it is connected"
        )
    with _locked(files):
        pins = read_pins(files)
        judged = check_host_key(pins, name, offered)
        if judged is KeyCheck.CHANGED_KEY:
            raise Failure(
                f"the host key of workspace {name} is not the one in {files.known_hosts}: its agent "
                "lost its key, or somebody poses as it. If you know why it changed, run "
                f"`tether config-ssh --accept-new-host-key {name}`"
            )
        _store(files, pins, pins if judged is KeyCheck.KNOWN else {**pins, name: offered})
    return judged


def trust_further(files: ClientFiles, name: str, shown: FurtherHostKey) -> None:
    """Pin another host key of a workspace. Call before ssh sees it.

    Raises:
        Failure: the workspace's pinned key does not vouch for it.
    """
    with _locked(files):
        pins = read_pins(files)
        pin = pins[name]
        if shown.public_key in pin.further:
            return
        from tether.net.ssh_key import BadKey, vouched_for  # paid for once in a workspace's life

        try:
            key = vouched_for(shown.certificate, pin.host_key)
        except BadKey as wrong:
            raise Failure(
                f"the pinned host key of workspace {name} does not vouch for the one that this SSH "
                f"program asks for ({wrong})"
            ) from wrong
        kept = [known for known in pin.further if known.split()[0] != key.split()[0]]
        _store(files, pins, {**pins, name: replace(pin, further=(*kept, key))})


def trust_grant(files: ClientFiles, workspace: str, grant: TunnelGrant) -> None:
    """Check what a grant says of the workspace before a byte is forwarded: pin its host key, or compare
    it with the pinned one; keep the fresh certificate.

    Raises:
        Failure: the key must not be trusted; the text says what to do.
    """
    from tether.client.outcome import say  # not needed by those who only read pins

    checked = check(files, workspace, Pin(grant.workspace_id, grant.host_key))
    if checked is KeyCheck.OTHER_WORKSPACE:
        say(
            f"{workspace} is another workspace than the one of that name used before; "
            "its host key is pinned anew"
        )
    if grant.certificate:
        with unless_read_only():  # the agent takes the bare key, too
            write_atomically(files.certificate, f"{grant.certificate.strip()}\n", mode=0o644)


def accept(files: ClientFiles, name: str, offered: Pin) -> None:
    """Pin `offered` whatever was pinned before: the user said so."""
    with _locked(files):
        pins = read_pins(files)
        key = normal_key(offered.host_key)
        _store(files, pins, {**pins, name: Pin(offered.workspace_id, key)})


def _store(files: ClientFiles, old: Pins, new: Pins) -> None:
    if new != old:
        text = {
            name: {"workspace_id": pin.workspace_id, "host_key": pin.host_key}
            | ({"further": pin.further} if pin.further else {})
            for name, pin in new.items()
        }
        write_atomically(files.pins, json.dumps(text, indent=1, sort_keys=True) + "\n")
    wanted = known_hosts_text(new)
    try:
        present = files.known_hosts.read_text(errors="replace")
    except FileNotFoundError:
        present = ""
    if present != wanted:
        write_atomically(files.known_hosts, wanted)


@contextlib.contextmanager
def _locked(files: ClientFiles) -> Iterator[None]:
    """One writer at a time: many `ssh` start at once. Where nobody can write, nothing is locked."""
    descriptor: int | None = None
    with unless_read_only():
        files.ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(files.ssh / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if descriptor is not None:
            platform.lock(descriptor, wait=True)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
