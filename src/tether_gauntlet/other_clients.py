"""Other people's SSH clients in the laboratory: how each is told the way to a workspace.

Law: each is used as its own manual says, and knows nothing of Tether but the ProxyCommand.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tether_gauntlet.lab.host import TETHER
from tether_gauntlet.lab.program import Program
from tether_gauntlet.stage import Stage

HOST = "dev.tether"

_PARAMIKO = """
import sys, time, paramiko
hosts, key, command = sys.argv[1:4]
client = paramiko.SSHClient()
client.load_host_keys(hosts)
proxy = paramiko.ProxyCommand(command)
client.connect("{host}", username="anybody", sock=proxy, key_filename=key,
               allow_agent=False, look_for_keys=False)
{then}
client.close()
proxy.process.stdin.close()
proxy.process.wait(20)
"""


def proxy_command() -> str:
    """What stands in the ProxyCommand of programs that read no ssh_config."""
    return shlex.join([*TETHER, "ssh", "--stdio", "--", HOST])


def device_key(stage: Stage) -> Path:
    """The key of the client's machine, which the agent knows."""
    return stage.lab["client"].directory / "tether" / "ssh" / "id_ed25519"


def known_hosts(stage: Stage) -> Path:
    """Where the agent's host key is pinned."""
    return device_key(stage).with_name("known_hosts")


def paramiko(stage: Stage, then: str) -> Program:
    """Start a program of paramiko's that connects, does `then`, and leaves as its manual says: by
    `client.close()`, which closes the socket without a word of SSH."""
    script = _PARAMIKO.format(host=HOST, then=then)
    arguments = (str(known_hosts(stage)), str(device_key(stage)), proxy_command())
    return stage.lab["client"].start("paramiko", [sys.executable, "-c", script, *arguments])


def plink(stage: Stage, *command: str) -> Program:
    """Start PuTTY's command-line client."""
    here = stage.lab["client"]
    key = here.directory / "device.ppk"
    if not key.exists():
        here.run("puttygen", str(device_key(stage)), "-o", str(key), "-O", "private", check=True)
    told = here.run("ssh-keygen", "-l", "-f", str(known_hosts(stage)), check=True)
    argv = ["plink", "-batch", "-T", "-i", str(key), "-hostkey", told.stdout.split()[1]]
    argv += ["-proxycmd", proxy_command(), "-l", "anybody", HOST, *command]
    return here.start("plink", argv)
