"""asyncssh's server connection, taught to say who ended it and to heed the tunnel's back-pressure.

Law: the only file that overrides asyncssh's private methods, but for `fast_path.py`, which is about
speed alone; `tests/integration/agent/test_asyncssh_contract.py` pins each of them to the exact
version. It decides nothing about causes. Every way to close passes `_force_close`, where
`SshOwner.closing` is told what is known *before* anything is closed (asyncssh itself reports a polite
close of the peer, one of ours and an abort alike, as `None`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.channel import (
    SSHAgentChannel,
    SSHChannel,
    SSHServerChannel,
    SSHTCPChannel,
    SSHUNIXChannel,
    SSHX11Channel,
)
from asyncssh.constants import MSG_DISCONNECT, MSG_KEXINIT, MSG_USERAUTH_REQUEST
from asyncssh.encryption import encryption_needs_mac
from asyncssh.kex import get_kex_algs
from asyncssh.packet import SSHPacket, String
from asyncssh.public_key import (
    CERT_TYPE_USER,
    SSHOpenSSHCertificate,
    decode_ssh_certificate,
    decode_ssh_public_key,
)

from tether.agent.forwarding.forwards import Forwards
from tether.agent.forwarding.tracked import carry_back
from tether.agent.process.environment import ClientVariables
from tether.agent.ssh.auth import Certificate, Credential
from tether.agent.ssh.fast_path import FastChannel, FastConnection
from tether.agent.ssh.host_key import FURTHER, CertifiedHostKey, HostKey
from tether.agent.ssh.negotiation import (
    HOST_KEY_TYPES,
    NothingInCommon,
    chosen_algorithm,
    nothing_in_common,
)
from tether.agent.ssh.x11 import Display, Displays
from tether.attribution.vocabulary import HandshakeStage
from tether.protocol.messages.reports import ForwardKind
from tether.text import REPLACEMENT, printable
from tether.version import RELEASE

# ChaCha20 is left out on purpose: OpenSSH clients would prefer it, at half the speed (measured).
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr")

KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
)
"""No SHA-1, no NIST curves, no groups below 4096 bits, and none that the client has a say in."""

MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
"""Encrypt-then-MAC only. GCM needs none."""

DROPBEAR_MAC = b"hmac-sha2-256"
"""dropbear has neither GCM nor encrypt-then-MAC as Debian builds it; strict key exchange protects it."""

SOFTWARE = f"OpenSSH_9.9 Tether_{RELEASE}"
"""What the server calls itself: clients send what a session needs to end (eow) only to an OpenSSH, and
tell versions by this number. docs/adr/0015 says what each of them does by it."""

WINDOW = 2 << 20
PACKET = 32 << 10

MAX_SOFTWARE, MAX_METHOD, MAX_METHODS = 60, 30, 8
"""So much is kept of what a client says: characters of its software and of a method, and methods."""


class SshOwner(Protocol):
    """Who is told what happens on the connection, and decides."""

    def closing(self, exc: Exception | None) -> None:
        """asyncssh closes, for `exc`; None where it was told to. Offer the cause now."""

    def said_disconnect(self, code: int, text: str) -> None:
        """The client sent SSH_MSG_DISCONNECT. Offer the cause now; then it closes."""

    def no_common_algorithm(self, nothing: NothingInCommon) -> None:
        """The client's offer of algorithms has nothing in common with ours. Offer the cause now."""

    def uses_further(self, key: CertifiedHostKey) -> None:
        """The client is answered with this host key, which it may not know yet. Tell its tether now."""

    def admits(self, credential: Credential, proven: bool | None) -> bool:
        """Whether the credential lets the client in. `proven` says whether the client has shown that
        it holds the private key; None where it only asks whether to show it."""

    def display_failed(self, wrong: Exception) -> None:
        """There is no display for a session that asked for one. It goes on without."""


class OutputRefused(Protocol):
    """A session, as far as its channel tells it more than asyncssh does."""

    def output_refused(self) -> None:
        """Nobody reads the session's output any more; its errors still are."""


def server_options(host_key: HostKey) -> asyncssh.SSHServerConnectionOptions:
    """What the agent's SSH server offers; made once, shared by every connection."""
    return asyncssh.SSHServerConnectionOptions(
        server_host_keys=[host_key.key],
        server_version=SOFTWARE,
        encryption_algs=list(CIPHERS),
        kex_algs=[name for name in KEX if name.encode() in get_kex_algs()],
        mac_algs=list(MACS),
        compression_algs=["none"],
        signature_algs="-ssh-rsa",
        public_key_auth=True,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        login_timeout=0,  # ours says who was slow
        keepalive_interval=0,  # a paused terminal is not a lost client
        tcp_keepalive=False,
        rdns_lookup=False,
        x11_forwarding=True,
        agent_forwarding=True,
        line_editor=False,
        encoding=None,
        window=WINDOW,
        max_pktsize=PACKET,
    )


class SshConnection(FastConnection, asyncssh.SSHServerConnection):
    """One SSH connection. `handler` answers asyncssh's public callbacks, `owner` ours."""

    def __init__(
        self,
        options: asyncssh.SSHServerConnectionOptions,
        host_key: HostKey,
        owner: SshOwner,
        handler: asyncssh.SSHServer,
        forwards: Forwards,
        displays: Displays,
        xauthority: str,
    ) -> None:
        """`forwards` sees what the client's ssh-agent and display are used for; `xauthority` is where
        the cookies of `displays` are kept for the user."""
        super().__init__(asyncio.get_running_loop(), options)
        self._host_key = host_key
        self._server_host_key_algs = [*self._server_host_keys, *FURTHER]
        self._server_host_keys = self._server_host_keys.copy()  # a key has its algorithm set
        self._forwards = forwards
        self._displays = displays
        self._cookies = xauthority
        self._shown: dict[SSHChannel[Any], Display] = {}  # each session's display
        self._protocol_factory = lambda: handler
        self._tether = owner
        self.corked = False  # the tunnel is full: channels keep their data
        self._sessions_over = False  # the client has said that it opens no more of them
        self.methods: list[str] = []
        """The authentication methods that the client has tried, each once, in order."""

    # -- ends ------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing more can be sent or received."""
        return self._transport is None

    @property
    def client_software(self) -> str:
        """The software that the client names in its version string; "" before that."""
        _, _, software = self._client_version.decode("ascii", "replace").partition("-")
        return printable(software.partition("-")[2][:MAX_SOFTWARE], REPLACEMENT)

    @property
    def handshake_stage(self) -> HandshakeStage | None:
        """How far the client has come; None once it was let in."""
        if self._auth_complete:
            return None
        if self._recv_encryption is not None:
            return HandshakeStage.LOGIN
        if self._client_kexinit:
            return HandshakeStage.HOST_KEY
        return HandshakeStage.VERSION if self._client_version else HandshakeStage.NOTHING

    def close_channels(self) -> None:
        """Close every channel after what was written to it."""
        for channel in list(self._channels.values()):
            channel.close()

    def _force_close(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._tether.closing(exc)
        super()._force_close(exc)

    def _process_disconnect(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        said = SSHPacket(packet.get_remaining_payload())
        code, text = said.get_uint32(), said.get_string().decode("utf-8", "replace")
        self._tether.said_disconnect(code, text)
        super()._process_disconnect(pkttype, pktid, packet)

    def _send_kexinit(self) -> None:
        """By now the client has said what it is."""
        if b"dropbear" in self._client_version and DROPBEAR_MAC not in self._mac_algs:
            self._mac_algs = [*self._mac_algs, DROPBEAR_MAC]
        super()._send_kexinit()

    def _process_kexinit(
        self, pkttype: int, pktid: int, packet: SSHPacket
    ) -> Coroutine[Any, Any, None]:
        """Offers with nothing in common are noticed within this call: a client that has read ours
        leaves, and its goodbye must not come first."""
        nothing = nothing_in_common(
            self._server_kexinit[1:], packet.get_remaining_payload(), encryption_needs_mac
        )
        if nothing is not None:
            self._tether.no_common_algorithm(nothing)
        return self._negotiate(pkttype, pktid, packet)

    async def _negotiate(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Have the host key ready that is agreed upon.

        A client that guesses the key exchange (dropbear does) has sent its first message already.

        asyncssh uses that message where the guess matches what is agreed upon. By RFC 4253 section 7
        it counts only where both sides *prefer* the same; else the client sends it again.
        """
        theirs = packet.get_remaining_payload()
        algorithm = chosen_algorithm(self._server_kexinit[1:], theirs, HOST_KEY_TYPES)
        if algorithm in FURTHER and algorithm not in self._server_host_keys:
            further = await self._host_key.further(algorithm)
            (self._server_host_keys[algorithm],) = asyncssh.load_keypairs([further.key])
            self._tether.uses_further(further)
        await super()._process_kexinit(pkttype, pktid, packet)  # nothing is received meanwhile
        self._ignore_first_kex = guessed_wrong(self._server_kexinit[1:], theirs)

    def _process_userauth_request(
        self, pkttype: int, pktid: int, packet: SSHPacket
    ) -> Awaitable[None] | None:
        asked = SSHPacket(packet.get_remaining_payload())
        asked.get_string(), asked.get_string()  # who, and what for
        method = printable(asked.get_string()[:MAX_METHOD].decode("ascii", "replace"), REPLACEMENT)
        if method not in self.methods and len(self.methods) < MAX_METHODS:
            self.methods.append(method)
        return super()._process_userauth_request(pkttype, pktid, packet)

    # asyncssh dispatches by this table, not by the method's name.
    _packet_handlers = {  # noqa: RUF012
        **asyncssh.SSHServerConnection._packet_handlers,
        MSG_KEXINIT: _process_kexinit,
        MSG_DISCONNECT: _process_disconnect,
        MSG_USERAUTH_REQUEST: _process_userauth_request,
    }

    # -- sessions ------------------------------------------------------------------------------

    def _process_no_more_sessions_at_openssh_dot_com_global_request(
        self, packet: SSHPacket
    ) -> None:
        packet.check_end()
        self._sessions_over = True
        self._report_global_response(True)

    def _process_session_open(self, packet: SSHPacket) -> Any:
        if self._sessions_over:  # by whom a client is misused does not get a shell
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED,
                "tether: this client has said that it opens no more sessions",
            )
        return super()._process_session_open(packet)

    # -- remote forwards ---------------------------------------------------------------------

    # asyncssh ends the whole connection where a client cancels what it never asked for.

    def _process_cancel_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        try:
            super()._process_cancel_tcpip_forward_global_request(packet)
        except asyncssh.ProtocolError as wrong:
            self._answer_unknown_cancel(wrong)

    def _process_cancel_streamlocal_forward_at_openssh_dot_com_global_request(
        self, packet: SSHPacket
    ) -> None:
        try:
            super()._process_cancel_streamlocal_forward_at_openssh_dot_com_global_request(packet)
        except asyncssh.ProtocolError as wrong:
            self._answer_unknown_cancel(wrong)

    def _answer_unknown_cancel(self, wrong: asyncssh.ProtocolError) -> None:
        if not isinstance(wrong.__context__, KeyError):
            raise wrong  # the request itself is broken
        self._report_global_response(True)  # it is not there, as the client wants it

    async def _finish_path_forward(self, listen_path: str) -> None:
        if listen_path in self._local_listeners:
            self._report_global_response(True)  # as asked for before; a second one would hide it
        else:
            await super()._finish_path_forward(listen_path)

    # -- the client's ssh-agent and display --------------------------------------------------

    async def create_agent_connection(self, session_factory: Any, **more: Any) -> Any:
        stock: Any = super().create_agent_connection
        return await carry_back(
            self._forwards,
            ForwardKind.AGENT,
            lambda factory: stock(factory, **more),
            session_factory,
        )

    async def create_x11_connection(
        self, session_factory: Any, orig_host: str = "", orig_port: int = 0, **more: Any
    ) -> Any:
        stock: Any = super().create_x11_connection
        return await carry_back(
            self._forwards,
            ForwardKind.X11,
            lambda factory: stock(factory, orig_host, orig_port, **more),
            session_factory,
        )

    async def attach_x11_listener(
        self, chan: SSHServerChannel[Any], auth_proto: bytes, auth_data: bytes, screen: int
    ) -> str | None:
        """A display for each session, as sshd does; stock asyncssh has one for all of a connection,
        whose cookie is the first one's, and never gives its number back to another."""
        try:
            display = await self._displays.open(
                self,
                cookies=self._cookies,
                protocol=auth_proto,
                cookie=auth_data,
                single=cast(SessionChannel, chan).single_display,
            )
        except (OSError, ValueError) as wrong:
            self._tether.display_failed(wrong)
            return None
        if chan.is_closing() or self.over:
            display.close()
            return None
        self._shown[chan] = display
        return f"localhost:{display.number}.{screen}"

    def detach_x11_listener(self, chan: SSHChannel[Any]) -> None:
        if (display := self._shown.pop(chan, None)) is not None:
            display.close()

    # -- who may in ------------------------------------------------------------------------

    async def reload_config(self) -> None:
        """There is no configuration that depends on the user; asyncssh would build it anew."""

    async def validate_public_key(
        self, username: str, key_data: bytes, msg: bytes, signature: bytes
    ) -> bool:
        key, certificate, credential = read_credential(key_data)
        proven: bool | None = None
        if msg:
            signed = String(self._session_id) + msg
            if key is not None:
                key.set_touch_required(True)  # as sshd does for keys that live in hardware
            proven = (
                key is not None
                and not signature.startswith(String(b"ssh-rsa"))  # SHA-1, as sshd
                and key.verify(signed, signature)
            )
        if not self._tether.admits(credential, proven):
            return False
        self._key_options = {}
        self._cert_options = None if certificate is None else certificate.options
        return True

    def refuse_with(self, text: str) -> None:
        """Show `text` to a user who is not let in; ssh prints it on standard error."""
        if not self._auth_complete and not self.over:
            self.send_auth_banner(f"tether: {text}\r\n")

    # -- back-pressure -----------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The tunnel is full: channels keep their data, and so stop their sessions."""
        self.corked = True

    def resume_writing(self) -> None:
        """There is room again."""
        self.corked = False
        for channel in list(self._channels.values()):
            if self.corked:
                break
            channel._flush_send_buf()

    def create_server_channel(self, *_: Any, **__: Any) -> SessionChannel:
        self._update_recv_pktlen(self._max_pktsize)
        return SessionChannel(
            self,
            self._loop,
            self._allow_pty,
            self._line_editor,
            self._line_echo,
            self._line_history,
            self._max_line_length,
            None,
            "strict",
            self._window,
            self._max_pktsize,
        )

    def create_tcp_channel(self, *_: Any, **__: Any) -> SSHTCPChannel[Any]:
        return _TcpChannel(self, self._loop, None, "strict", WINDOW, PACKET)

    def create_unix_channel(self, *_: Any, **__: Any) -> SSHUNIXChannel[Any]:
        return _UnixChannel(self, self._loop, None, "strict", WINDOW, PACKET)

    def create_x11_channel(self, *_: Any, **__: Any) -> SSHX11Channel:
        return _X11Channel(self, self._loop, None, "strict", WINDOW, PACKET)

    def create_agent_channel(self, *_: Any, **__: Any) -> SSHAgentChannel:
        return _AgentChannel(self, self._loop, None, "strict", WINDOW, PACKET)


class _Corkable(FastChannel[bytes]):
    """A channel that keeps its data while the tunnel is full. Stock asyncssh pushes on."""

    def _flush_send_buf(self) -> None:
        if self._conn is not None and cast(SshConnection, self._conn).corked:
            if self._session is not None:
                self._pause_resume_writing()
        else:
            super()._flush_send_buf()


class _Forwarded(_Corkable):
    """A channel to a socket, closed when both directions have ended. Stock asyncssh closes it only if
    the client's end of data came first; otherwise ssh and the socket would wait for ever."""

    def _flush_send_buf(self) -> None:
        super()._flush_send_buf()
        self._close_if_over()

    def _flush_recv_buf(self, exc: Exception | None = None) -> None:
        super()._flush_recv_buf(exc)
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._send_state == self._recv_state == "eof":
            self._loop.call_soon(self.close)


class _TcpChannel(_Forwarded, SSHTCPChannel[bytes]):
    pass


class _UnixChannel(_Forwarded, SSHUNIXChannel[bytes]):
    pass


class _X11Channel(_Forwarded, SSHX11Channel):
    pass


class _AgentChannel(_Forwarded, SSHAgentChannel):
    pass


class SessionChannel(_Corkable, SSHServerChannel[bytes]):
    """A session's channel: takes bounded variables and commands in any encoding, can refuse input."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.variables = ClientVariables()
        self.single_display = False

    @property
    def over(self) -> bool:
        """Whether it is closing, or closed. One whose output has ended is not."""
        return self._send_state in ("close_pending", "closed")

    def refuse_input(self) -> None:
        """Tell the client that its input goes nowhere (OpenSSH's eow): it may stop sending."""
        if not self.over:
            self._send_request(b"eow@openssh.com")

    def _process_eow_at_openssh_dot_com_request(self, packet: SSHPacket) -> bool:
        packet.check_end()
        if self._session is not None:
            cast(OutputRefused, self._session).output_refused()
        return True

    def _process_env_request(self, packet: SSHPacket) -> bool:
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        return self.variables.accept(name, value)

    def _process_x11_req_request(self, packet: SSHPacket) -> bool | None:
        payload = packet.get_remaining_payload()
        self.single_display = SSHPacket(payload).get_boolean()
        return super()._process_x11_req_request(SSHPacket(payload))

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        command = packet.get_string()
        packet.check_end()
        return self._start_session(command=os.fsdecode(command))


def guessed_wrong(ours: bytes, theirs: bytes) -> bool:
    """Whether a client's MSG_KEXINIT (without its type) is followed by a message to be ignored."""
    preferred = []
    for message in (ours, theirs):
        packet = SSHPacket(message)
        packet.get_bytes(16)
        lists = [packet.get_namelist() for _ in range(10)]
        preferred.append([names[:1] for names in lists[:2]])  # key exchange, host key
    return packet.get_boolean() and preferred[0] != preferred[1]


def read_credential(
    blob: bytes,
) -> tuple[asyncssh.SSHKey | None, SSHOpenSSHCertificate | None, Credential]:
    """What the client offered: the key to verify with, its certificate, and both in our words."""
    try:
        if b"-cert-v0" in blob[:64]:
            certificate = decode_ssh_certificate(blob)
            if not isinstance(certificate, SSHOpenSSHCertificate):
                return None, None, Credential(unreadable="not an OpenSSH certificate")
            return certificate.key, certificate, _in_our_words(certificate)
        key = decode_ssh_public_key(blob)
    except (asyncssh.KeyImportError, ValueError) as wrong:
        return None, None, Credential(unreadable=f"unreadable: {wrong}")
    return key, None, Credential(public_key=key.public_data)


def _in_our_words(certificate: SSHOpenSSHCertificate) -> Credential:
    sources = cast("list[Any]", certificate.options.get("source-address") or [])
    return Credential(
        public_key=certificate.key.public_data,
        certificate=Certificate(
            ca=certificate.signing_key.public_data,
            is_user=certificate._cert_type == CERT_TYPE_USER,
            key_id=certificate._key_id,
            principals=tuple(certificate.principals),
            valid_after=float(certificate._valid_after),
            valid_before=float(certificate._valid_before),
            source_addresses=tuple(map(str, sources)),
        ),
    )
