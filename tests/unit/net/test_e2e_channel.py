"""Claims about sealed channels: who may speak, and what a party in the middle can do."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, strategies as st

from tests.support.net.page_channel import ClientChannel
from tether.net.e2e_channel import (
    MAX_RECORD,
    AgentChannel,
    SealedChannel,
    public_line,
    read_public_line,
)
from tether.protocol.messages.base import Garbage

HOST_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DEVICE_KEY = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def ends(
    *,
    announced: X25519PrivateKey = DEVICE_KEY,
    agent_id: str = "c",
    pinned: Ed25519PrivateKey = HOST_KEY,
) -> tuple[ClientChannel, AgentChannel]:
    key = read_public_line(public_line(announced.public_key()))
    return ClientChannel("c", DEVICE_KEY, pinned.public_key()), AgentChannel(
        agent_id, key, HOST_KEY
    )


def opened() -> tuple[ClientChannel, AgentChannel]:
    client, agent = ends()
    _, answer = agent.receive(client.greeting())
    assert client.receive(answer) == (b"", b"")
    return client, agent


def test_both_ends_are_open_after_one_round_trip() -> None:
    client, agent = ends()
    assert (client.open, agent.open) == (False, False)
    client, agent = opened()
    assert (client.open, agent.open) == (True, True)


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 64), st.booleans())
def test_what_is_sealed_arrives_whole_however_it_is_cut(
    writes: list[bytes], cut: int, from_client: bool
) -> None:
    client, agent = opened()
    sender: SealedChannel = client if from_client else agent
    receiver: SealedChannel = agent if from_client else client
    wire = b"".join(sender.seal(data) for data in writes)
    got = b"".join(
        receiver.receive(wire[start : start + cut])[0] for start in range(0, len(wire), cut)
    )
    assert got == b"".join(writes)


def test_a_long_write_is_several_records() -> None:
    client, agent = opened()
    data = bytes(3 * MAX_RECORD + 1)
    assert agent.receive(client.seal(data)) == (data, b"")


def test_a_key_that_was_not_announced_is_refused() -> None:
    client, agent = ends(announced=X25519PrivateKey.generate())
    with pytest.raises(Garbage, match="not announced"):
        agent.receive(client.greeting())


def test_an_agent_without_the_pinned_host_key_is_refused() -> None:
    client, agent = ends(pinned=Ed25519PrivateKey.generate())
    _, answer = agent.receive(client.greeting())
    with pytest.raises(Garbage, match="host key has not signed"):
        client.receive(answer)
    assert not client.open


def test_an_answer_for_another_connection_is_refused() -> None:
    client, agent = ends(agent_id="other")
    _, answer = agent.receive(client.greeting())
    with pytest.raises(Garbage, match="host key has not signed"):
        client.receive(answer)


def test_an_answer_of_another_length_is_no_agents() -> None:
    client, _ = ends()
    with pytest.raises(Garbage, match="no agent's"):
        client.receive(b"\0\0\0\x03abc")


def test_a_key_of_small_order_is_refused() -> None:
    agent = AgentChannel("c", bytes(32), HOST_KEY)
    with pytest.raises(Garbage, match="no honest end"):
        agent.receive(b"\0\0\0\x20" + bytes(32))


@pytest.mark.parametrize("tamper", ["flip", "replay", "swap", "drop"])
def test_a_relay_can_neither_change_replay_reorder_nor_drop(tamper: str) -> None:
    client, agent = opened()
    first, second = client.seal(b"one"), client.seal(b"two")
    wire = {
        "flip": first[:-1] + bytes([first[-1] ^ 1]),
        "replay": first + first,
        "swap": second + first,
        "drop": second,
    }[tamper]
    with pytest.raises(Garbage, match="not sealed by the other end"):
        agent.receive(wire)


def test_a_broken_channel_stays_broken() -> None:
    client, agent = opened()
    with pytest.raises(Garbage):
        agent.receive(b"\0\0\0\x10" + bytes(16))
    with pytest.raises(Garbage, match="broken"):
        agent.receive(client.seal(b"late"))


def test_an_oversized_record_is_refused_before_it_is_read() -> None:
    _, agent = opened()
    with pytest.raises(Garbage, match="a sealed record of 4294967295 bytes"):
        agent.receive(b"\xff\xff\xff\xff")


def test_nothing_of_the_plaintext_is_on_the_wire() -> None:
    client, _ = opened()
    assert b"secret" not in client.seal(b"secret" * 100)


@pytest.mark.parametrize(
    "line", ["", "x25519 ", "x25519 AAAA", "ssh-ed25519 AAAA", "x25519 ===", "x25519 é"]
)
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"not a channel's key|ASCII"):
        read_public_line(line)
