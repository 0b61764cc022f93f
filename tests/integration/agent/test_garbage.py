"""Whatever bytes a client sends, the fault is never ours and never nobody's."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support.agent.agent_rig import AgentRig
from tests.support.net.cable import Cable
from tests.support.net.tunnels import relayed
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType, Party
from tether.net.transport.streams import StreamLost

ROUNDS = 150


def kinds(facts: tuple[Evidence, ...]) -> list[str]:
    return [fact.kind for fact in facts]


def judged(facts: tuple[Evidence, ...]) -> str:
    return classify(ConnectType.AGENT_TO_CLIENT, facts).disconnect.cause


@pytest.mark.parametrize(
    ("garbage", "what"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "Unsupported SSH version"),
        (b"SSH-1.5-old\r\n", "Unsupported SSH version"),
        (b"x" * 9000, "Banner line too long"),
        (b"SSH-2.0-\xff\xfe\r\n", "bytes that are no text"),
        (b"SSH-2.0-x\r\n\xff\xff\xff\xff" + b"x" * 60, "Max packet size exceeded"),
    ],
)
async def test_garbage_instead_of_ssh_is_the_clients_fault(
    agent: AgentRig, garbage: bytes, what: str
) -> None:
    client = agent.tunnel()
    client.tunnel.write(garbage)
    end = await agent.end()
    *more, fact = end.cell.facts
    assert kinds(tuple(more)) == ["handshake_unfinished"]
    assert isinstance(fact, ev.ProtocolViolated)
    assert (fact.by, what in fact.what) == (Party.CLIENT, True)
    assert judged(end.cell.facts) == "client.protocol_error"
    assert (await client.goodbye()).cause == "client.protocol_error"


async def test_a_packet_that_was_tampered_with_is_the_clients_fault(agent: AgentRig) -> None:
    async with await agent.connect():
        agent.clients[0].tunnel.write(os.urandom(4096))
        end = await agent.end()
    assert kinds(end.cell.facts) == ["authenticated", "protocol_violated"]
    assert judged(end.cell.facts) == "client.protocol_error"


async def test_a_tunnel_frame_that_is_none_is_the_clients_fault(agent: AgentRig) -> None:
    client = agent.tunnel()
    await client.stream.send(b"\x07what is this")
    assert await agent.cause() == "client.protocol_error"


async def test_a_frame_that_the_client_did_not_send_is_no_fault_of_the_client(
    agent: AgentRig,
) -> None:
    client = agent.tunnel()
    await client.until(lambda: bool(client.data))
    await client.cable_end.send(b"\x07what is this")
    end = await agent.end()  # by and by: nobody brings another carrier
    assert kinds(end.cell.facts) == ["carrier_ended", "handshake_unfinished", "protocol_violated"]
    violated = end.cell.facts[-1]
    assert isinstance(violated, ev.ProtocolViolated) and violated.by is Party.RELAY


async def test_garbage_before_an_attach_ends_its_carrier_only(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        cable = Cable(delay=0.0)
        agent.served[0].add(relayed(2, cable.left))
        await cable.right.send(b"\x07what is this")
        with pytest.raises(StreamLost):
            await cable.right.recv()
        assert (await client.run("echo still here")).stdout == "still here\n"


# -- nearly right: what a client really sends, with a few bytes changed -----------------------------


def packets_of(stream: bytes) -> tuple[bytes, list[bytes]]:
    """The version line and the payloads of what is sent before encryption begins."""
    end = stream.index(b"\n") + 1
    line, rest, payloads = stream[:end], stream[end:], list[bytes]()
    while len(payloads) < 2:
        length, padding = int.from_bytes(rest[:4], "big"), rest[4]
        payloads.append(rest[5 : 4 + length - padding])
        rest = rest[4 + length :]
    return line, payloads


def packet_of(payload: bytes) -> bytes:
    padding = 16 - (5 + len(payload)) % 8
    return (
        (1 + len(payload) + padding).to_bytes(4, "big")
        + bytes([padding])
        + payload
        + bytes(padding)
    )


def spoilt(data: bytes, chance: random.Random) -> bytes:
    spoiling = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(spoiling)) if spoiling else 0
        match chance.randrange(4):
            case 0:
                del spoiling[at : at + chance.randint(1, 30)]
            case 1:
                spoiling[at:at] = chance.randbytes(chance.randint(1, 30))
            case 2:
                spoiling[at : at + 4] = chance.choice([b"\0\0\0\0", b"\xff\xff\xff\xff"])
            case _:
                spoiling[at : at + 1] = chance.randbytes(1)
    return bytes(spoiling)


async def a_login(agent: AgentRig) -> bytes:
    """What a real client sends."""
    async with await agent.connect():
        pass
    await agent.end()
    return bytes(agent.clients[-1].sent)


@pytest.mark.parametrize("seed", range(3))
async def test_a_spoilt_login_is_the_clients_fault(agent: AgentRig, seed: int) -> None:
    chance = random.Random(seed)
    line, payloads = packets_of(await a_login(agent))
    for _ in range(ROUNDS):
        which = chance.randrange(2)
        sent = [*payloads[:which], spoilt(payloads[which], chance), *payloads[which + 1 :]]
        client = agent.tunnel()
        client.tunnel.write(line + b"".join(map(packet_of, sent)) + chance.randbytes(500))
        client.vanish_politely()
        end = await agent.end()
        assert judged(end.cell.facts) in (
            "client.protocol_error",
            "client.no_common_algorithm",
            "client.closed",
        )


@pytest.mark.parametrize("seed", range(3))
async def test_a_spoilt_request_is_the_clients_fault(
    agent: AgentRig, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the login, by a client that may do everything anyway: asyncssh sends what it is told."""
    monkeypatch.chdir(tmp_path)  # where a spoilt path is one that can be bound
    chance = random.Random(seed)
    socket = os.fsencode(tmp_path / "s")
    requests = [
        (80, b"\0\0\0\x0dtcpip-forward\x01\0\0\0\x09127.0.0.1\0\0\0\0"),
        (
            80,
            b"\0\0\0\x1fstreamlocal-forward@openssh.com\x01"
            + len(socket).to_bytes(4, "big")
            + socket,
        ),
        (90, b"\0\0\0\x07session\0\0\0\x63\0\x20\0\0\0\0\x80\0"),
        (
            90,
            b"\0\0\0\x0cdirect-tcpip\0\0\0\x64\0\x20\0\0\0\0\x80\0"
            b"\0\0\0\x09127.0.0.1\0\0\0\x01\0\0\0\0\0\0\0\0",
        ),
        (
            98,
            b"\0\0\0\0\0\0\0\x07pty-req\x01\0\0\0\x05xterm\0\0\0\x50\0\0\0\x18"
            b"\0\0\0\0\0\0\0\0\0\0\0\x06\x01\0\0\0\x03\0",
        ),
        (98, b"\0\0\0\0\0\0\0\x03env\0\0\0\0\x01A\0\0\0\x01B"),
        (98, b"\0\0\0\0\0\0\0\x06signal\0\0\0\0\x03HUP"),
        (94, b"\0\0\0\0\0\0\0\x05hello"),
    ]
    for _ in range(ROUNDS // 5):
        client = await agent.connect()
        await client.create_process("cat", term_type=chance.choice([None, "xterm"]))
        for _ in range(chance.randint(1, 6)):
            number, body = chance.choice(requests)
            client.send_packet(number, body[:4] + spoilt(body[4:], chance))
        client.close()
        end = await agent.end()
        assert judged(end.cell.facts) in (
            "client.protocol_error",
            "client.no_common_algorithm",
            "client.closed",
        )
