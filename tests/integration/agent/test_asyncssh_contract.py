"""What we lean on inside asyncssh, pinned to one version.

asyncssh is pinned exactly. When the pin moves, this module says which of the private methods that
`agent/ssh/asyncssh_connection.py` and `fast_path.py` override have changed, and they must be read again.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import asyncssh
import pytest
from asyncssh.channel import SSHChannel, SSHServerChannel
from asyncssh.connection import SSHConnection, SSHServerConnection
from asyncssh.constants import MSG_DISCONNECT, MSG_KEXINIT, MSG_USERAUTH_REQUEST
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.forward import SSHLocalPortForwarder
from asyncssh.listener import create_tcp_local_listener
from asyncssh.sftp import run_sftp_server

from tether.agent.ssh.asyncssh_connection import SessionChannel, SshConnection

PIN = "2.24.1"


def test_asyncssh_is_the_version_that_was_read() -> None:
    assert asyncssh.__version__ == PIN


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (SSHConnection._force_close, ["exc"]),
        (SSHConnection._process_disconnect, ["_pkttype", "_pktid", "packet"]),
        (SSHConnection._process_kexinit, ["_pkttype", "_pktid", "packet"]),
        (SSHConnection._process_userauth_request, ["_pkttype", "_pktid", "packet"]),
        (SSHConnection._choose_alg, ["alg_type", "local_algs", "remote_algs"]),
        (SSHConnection._recv_version, []),
        (SSHConnection._send_kexinit, []),
        (SSHConnection._cleanup, ["exc"]),
        (SSHConnection.connection_made, ["transport"]),
        (SSHConnection.connection_lost, ["exc"]),
        (SSHConnection.data_received, ["data", "datatype"]),
        (SSHConnection.pause_writing, []),
        (SSHConnection.resume_writing, []),
        (SSHConnection._update_recv_pktlen, ["max_pktsize"]),
        (SSHConnection._recv_pkthdr, []),
        (SSHConnection._send, ["data"]),
        (SSHConnection.send_packet, ["pkttype", "args", "handler"]),
        (SSHChannel.write, ["data", "datatype"]),
        (SSHChannel._accept_data, ["data", "datatype"]),
        (GCMCipher.__init__, ["cipher_name", "key", "iv"]),
        (GCMCipher.encrypt_and_sign, ["header", "data"]),
        (GCMCipher.verify_and_decrypt, ["header", "data", "mac"]),
        (SSHServerConnection.__init__, ["loop", "options", "acceptor", "error_handler", "wait"]),
        (SSHServerConnection.reload_config, []),
        (
            SSHServerConnection.validate_public_key,
            ["username", "key_data", "msg", "signature"],
        ),
        (SSHServerConnection.send_auth_banner, ["msg", "lang"]),
        (SSHServerConnection._process_cancel_tcpip_forward_global_request, ["packet"]),
        (
            SSHServerConnection._process_cancel_streamlocal_forward_at_openssh_dot_com_global_request,
            ["packet"],
        ),
        (SSHServerConnection._finish_path_forward, ["listen_path"]),
        (SSHServerConnection._process_session_open, ["packet"]),
        (SSHConnection._report_global_response, ["result"]),
        (
            SSHServerConnection.create_server_channel,
            ["encoding", "errors", "window", "max_pktsize"],
        ),
        (SSHConnection.create_tcp_channel, ["encoding", "errors", "window", "max_pktsize"]),
        (SSHConnection.create_unix_channel, ["encoding", "errors", "window", "max_pktsize"]),
        (SSHConnection.create_agent_channel, ["window", "max_pktsize"]),
        (
            SSHServerConnection.create_x11_connection,
            ["session_factory", "orig_host", "orig_port", "window", "max_pktsize"],
        ),
        (
            SSHServerConnection.create_agent_connection,
            ["session_factory", "window", "max_pktsize"],
        ),
        (SSHConnection.create_x11_channel, ["window", "max_pktsize"]),
        (
            SSHServerConnection.attach_x11_listener,
            ["chan", "auth_proto", "auth_data", "screen"],
        ),
        (SSHConnection.detach_x11_listener, ["chan"]),
        (
            create_tcp_local_listener,
            ["conn", "loop", "protocol_factory", "listen_host", "listen_port"],
        ),
        (SSHLocalPortForwarder.__init__, ["conn", "coro"]),
        (SSHServerChannel._process_x11_req_request, ["packet"]),
        (SSHChannel._flush_send_buf, []),
        (SSHChannel._flush_recv_buf, ["exc"]),
        (SSHChannel._pause_resume_writing, []),
        (SSHChannel._send_request, ["request", "args", "want_reply"]),
        (SSHServerChannel._process_env_request, ["packet"]),
        (SSHServerChannel._process_exec_request, ["packet"]),
        (SSHServerChannel._start_session, ["command", "subsystem"]),
        (run_sftp_server, ["sftp_server", "reader", "writer", "sftp_version"]),
    ],
)
def test_what_we_call_or_override_has_its_parameters(
    method: Callable[..., Any], parameters: list[str]
) -> None:
    assert [p for p in inspect.signature(method).parameters if p != "self"] == parameters


@pytest.mark.parametrize(
    "name",
    [
        *("_server_kexinit", "_ignore_first_kex"),
        *("_protocol_factory", "_transport", "_channels", "_session_id", "_auth_complete"),
        *("_key_options", "_cert_options", "_window", "_max_pktsize", "_allow_pty"),
        *(
            "_local_listeners",
            "_line_editor",
            "_line_echo",
            "_line_history",
            "_max_line_length",
            "_loop",
        ),
    ],
)
def test_the_attributes_that_we_touch_exist(name: str) -> None:
    made = inspect.getsource(SSHConnection.__init__) + inspect.getsource(
        SSHServerConnection.__init__
    )
    assert f"self.{name}" in made


@pytest.mark.parametrize(
    ("method", "digest"),
    [
        (SSHConnection._recv_data, "fc4e0735191b"),
        (SSHConnection._recv_pkthdr, "7adc4d88fe20"),
        (SSHConnection._recv_packet, "b3daa22e9763"),
        (SSHConnection._finish_recv_packet, "e12d96db58b3"),
        (SSHConnection.send_packet, "fb9da7bec6dd"),
        (SSHChannel._process_data, "342490795c4b"),
        (SSHChannel._flush_send_buf, "3f11e9dc27c5"),
        (SSHChannel.write, "1045e2000846"),
        (GCMCipher, "e389d2b5bed8"),
    ],
)
def test_what_the_short_way_stands_in_for_is_as_it_was_read(
    method: Callable[..., Any], digest: str
) -> None:
    """`agent/ssh/fast_path.py` does what these do; where one has changed, compare the two again."""
    assert hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:12] == digest


def test_every_close_passes_the_one_method_that_we_watch() -> None:
    """Only `_force_close` lets go of the transport, so only there must the cause be known."""
    tree = ast.parse(inspect.getsource(SSHConnection) + inspect.getsource(SSHServerConnection))
    letting_go = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "self._transport"
        and ast.unparse(node.value) == "None"
    }
    assert letting_go == {"_force_close"}


def test_messages_are_dispatched_by_the_table_that_we_replace() -> None:
    assert "_packet_handlers" in inspect.getsource(SSHConnection.process_packet)
    ours = SshConnection._packet_handlers
    stock = SSHServerConnection._packet_handlers
    changed = {number for number, handler in ours.items() if handler is not stock.get(number)}
    assert changed == {MSG_DISCONNECT, MSG_KEXINIT, MSG_USERAUTH_REQUEST}


def test_nothing_is_received_while_a_key_exchange_is_agreed_upon() -> None:
    """What a guess is worth is decided after asyncssh has decided otherwise, and before it matters."""
    assert inspect.iscoroutinefunction(SSHConnection._process_kexinit)
    source = inspect.getsource(SSHConnection._recv_packet)
    assert "self._recv_handler = lambda: False" in source
    assert "if self._ignore_first_kex:" in source


def test_global_requests_are_dispatched_by_name_and_an_unknown_cancel_is_a_key_error() -> None:
    source = inspect.getsource(SSHConnection._process_global_request)
    assert "'_global_request'\n" in source
    assert "getattr(self, name, None)" in source
    for cancel in (
        SSHServerConnection._process_cancel_tcpip_forward_global_request,
        SSHServerConnection._process_cancel_streamlocal_forward_at_openssh_dot_com_global_request,
    ):
        source = inspect.getsource(cancel)
        assert source.count("except KeyError:") == 1
        assert "self._local_listeners.pop(" in source


def test_channel_requests_are_dispatched_by_name() -> None:
    source = inspect.getsource(SSHChannel._service_next_request)
    assert "getattr(self, name, None)" in source
    assert SessionChannel._process_env_request is not SSHServerChannel._process_env_request


def test_a_channel_with_both_ends_of_data_still_says_so_in_these_words() -> None:
    assert "self._send_state = 'eof'\n" in inspect.getsource(SSHChannel._flush_send_buf)
    assert "self._recv_state = 'eof'\n" in inspect.getsource(SSHChannel._flush_recv_buf)


def test_a_full_transport_still_stops_nothing_in_stock_asyncssh() -> None:
    """The day this fails, our corks may go."""
    body = ast.parse(inspect.getsource(SSHConnection.pause_writing).strip()).body[0]
    assert isinstance(body, ast.FunctionDef)
    assert all(isinstance(line, ast.Expr) for line in body.body), "a docstring and nothing else"


def test_a_lost_connection_is_still_one_of_the_disconnect_errors() -> None:
    """`Connection.closing` tells them apart in this order."""
    assert issubclass(asyncssh.ConnectionLost, asyncssh.DisconnectError)
    for error in (
        asyncssh.ProtocolError,
        asyncssh.ProtocolNotSupported,
        asyncssh.MACError,
        asyncssh.KeyExchangeFailed,
        asyncssh.CompressionError,
        asyncssh.ServiceNotAvailable,
        asyncssh.IllegalUserName,
    ):
        assert issubclass(error, asyncssh.DisconnectError)
        assert not issubclass(error, asyncssh.ConnectionLost)
