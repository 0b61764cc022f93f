"""One SSH connection in one tunnel: who may in, and that every way to end leaves its one cause."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest
from structlog.testing import capture_logs

from tests.support.agent.agent_rig import AgentRig, agent_rig, line_of
from tests.support.clock import LoopClock
from tests.support.deadline import DEADLINE_S
from tether.agent.ssh.asyncssh_connection import CIPHERS, guessed_wrong
from tether.agent.ssh.auth import MAX_REFUSALS
from tether.agent.ssh.host_key import FURTHER
from tether.agent.ssh.sessions import MAX_SESSIONS
from tether.agent.tunnels.service import EndOrder
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import AccessRefusal, ConnectType, HandshakeStage, Party, Vantage
from tether.net.link.driver import HIGH_WATER
from tether.protocol.messages.derp import PeerGone, RelayGoodbye, encode_word
from tether.protocol.messages.reports import ReportItem
from tether.protocol.messages.tunnel import FurtherHostKey, LoginResult

Client = asyncssh.SSHClientConnection
needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH client")
STOPPED = ev.GoodbyeSaid(
    vantage=Vantage.AGENT,
    at=1.0,
    by=Party.SERVER,
    cause="workspace.stopped",
    actor="user:alice",
    detail="by hand",
)


def kinds(facts: tuple[Evidence, ...]) -> list[str]:
    return [fact.kind for fact in facts]


def refusals(facts: tuple[Evidence, ...]) -> list[AccessRefusal]:
    return [fact.why for fact in facts if isinstance(fact, ev.AccessRefused)]


def judged(facts: tuple[Evidence, ...]) -> str:
    return classify(ConnectType.AGENT_TO_CLIENT, facts).disconnect.cause


# -- who may in ----------------------------------------------------------------------------------


async def test_the_announced_key_opens_the_door(agent: AgentRig) -> None:
    async with await agent.connect():
        pass
    facts = (await agent.end()).cell.facts
    (fact,) = (f for f in facts if isinstance(f, ev.Authenticated))
    assert (fact.user, fact.method) == ("alice", "publickey")


async def test_a_certificate_opens_the_door_for_a_key_that_was_not_announced(
    agent: AgentRig,
) -> None:
    agent.announced = ""
    keys = agent.keys
    async with await agent.connect(client_keys=[(keys.device, keys.certificate())]) as client:
        assert (await client.run("echo in")).stdout == "in\n"
    facts = (await agent.end()).cell.facts
    (fact,) = (f for f in facts if isinstance(f, ev.Authenticated))
    assert (fact.user, fact.method) == ("alice", "certificate")


@needs_ssh
async def test_stock_ssh_brings_its_certificate(agent: AgentRig) -> None:
    agent.announced = ""
    certificate = agent.directory / "device-cert.pub"
    certificate.write_bytes(agent.keys.certificate().export_certificate())
    assert await agent.ssh("-oCertificateFile=" + str(certificate), "echo in") == (0, b"in\n", b"")


def other_authority(agent: AgentRig) -> asyncssh.SSHCertificate:
    return agent.keys.certificate(authority=asyncssh.generate_private_key("ssh-ed25519"))


@pytest.mark.parametrize(
    ("certificate", "why", "cause", "words"),
    [
        (
            lambda agent: agent.keys.certificate(valid_before="-1s", valid_after="-1h"),
            AccessRefusal.CERTIFICATE_EXPIRED,
            "auth.certificate_expired",
            "tether: this certificate has expired: connect again to get a fresh one",
        ),
        (
            lambda agent: agent.keys.certificate(valid_after="+1h", valid_before="+2h"),
            AccessRefusal.CERTIFICATE_NOT_YET_VALID,
            "auth.certificate_expired",
            "tether: this certificate is not valid yet",
        ),
        (
            lambda agent: agent.keys.certificate(principals=["ws-2"]),
            AccessRefusal.WRONG_WORKSPACE,
            "auth.certificate_refused",
            "tether: this certificate is for another workspace than dev",
        ),
        (
            lambda agent: agent.keys.certificate(key_id="user:mallory"),
            AccessRefusal.WRONG_USER,
            "auth.certificate_refused",
            "tether: this certificate is for another user than alice",
        ),
        (
            other_authority,
            AccessRefusal.UNKNOWN_KEY,
            "auth.key_refused",
            "tether: the server does not vouch for this key",
        ),
    ],
)
async def test_a_certificate_for_something_else_is_refused_with_its_reason(
    agent: AgentRig,
    certificate: Callable[[AgentRig], asyncssh.SSHCertificate],
    why: AccessRefusal,
    cause: str,
    words: str,
) -> None:
    agent.announced = ""
    banners: list[str] = []

    class Listener(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            banners.append(msg)

    with pytest.raises(asyncssh.PermissionDenied):
        await agent.connect(
            client_keys=[(agent.keys.device, certificate(agent))], client_factory=Listener
        )
    ends = await agent.end()
    assert refusals(ends.cell.facts)[0] is why
    assert "authenticated" not in kinds(ends.cell.facts)
    assert banners[0].startswith(words)
    assert judged(ends.cell.facts) == cause


@needs_ssh
async def test_a_strangers_key_is_refused_and_the_tether_beside_ssh_is_told_why(
    agent: AgentRig,
) -> None:
    agent.announced = line_of(asyncssh.generate_private_key("ssh-ed25519"))
    status, _, err = await agent.ssh("true")
    assert status == 255
    assert b"Permission denied (publickey)" in err
    (told,) = (m for m in agent.clients[-1].heard if isinstance(m, LoginResult))
    assert (told.accepted, told.sentence) == (
        False,
        "the server does not vouch for this key: connect through `tether ssh` or"
        " `tether config-ssh`",
    )
    assert await agent.cause() == "auth.key_refused"


@needs_ssh
async def test_there_are_no_passwords(agent: AgentRig) -> None:
    methods = "-oPreferredAuthentications=password,keyboard-interactive,hostbased"
    status, _, err = await agent.ssh(methods, "-oBatchMode=no", "true")
    assert (status, b"Permission denied (publickey)." in err) == (255, True)
    unfinished, left = (await agent.end()).cell.facts
    assert isinstance(unfinished, ev.HandshakeUnfinished)
    assert (unfinished.stage, unfinished.methods) == (HandshakeStage.LOGIN, "none")
    assert unfinished.client.startswith("OpenSSH_")
    assert judged((unfinished, left)) == "auth.never_authenticated"


@needs_ssh
async def test_an_unknown_host_key_is_told_apart_from_a_user_who_leaves(agent: AgentRig) -> None:
    (agent.directory / "known_hosts").write_text("")
    status, _, err = await agent.ssh("true")
    assert (status, b"Host key verification failed." in err) == (255, True)
    unfinished, left = (await agent.end()).cell.facts
    assert isinstance(unfinished, ev.HandshakeUnfinished)
    assert unfinished.stage is HandshakeStage.HOST_KEY
    assert judged((unfinished, left)) == "client.host_key_refused"


@needs_ssh
async def test_offers_with_nothing_in_common_have_one_cause_and_the_user_hears_both(
    agent: AgentRig,
) -> None:
    for _ in range(5):  # ssh has read our offer, and leaves by itself at the same time
        status, _, _ = await agent.ssh("-oCiphers=3des-cbc", "true")
        assert (status, await agent.cause()) == (255, "client.no_common_algorithm")
    (told,) = (m for m in agent.clients[-1].heard if isinstance(m, LoginResult))
    assert told.sentence == (
        "this SSH program and the workspace have no cipher in common: it offers 3des-cbc, the "
        f"workspace takes {','.join(CIPHERS)}"
    )


async def test_who_only_looks_at_host_keys_is_no_alarm(agent: AgentRig) -> None:
    options = {"client_version": "OpenSSH-keyscan", "server_host_key_algs": ["ssh-rsa"]}
    with pytest.raises(asyncssh.Error):
        await agent.connect(known_hosts=b"", **options)
    assert await agent.cause() == "client.closed"


async def test_a_user_name_is_not_asked_for(agent: AgentRig) -> None:
    for name in ("root", "nobody-at-all", "x" * 200):
        async with await agent.connect(username=name) as client:
            assert (await client.run("id -u")).stdout == f"{os.geteuid()}\n"


async def test_a_good_key_after_bad_ones_is_let_in_and_the_refusals_are_told_once(
    agent: AgentRig,
) -> None:
    strangers = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(3)]
    async with await agent.connect(client_keys=[*strangers, agent.keys.device]) as client:
        assert (await client.run("true")).exit_status == 0
    facts = (await agent.end()).cell.facts
    assert refusals(facts) == [AccessRefusal.UNKNOWN_KEY] * 3
    assert judged(facts) == "session.exit"


async def test_the_tunnel_is_told_how_the_login_went(agent: AgentRig) -> None:
    """So that a client's process can say it in its own words, whatever its ssh prints."""
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    async with await agent.connect(client_keys=[stranger, agent.keys.device]):
        pass
    heard = [m for m in agent.clients[0].heard if isinstance(m, LoginResult)]
    refused, accepted = heard
    assert (refused.accepted, accepted) == (False, LoginResult(accepted=True))
    assert refused.sentence.startswith("the server does not vouch for this key")


# -- clients without ed25519 -----------------------------------------------------------------------


@needs_ssh
@pytest.mark.parametrize("algorithm", [name.decode() for name in FURTHER])
async def test_a_further_host_key_is_told_of_before_ssh_sees_it(
    agent: AgentRig, algorithm: str
) -> None:
    """As the client's tether does, its frame is read and pinned before what follows it."""
    known_hosts = agent.directory / "known_hosts"

    def pin(key: str) -> None:
        known_hosts.write_text(f"[127.0.0.1]:{agent.port} {key}\n")

    agent.on_host_key = pin
    assert await agent.ssh(f"-oHostKeyAlgorithms={algorithm}", "echo in") == (0, b"in\n", b"")
    (key,) = (m.public_key for m in agent.clients[-1].heard if isinstance(m, FurtherHostKey))
    assert key == (await agent.keys.host.further(algorithm.encode())).public_line


async def test_a_client_that_knows_the_agents_own_key_is_told_of_no_other(agent: AgentRig) -> None:
    async with await agent.connect():
        pass
    assert [m for m in agent.clients[0].heard if isinstance(m, FurtherHostKey)] == []


@pytest.mark.parametrize("kind", ["ecdsa-sha2-nistp256", "ssh-rsa"])
async def test_a_further_key_of_the_device_opens_the_door(agent: AgentRig, kind: str) -> None:
    key = asyncssh.generate_private_key(kind)
    agent.further = [line_of(key)]
    async with await agent.connect(client_keys=[key]) as client:
        assert (await client.run("echo in")).stdout == "in\n"


async def test_a_signature_with_sha1_does_not(agent: AgentRig) -> None:
    key = asyncssh.generate_private_key("ssh-rsa")
    agent.further = [line_of(key)]
    (pair,) = asyncssh.load_keypairs([key])
    pair.sig_algorithms = (b"ssh-rsa",)
    with pytest.raises(asyncssh.PermissionDenied):
        await agent.connect(client_keys=[pair], signature_algs=["ssh-rsa"])


async def test_too_many_refusals_end_the_connection(agent: AgentRig) -> None:
    strangers = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(MAX_REFUSALS + 2)]
    with pytest.raises(asyncssh.ConnectionLost):
        await agent.connect(client_keys=[*strangers, agent.keys.device])
    facts = (await agent.end()).cell.facts
    assert kinds(facts) == ["access_refused"] * MAX_REFUSALS
    assert judged(facts) == "auth.key_refused"


async def test_a_good_key_with_another_keys_signature_is_refused(agent: AgentRig) -> None:
    """What somebody can do who has only seen the public key."""
    thief = asyncssh.generate_private_key("ssh-ed25519")

    class Stolen(asyncssh.SSHKeyPair):
        def __init__(self, public: bytes) -> None:
            super().__init__(b"ssh-ed25519", b"ssh-ed25519", (b"ssh-ed25519",), (), public, b"")

        def sign(self, data: bytes) -> bytes:
            return thief.sign(data, b"ssh-ed25519")

    with pytest.raises(asyncssh.PermissionDenied):
        await agent.connect(client_keys=[Stolen(agent.keys.device.public_data)])
    facts = (await agent.end()).cell.facts
    assert refusals(facts) == [AccessRefusal.UNKNOWN_KEY]


def kexinit(kex: str, host_keys: str, *, follows: bool) -> bytes:
    lists = [kex, host_keys, *["aes256-ctr"] * 2, *["hmac-sha2-256"] * 2, *["none"] * 2, "", ""]
    packed = b"".join(len(names).to_bytes(4, "big") + names.encode() for names in lists)
    return bytes(16) + packed + bytes([follows]) + bytes(4)


@pytest.mark.parametrize(
    ("kex", "host_keys", "follows", "wrong"),
    [
        ("best,other", "ed25519", True, False),
        ("other,best", "ed25519", True, True),
        ("best", "rsa,ed25519", True, True),
        ("other,best", "rsa", False, False),
    ],
)
def test_a_guessed_key_exchange_is_good_where_both_sides_prefer_it(
    kex: str, host_keys: str, follows: bool, wrong: bool
) -> None:
    ours = kexinit("best,other", "ed25519,rsa", follows=False)
    assert guessed_wrong(ours, kexinit(kex, host_keys, follows=follows)) is wrong


async def test_only_fast_ciphers_are_offered(agent: AgentRig) -> None:
    with pytest.raises(asyncssh.KeyExchangeFailed):
        await agent.connect(encryption_algs=["chacha20-poly1305@openssh.com"])
    async with await agent.connect() as client:
        assert client.get_extra_info("send_cipher") in (
            "aes128-gcm@openssh.com",
            "aes256-gcm@openssh.com",
        )


# -- ends that the client brings about -----------------------------------------------------------


async def test_a_command_that_ended_then_a_disconnect_is_an_exit(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        await client.run("exit 3")
    end = await agent.end()
    assert kinds(end.cell.facts) == ["authenticated", "session_ended", "ssh_disconnected"]
    assert judged(end.cell.facts) == "session.exit"
    said = end.cell.facts[-1]
    assert isinstance(said, ev.SshDisconnected)
    assert (said.by, said.code, said.open_sessions) == (Party.CLIENT, 11, 0)
    assert end.rx_bytes > 1000
    assert end.tx_bytes > 1000


async def test_the_clients_side_of_the_tunnel_hears_the_cause(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        await client.run("exit 3")
    assert (await agent.clients[0].goodbye()).cause == "session.exit"


async def test_a_command_that_was_killed_then_a_disconnect_is_a_signal(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        await client.run("kill -9 $$")
    assert await agent.cause() == "session.signal"


async def test_a_disconnect_with_a_session_open_is_the_clients_doing(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        process = await client.create_process("echo ready; cat")
        await process.stdout.readline()
    end = await agent.end()
    said = end.cell.facts[-1]
    assert isinstance(said, ev.SshDisconnected)
    assert (said.code, said.open_sessions) == (11, 1)
    assert judged(end.cell.facts) == "client.closed"


async def test_a_disconnect_of_a_connection_without_sessions_is_the_clients_doing(
    agent: AgentRig,
) -> None:
    async with await agent.connect():
        pass
    assert await agent.cause() == "client.closed"


async def test_a_disconnect_with_an_error_code_is_the_clients_error(agent: AgentRig) -> None:
    client = await agent.connect()
    client.disconnect(asyncssh.DISC_MAC_ERROR, "your packet is corrupt")
    end = await agent.end()
    said = end.cell.facts[-1]
    assert isinstance(said, ev.SshDisconnected)
    assert (said.code, said.text) == (5, "your packet is corrupt")
    assert judged(end.cell.facts) == "client.protocol_error"


async def test_an_ssh_that_is_killed_leaves_its_sessions(agent: AgentRig) -> None:
    client = await agent.connect(client_version="OpenSSH_9.2p1")
    process = await client.create_process("echo ready; cat")
    await process.stdout.readline()
    client.abort()
    end = await agent.end()
    assert kinds(end.cell.facts) == ["authenticated", "local_side_closed"]
    assert judged(end.cell.facts) == "client.ssh_killed"


async def test_a_client_of_which_nothing_tells_a_crash_has_closed(agent: AgentRig) -> None:
    client = await agent.connect(client_version="paramiko_5.1.0")
    process = await client.create_process("echo ready; cat")
    await process.stdout.readline()
    client.abort()
    assert await agent.cause() == "client.closed"


# -- ends that the path brings about ---------------------------------------------------------------


async def test_a_relay_that_dies_ends_the_sessions_if_the_client_comes_by_no_other(
    agent: AgentRig, client: Client
) -> None:
    process = await client.create_process("cat", term_type="xterm")
    agent.cables[0].reset()
    end = await agent.end()
    assert kinds(end.cell.facts)[-2:] == ["carrier_ended", "never_returned"]
    assert judged(end.cell.facts) == "client.unreachable"
    assert agent.records[-1].ended_at is not None
    await process.wait_closed()


async def test_what_the_relay_saw_of_the_client_is_the_cause(
    agent: AgentRig, client: Client
) -> None:
    end_of_relay = agent.clients[0].cable_end
    await end_of_relay.send(encode_word(PeerGone(how="reset", errno="ECONNRESET")))
    end = await agent.end()
    assert judged(end.cell.facts) == "client.vanished"


async def test_a_relays_goodbye_is_the_cause(agent: AgentRig, client: Client) -> None:
    word = RelayGoodbye(cause="server.shutdown", actor="signal:15 from pid 1 uid 0")
    await agent.clients[0].cable_end.send(encode_word(word))
    end = await agent.end()
    assert judged(end.cell.facts) == "server.shutdown"


@pytest.mark.virtual_time(grace=0.05)
async def test_a_client_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async with agent_rig(tmp_path, clock=LoopClock(), login_timeout_s=30.0) as agent:
        client = agent.tunnel()
        end = await agent.ends.get()
        stage, fact = end.cell.facts
        assert stage == ev.HandshakeUnfinished(
            vantage=Vantage.AGENT, at=stage.at, stage=HandshakeStage.NOTHING
        )
        assert fact == ev.HandshakeTimedOut(
            vantage=Vantage.AGENT, at=fact.at, by=Party.CLIENT, after_s=30.0
        )
        assert judged(end.cell.facts) == "client.handshake_timeout"
        assert (await client.goodbye()).cause == "client.handshake_timeout"
        assert 30.0 <= end.ended_at.mono - end.connected_at.mono < 31.0


# -- ends that the agent brings about --------------------------------------------------------------


def end_all(agent: AgentRig, *, only: list[str] | None = None) -> None:
    agent.server.end(only, EndOrder(STOPPED, "tether: the workspace is being stopped by alice"))


async def test_a_declared_end_is_offered_first_and_heard_everywhere(
    agent: AgentRig, client: Client
) -> None:
    process = await client.create_process("echo ready; cat", term_type="xterm")
    await process.stdout.readline()
    end_all(agent)
    end = await agent.end()
    assert [f for f in end.cell.facts if not isinstance(f, ev.Authenticated)] == [STOPPED]
    shown = await process.stdout.read()
    assert "tether: the workspace is being stopped by alice" in str(shown)
    goodbye = await agent.clients[0].goodbye()
    assert (goodbye.cause, goodbye.actor, goodbye.detail) == (
        "workspace.stopped",
        "user:alice",
        "by hand",
    )


@needs_ssh
async def test_stock_ssh_is_left_without_a_status_and_without_a_second_reason(
    agent: AgentRig,
) -> None:
    """The words come from the tether process that it runs over; ssh would add a cryptic line."""
    process = await agent.start(*agent.ssh_argv("127.0.0.1", "echo ready; sleep 60"))
    assert process.stdout is not None
    await process.stdout.readline()
    end_all(agent)
    _, err = await process.communicate()
    assert process.returncode == 255
    assert err in (b"", b"Connection to 127.0.0.1 closed by remote host.\r\n")


async def test_who_is_being_left_cannot_start_anything_more(
    agent: AgentRig, client: Client
) -> None:
    end_all(agent)
    with pytest.raises((asyncssh.Error, OSError)):
        await client.run("touch too-late", check=True)
    await agent.end()
    assert not (agent.directory / "home" / "too-late").exists()
    assert agent.records == []


async def test_commands_without_a_terminal_are_shown_nothing(
    agent: AgentRig, client: Client
) -> None:
    process = await client.create_process("echo ready; cat")
    await process.stdout.readline()
    end_all(agent)
    assert await process.stdout.read() == ""


async def test_only_the_named_connections_are_ended(agent: AgentRig) -> None:
    first, second = await agent.connect(), await agent.connect()
    ids = list(agent.server.live)
    assert [agent.server.live[i].offer.user for i in ids] == ["alice", "alice"]
    end_all(agent, only=[ids[0], "unknown"])
    assert (await agent.end()).connection_id == ids[0]
    assert list(agent.server.live) == [ids[1]]
    assert (await second.run("echo here")).stdout == "here\n"
    await first.wait_closed()
    second.close()


async def test_a_later_shutdown_is_a_symptom(agent: AgentRig) -> None:
    client = await agent.connect()
    await client.run("exit 3")
    client.close()
    connection = next(iter(agent.server.live.values()))
    while not connection.cell.ended:
        await asyncio.sleep(0)
    end_all(agent)
    end = await agent.end()
    assert STOPPED in end.cell.symptoms
    assert judged(end.cell.facts) == "session.exit"


async def test_a_bug_of_ours_is_our_failure(tmp_path: Path) -> None:
    def broken(item: ReportItem) -> None:
        raise KeyError("journal")

    async with agent_rig(tmp_path) as agent:
        agent.server._on_item = broken
        client = await agent.connect()
        done = await client.run("true")
        assert done.exit_status is None
        end = await agent.end()
        (fact,) = (f for f in end.cell.facts if isinstance(f, ev.InternalFailure))
        assert fact.what == "KeyError: 'journal'"
        assert judged(end.cell.facts) == "agent.internal_error"
        assert (await agent.clients[0].goodbye()).cause == "agent.internal_error"


async def test_a_cancellation_without_a_cause_is_our_failure(agent: AgentRig) -> None:
    client = await agent.connect()
    process = await client.create_process("cat")
    serve = next(t for t in agent.tasks._running if t.get_name() == "rig/serve")
    connection = next(iter(agent.server.live.values()))
    serve.cancel()
    await process.wait_closed()
    with pytest.raises(asyncio.CancelledError):
        await serve
    assert judged(connection.cell.facts) == "agent.internal_error"
    assert agent.server.live == {}
    client.abort()


async def test_each_end_is_logged_once_with_the_contracts_fields(agent: AgentRig) -> None:
    with capture_logs() as lines:
        async with await agent.connect() as client:
            await client.run("exit 3")
        end = await agent.end()
    (line,) = (line for line in lines if "disconnect_reason" in line)
    assert line == {
        "event": "ssh connection closed",
        "log_level": "info",
        "component": "ssh",
        "connect_type": "agent_to_client",
        "disconnect_reason": "graceful",
        "disconnect_expected": True,
        "disconnect_initiator": "client",
        "disconnect_detail": line["disconnect_detail"],
        "disconnect_cause": "session.exit",
        "disconnect_basis": "observed",
        "disconnect_actor": "",
        "exit_code": 3,
        "connection_id": end.connection_id,
        "connection_method": "derp",
        "duration_s": line["duration_s"],
        "rx_bytes": end.rx_bytes,
        "tx_bytes": end.tx_bytes,
        "user": "alice",
        "client_ip": "192.0.2.7",
        "client_session_id": "",
    }


async def test_closing_ends_what_sessions_left_running(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        done = await client.run("sleep 60 >/dev/null 2>&1 </dev/null & disown; echo $!")
        process = await client.create_process("echo $$; trap '' PIPE; exec sleep 60")
        pid = int(await process.stdout.readline())
    await agent.end()
    await agent.server.close(timeout=DEADLINE_S)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert len(agent.server._processes) == 0
    os.kill(int(str(done.stdout)), 9)  # it left its group's leader; as with OpenSSH it lives on


async def test_after_closing_no_tunnel_is_served(agent: AgentRig) -> None:
    await agent.server.close(timeout=DEADLINE_S)
    client = agent.tunnel()
    assert (await client.goodbye()).cause == "agent.shutdown"
    assert await agent.cause() == "agent.shutdown"


# -- many things at once ----------------------------------------------------------------------------


async def test_sessions_are_limited_and_the_limit_is_told(agent: AgentRig, client: Client) -> None:
    many = [await client.create_process("cat") for _ in range(MAX_SESSIONS)]
    with pytest.raises(asyncssh.ChannelOpenError, match="has 64 sessions already"):
        await client.create_process("cat")
    many[0].stdin.write_eof()
    await many[0].wait()
    assert (await client.run("echo again")).stdout == "again\n"


@needs_ssh
async def test_a_shared_connection_of_stock_ssh_carries_several_sessions(agent: AgentRig) -> None:
    control = f"-oControlPath={agent.directory}/control"
    master = await agent.start(
        *agent.ssh_argv(control, "-oControlMaster=yes", "127.0.0.1", "echo up; cat"),
        stdin=asyncio.subprocess.PIPE,
    )
    assert master.stdout is not None
    await master.stdout.readline()
    codes = await asyncio.gather(*(agent.ssh(control, f"exit {code}") for code in (1, 2, 3)))
    assert [code for code, _, _ in codes] == [1, 2, 3]
    await master.communicate(b"")
    facts = (await agent.end()).cell.facts
    assert sorted(f.exit_code or 0 for f in facts if isinstance(f, ev.SessionEnded)) == [0, 1, 2, 3]
    assert [f.open_sessions for f in facts if isinstance(f, ev.SessionEnded)][-1] == 0


async def test_a_client_that_does_not_read_fills_no_memory(agent: AgentRig) -> None:
    """Windows are per channel (2 MiB); what waits in the tunnel is bounded for all together."""
    async with await agent.connect() as client:
        cable, far = agent.cables[0], agent.clients[0].cable_end
        processes = [
            await client.create_process("head -c 3000000 /dev/zero", encoding=None)
            for _ in range(8)
        ]
        cable.go_silent(towards=far)
        connection = next(iter(agent.server.live.values()))
        while not connection._ssh.corked:
            await asyncio.sleep(0)
        for _ in range(300):
            await asyncio.sleep(0)
        assert connection.tunnel.queued < HIGH_WATER + (1 << 20)
        cable.heal()
        sizes = [len((await process.wait()).stdout or b"") for process in processes]
    assert sizes == [3_000_000] * 8


async def test_a_connection_leaves_nothing_behind(agent: AgentRig) -> None:
    def left() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())

    async def come_and_go() -> None:
        async with await agent.connect() as client:
            await client.run("true")
            await client.run("true", term_type="xterm")
            await client.create_process("cat", term_type="xterm")
            await client.create_process("cat")
        await agent.end()

    await come_and_go()
    while len(agent.server._processes) or len(agent.tasks):
        await asyncio.sleep(0)
    before = left()
    for _ in range(5):
        await come_and_go()
    async with asyncio.timeout(DEADLINE_S):
        while left() > before:
            await asyncio.sleep(0)
