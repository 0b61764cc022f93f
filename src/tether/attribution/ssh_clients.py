"""What the silent end of an SSH client means, by the family of the client.

A program that ends in order should send SSH_MSG_DISCONNECT (RFC 4253 section 11.1). Many close their
socket instead, and for most of those nothing tells a crash from that: the honest word is then that the
client closed. Some tell even so, for they send a signal to their ProxyCommand when they end by
themselves, and have no chance to do so when they are killed or crash.

Law: data only. A client is known by the software that it names in its version string (RFC 4253 section
4.2); the first row whose beginning fits it counts. `evidence` says how each row is known.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """SSH clients that end alike."""

    begins: str
    """How the software's name begins."""
    evidence: str
    """How its programs end, and how that is known."""
    silent_end_is_a_crash: bool = False
    """Whether its pipe's end without a disconnect and without a signal shows that it was killed."""
    only_looks: bool = False
    """Whether it comes for host keys only, and leaves at each stage of the handshake."""


FAMILIES: tuple[Family, ...] = (
    Family(
        "OpenSSH-keyscan",
        "ssh-keyscan.c: one connection for each type of host key, closed when that key was shown or "
        "is not to be had",
        only_looks=True,
    ),
    Family(
        "OpenSSH_for_Windows",
        "Windows has no signals: its ProxyCommand is ended in the same way whatever happened",
    ),
    Family(
        "OpenSSH_",
        "ssh.c, ssh_kill_proxy_command: SIGHUP to the ProxyCommand at every end of its own, errors "
        "and signals included; none after SIGKILL or a crash (seen with 9.2)",
        silent_end_is_a_crash=True,
    ),
    Family(
        "paramiko_",
        "proxy.py, ProxyCommand.close: SIGTERM to the ProxyCommand and no disconnect; nothing where "
        "the program just ends (seen with 5.1)",
    ),
    Family("PuTTY_", "no disconnect and no signal, asked to stop or killed (seen with plink 0.78)"),
    Family("Go", "x/crypto/ssh closes its socket without a disconnect (podman, rclone)"),
    Family("libssh", "libssh and libssh2: whether it disconnects is up to the program"),
    Family("ssh2js", "npm ssh2, `destroy()`: closes its socket"),
    Family("Ruby/Net::SSH", "net-ssh, `shutdown!`: closes its socket"),
)

OTHERS = Family("", "not known: nothing is concluded from a silent end")
"""Every other client."""


def family_of(software: str) -> Family:
    """The family of the client that calls itself `software`; `OTHERS` where it is not known."""
    return next((family for family in FAMILIES if software.startswith(family.begins)), OTHERS)
