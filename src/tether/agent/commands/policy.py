"""What a workspace's owner may switch off, and how a refusal looks to the user.

Law: pure. A decision is a value that carries its cause, the words of its fact, and every byte that the
client is shown. Blocking file transfer is a "do not trespass" sign and no wall: whoever may run a
shell can copy. A transfer is recognized by the program that a command runs, looked for behind simple
wrappers (`sudo rsync`, `sh -c 'scp …'`), and by the sftp subsystem. Reaching a port is no transfer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tether.agent.commands.command_line import basename, program
from tether.attribution.causes.catalogue import POLICY_REFUSALS, cause_of
from tether.attribution.evidence import PolicyRefused
from tether.attribution.vocabulary import BLOCKED_EXIT_CODE, Policy, Vantage
from tether.protocol import udp as datagrams
from tether.protocol.messages.reports import ForwardKind

TRANSFER_PROGRAMS = frozenset({"nc", "rsync", "scp", "sftp"})
_SFTP_SERVERS = frozenset({"sftp-server", "internal-sftp"})

_FILE_TRANSFER = b"\x02File transfer has been disabled.\n"
"""What scp and rsync print: 0x02 opens a fatal error in scp's own protocol."""

_REMOTE = (ForwardKind.FORWARDED_TCPIP, ForwardKind.FORWARDED_STREAMLOCAL)
_LOCAL = (ForwardKind.DIRECT_TCPIP, ForwardKind.DIRECT_STREAMLOCAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPolicy:
    """The owner's switches. Each is off unless it was set."""

    block_file_transfer: bool = False
    block_local_forwarding: bool = False
    block_remote_forwarding: bool = False
    gateway_ports: bool = False
    """Whether `ssh -R` may listen on other addresses than loopback, as sshd's `GatewayPorts`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRefusal:
    """One thing that was not allowed.

    A session writes `output` to its standard output and ends with `exit_code`; a channel or a
    listener is refused with `message`.
    """

    policy: Policy
    what: str
    message: str
    output: bytes = b""
    exit_code: int = BLOCKED_EXIT_CODE

    @property
    def cause(self) -> str:
        """The code of the catalogue's row."""
        return POLICY_REFUSALS[self.policy]

    @property
    def sentence(self) -> str:
        """For people."""
        return cause_of(self.cause).sentence

    def fact(self, at: float) -> PolicyRefused:
        """The refusal as evidence, to be noted in the connection's cell."""
        return PolicyRefused(vantage=Vantage.AGENT, at=at, policy=self.policy, what=self.what)


def check_session(
    policy: TransferPolicy, *, command: str | None = None, subsystem: str | None = None
) -> PolicyRefusal | None:
    """Whether a session may run; None if it may."""
    if subsystem == datagrams.SUBSYSTEM:  # its client reads one line first, and shows it
        refusal = check_forward(policy, ForwardKind.DIRECT_TCPIP)
        return None if refusal is None else _no_datagrams(refusal)
    if not policy.block_file_transfer:
        return None
    if subsystem == "sftp":  # its client would take any text for a broken packet
        return _file_transfer("sftp", b"")
    name = basename(next(iter(program(command or "")), ""))
    if name in _SFTP_SERVERS:
        return _file_transfer("sftp", b"")
    return _file_transfer(name, _FILE_TRANSFER) if name in TRANSFER_PROGRAMS else None


def check_forward(policy: TransferPolicy, kind: ForwardKind) -> PolicyRefusal | None:
    """Whether a connection (local) or a listener (remote) of this kind may be had; None if so."""
    if kind in _LOCAL and policy.block_local_forwarding:
        return PolicyRefusal(
            policy=Policy.BLOCK_LOCAL_FORWARDING,
            what=kind,
            message="local port forwarding is disabled",
        )
    if kind in _REMOTE and policy.block_remote_forwarding:
        return PolicyRefusal(
            policy=Policy.BLOCK_REMOTE_FORWARDING,
            what=kind,
            message="remote port forwarding is disabled",
        )
    return None


def _no_datagrams(refusal: PolicyRefusal) -> PolicyRefusal:
    answer = datagrams.line(datagrams.UdpOpened(error=refusal.message))
    return replace(refusal, what=datagrams.SUBSYSTEM, output=answer)


def _file_transfer(what: str, output: bytes) -> PolicyRefusal:
    return PolicyRefusal(
        policy=Policy.BLOCK_FILE_TRANSFER,
        what=what,
        message="file transfer has been disabled",
        output=output,
    )
