"""Relay tickets: good once, for one leg, for a minute, and for nobody who made them up."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.clock import HandClock
from tether.attribution.vocabulary import Party
from tether.server.tickets import TICKET_LIFE_S, Ticket, TicketRefused, Tickets

KEY = Ed25519PrivateKey.generate()


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


def forge(clock: HandClock, key: Ed25519PrivateKey = KEY, **changes: object) -> str:
    now = clock.now().wall
    claims = {
        "aud": "relay",
        "cid": "c1",
        "leg": "client",
        "jti": "j1",
        "iat": now,
        "exp": now + 60,
    }
    claims |= changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm="EdDSA")


@pytest.mark.parametrize("leg", [Party.CLIENT, Party.AGENT])
def test_a_ticket_says_which_leg_of_which_connection(tickets: Tickets, leg: Party) -> None:
    assert tickets.redeem(tickets.mint("c1", leg)) == Ticket("c1", leg)


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
        {"cid": None},
        {"jti": None},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
    ],
    ids=str,
)
def test_a_ticket_that_says_something_else_is_refused(
    tickets: Tickets, clock: HandClock, changes: dict[str, object]
) -> None:
    assert refusal(tickets, forge(clock, **changes)) == "ticket_invalid"


def test_only_this_servers_key_makes_tickets(tickets: Tickets, clock: HandClock) -> None:
    assert refusal(tickets, forge(clock, Ed25519PrivateKey.generate())) == "ticket_invalid"
    assert tickets.redeem(forge(clock)) == Ticket("c1", Party.CLIENT)


def test_an_unsigned_ticket_is_refused(tickets: Tickets, clock: HandClock) -> None:
    claims = jwt.decode(forge(clock), options={"verify_signature": False})
    assert refusal(tickets, jwt.encode(claims, None, algorithm="none")) == "ticket_invalid"


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
