"""Relay tickets: good once, for one leg, for a minute, and for nobody who made them up."""

from __future__ import annotations

import base64
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.clock import HandClock
from tether.attribution.vocabulary import Party
from tether.net.derp import tickets as minting
from tether.net.derp.tickets import TICKET_LIFE_S, Ticket, TicketGate, TicketRefused
from tether.protocol.derp.pairing import CarrierId

KEY = Ed25519PrivateKey.generate()
REGION = "here"


class Tickets(TicketGate):
    """A relay that takes what its server mints."""

    def __init__(self, key: Ed25519PrivateKey, clock: HandClock, **more: int) -> None:
        super().__init__(REGION, clock, [key.public_key()], **more)
        self._minting = minting.Tickets(key, clock)

    def mint(self, connection_id: str, leg: Party, number: int = 1, region: str = REGION) -> str:
        return self._minting.mint(CarrierId(connection_id, number), leg, region)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def tickets(clock: HandClock) -> Tickets:
    return Tickets(KEY, clock)


def refusal(tickets: Tickets, token: str) -> str:
    with pytest.raises(TicketRefused) as refused:
        tickets.redeem(token)
    assert str(refused.value)
    return refused.value.code


def forge(clock: HandClock, key: Ed25519PrivateKey = KEY, **changes: Any) -> str:
    now = clock.now().wall
    claims = {
        "aud": "relay",
        "cid": "c1",
        "car": 1,
        "leg": "client",
        "reg": REGION,
        "jti": "j1",
        "iat": now,
        "exp": now + 60,
    }
    claims |= changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm="EdDSA")


@pytest.mark.parametrize("leg", [Party.CLIENT, Party.AGENT])
def test_a_ticket_says_which_leg_of_which_connection(tickets: Tickets, leg: Party) -> None:
    assert tickets.redeem(tickets.mint("c1", leg)) == Ticket("c1", leg)


def test_a_ticket_says_which_carrier(tickets: Tickets) -> None:
    ticket = tickets.redeem(tickets.mint("c1", Party.AGENT, number=7))
    assert (ticket, ticket.carrier_id) == (Ticket("c1", Party.AGENT, 7), CarrierId("c1", 7))


def test_a_ticket_is_good_at_one_region(tickets: Tickets) -> None:
    elsewhere = tickets.mint("c1", Party.CLIENT, region="elsewhere")
    assert refusal(tickets, elsewhere) == "ticket_invalid"


def test_a_relay_that_was_told_no_key_yet_asks_to_try_again(clock: HandClock) -> None:
    token = Tickets(KEY, clock).mint("c1", Party.CLIENT)
    with pytest.raises(TicketRefused) as refused:
        TicketGate(REGION, clock).redeem(token)
    assert refused.value.code == "relay_busy"


def test_either_of_two_keys_signs_good_tickets(clock: HandClock) -> None:
    other = Ed25519PrivateKey.generate()
    gate = TicketGate(REGION, clock, [other.public_key(), KEY.public_key()])
    for key in (KEY, other):
        carrier = CarrierId("c1", 2)
        token = minting.Tickets(key, clock).mint(carrier, Party.CLIENT, REGION)
        assert gate.redeem(token) == Ticket("c1", Party.CLIENT, 2)


def test_the_keys_that_a_relay_is_told_are_the_ones_that_sign(clock: HandClock) -> None:
    (told,) = minting.Tickets(KEY, clock).public_keys
    assert base64.b64decode(told) == KEY.public_key().public_bytes_raw()


def test_a_ticket_is_good_once(tickets: Tickets) -> None:
    token = tickets.mint("c1", Party.CLIENT)
    tickets.redeem(token)
    assert refusal(tickets, token) == "ticket_spent"


def test_two_tickets_for_one_leg_are_two_tickets(tickets: Tickets) -> None:
    first, second = tickets.mint("c1", Party.CLIENT), tickets.mint("c1", Party.CLIENT)
    assert [tickets.redeem(first), tickets.redeem(second)] == [Ticket("c1", Party.CLIENT)] * 2


def test_a_ticket_lives_for_a_minute(tickets: Tickets, clock: HandClock) -> None:
    early, late = tickets.mint("c1", Party.CLIENT), tickets.mint("c1", Party.AGENT)
    clock.mono = TICKET_LIFE_S - 0.001
    tickets.redeem(early)
    clock.mono = TICKET_LIFE_S
    assert refusal(tickets, late) == "ticket_expired"


def test_a_spent_ticket_stays_spent_until_it_expires(tickets: Tickets, clock: HandClock) -> None:
    token = tickets.mint("c1", Party.CLIENT)
    tickets.redeem(token)
    clock.mono = TICKET_LIFE_S - 0.001
    assert refusal(tickets, token) == "ticket_spent"
    clock.mono = TICKET_LIFE_S + 1
    assert refusal(tickets, token) == "ticket_expired"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "somewhere"},
        {"aud": None},
        {"leg": "server"},
        {"leg": "middle"},
        {"leg": None},
        {"car": None},
        {"car": 0},
        {"car": 1 << 31},
        {"car": "first"},
        {"reg": None},
        {"reg": "elsewhere"},
        {"cid": None},
        {"jti": None},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
    ],
    ids=str,
)
def test_a_ticket_that_says_something_else_is_refused(
    tickets: Tickets, clock: HandClock, changes: dict[str, Any]
) -> None:
    assert refusal(tickets, forge(clock, **changes)) == "ticket_invalid"


def test_only_this_servers_key_makes_tickets(tickets: Tickets, clock: HandClock) -> None:
    assert refusal(tickets, forge(clock, Ed25519PrivateKey.generate())) == "ticket_invalid"
    assert tickets.redeem(forge(clock)) == Ticket("c1", Party.CLIENT)


def test_an_unsigned_ticket_is_refused(tickets: Tickets, clock: HandClock) -> None:
    claims = jwt.decode(forge(clock), options={"verify_signature": False})
    assert refusal(tickets, jwt.encode(claims, "", algorithm="none")) == "ticket_invalid"


def test_a_ticket_that_was_altered_is_refused(tickets: Tickets) -> None:
    head, body, signature = tickets.mint("c1", Party.CLIENT).split(".")
    other = tickets.mint("c2", Party.CLIENT).split(".")[1]
    assert refusal(tickets, f"{head}.{other}.{signature}") == "ticket_invalid"
    assert refusal(tickets, f"{head}.{body}.") == "ticket_invalid"


@pytest.mark.parametrize("token", ["", ".", "a.b.c", "\x00", "x" * 100_000, "ä" * 300])
def test_garbage_is_no_ticket(tickets: Tickets, token: str) -> None:
    assert refusal(tickets, token) == "ticket_invalid"


def test_the_memory_of_spent_tickets_is_as_long_as_their_life(clock: HandClock) -> None:
    tickets = Tickets(KEY, clock, capacity=10)
    for _ in range(5):
        for _ in range(10):
            tickets.redeem(tickets.mint("c1", Party.CLIENT))
        clock.mono += TICKET_LIFE_S


def test_a_full_memory_refuses_rather_than_forgets(clock: HandClock) -> None:
    tickets = Tickets(KEY, clock, capacity=2)
    first = tickets.mint("c1", Party.CLIENT)
    tickets.redeem(first)
    tickets.redeem(tickets.mint("c2", Party.CLIENT))
    assert refusal(tickets, tickets.mint("c3", Party.CLIENT)) == "relay_busy"
    assert refusal(tickets, first) == "ticket_spent"
