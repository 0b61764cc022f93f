"""Who waits for whom at a relay."""

from __future__ import annotations

import pytest

from tests.support.clock import at
from tether.attribution.vocabulary import Party
from tether.protocol.derp.pairing import (
    DECLINE_KEPT_S,
    CarrierId,
    GiveUp,
    JoinLegs,
    PairingTable,
    Refuse,
    Wait,
)

CLIENT, AGENT = Party.CLIENT, Party.AGENT
C1, C2 = CarrierId("c1"), CarrierId("c2")


@pytest.mark.parametrize(("first", "second"), [(CLIENT, AGENT), (AGENT, CLIENT)])
def test_the_first_leg_waits_and_the_second_joins(first: Party, second: Party) -> None:
    table = PairingTable()
    assert table.arrive(C1, first, at(0)) == Wait()
    assert len(table) == 1
    assert table.arrive(C1, second, at(1)) == JoinLegs()
    assert (len(table), table.deadline()) == (0, None)


def test_legs_of_different_tunnels_do_not_meet() -> None:
    table = PairingTable()
    assert table.arrive(C1, CLIENT, at(0)) == Wait()
    assert table.arrive(C2, AGENT, at(0)) == Wait()


def test_legs_of_different_carriers_of_one_tunnel_do_not_meet() -> None:
    table = PairingTable()
    assert table.arrive(CarrierId("c1", 2), CLIENT, at(0)) == Wait()
    assert table.arrive(CarrierId("c1", 3), AGENT, at(0)) == Wait()
    assert table.arrive(CarrierId("c1", 2), AGENT, at(1)) == JoinLegs()


def test_the_refusal_of_a_carrier_is_none_of_the_next_one() -> None:
    table = PairingTable()
    table.decline(CarrierId("c1", 2), "standing by", at(0))
    assert table.arrive(CarrierId("c1", 3), CLIENT, at(1)) == Wait()


def test_a_tunnel_is_refused_with_each_of_its_carriers() -> None:
    table = PairingTable()
    table.arrive(CarrierId("c1", 2), CLIENT, at(0))
    table.arrive(C2, CLIENT, at(0))
    assert table.decline_all("c1", "it is over", at(1)) == [CarrierId("c1", 2)]
    assert table.arrive(CarrierId("c1", 3), AGENT, at(2)) == Refuse("it is over")
    assert table.arrive(C2, AGENT, at(2)) == JoinLegs()


def test_the_same_leg_twice_is_refused_and_the_first_keeps_waiting() -> None:
    table = PairingTable()
    table.arrive(C1, CLIENT, at(0))
    assert table.arrive(C1, CLIENT, at(1)) == Refuse(
        "the client's end of this tunnel is here already"
    )
    assert table.arrive(C1, AGENT, at(2)) == JoinLegs()


@pytest.mark.parametrize(
    ("leg", "message"),
    [
        (CLIENT, "the workspace's agent did not come to the relay within 15 s"),
        (AGENT, "the client did not come to the relay within 15 s"),
    ],
)
def test_a_leg_waits_for_15_seconds(leg: Party, message: str) -> None:
    table = PairingTable()
    table.arrive(C1, leg, at(10))
    assert table.deadline() == 25
    assert table.expire(at(24.9)) == []
    assert table.expire(at(25)) == [GiveUp(C1, leg, message)]
    assert (len(table), table.deadline(), table.expire(at(60))) == (0, None, [])


def test_each_leg_has_its_own_deadline() -> None:
    table = PairingTable(wait_s=10)
    table.arrive(C1, CLIENT, at(0))
    table.arrive(C2, CLIENT, at(4))
    assert [over.carrier for over in table.expire(at(10))] == [C1]
    assert table.deadline() == 14


def test_a_leg_that_leaves_is_not_waited_for() -> None:
    table = PairingTable()
    table.arrive(C1, CLIENT, at(0))
    table.leave(C1, CLIENT)
    assert table.arrive(C1, AGENT, at(1)) == Wait()


def test_leaving_does_not_touch_the_other_leg() -> None:
    table = PairingTable()
    table.arrive(C1, CLIENT, at(0))
    table.leave(C1, AGENT)
    table.leave(C2, CLIENT)
    assert table.arrive(C1, AGENT, at(1)) == JoinLegs()


@pytest.mark.parametrize("leg", [CLIENT, AGENT])
def test_a_refusal_reaches_the_leg_that_waits(leg: Party) -> None:
    table = PairingTable()
    table.arrive(C1, leg, at(0))
    assert table.decline(C1, "standing by", at(1)) is True
    assert len(table) == 0


def test_a_refusal_waits_for_the_legs_that_come_later() -> None:
    table = PairingTable()
    assert table.decline(C1, "standing by", at(0)) is False
    assert table.arrive(C1, CLIENT, at(1)) == Refuse("standing by")
    assert table.arrive(C1, AGENT, at(2)) == Refuse("standing by")


def test_a_refusal_is_kept_as_long_as_a_ticket_lives() -> None:
    table = PairingTable()
    table.decline(C1, "standing by", at(0))
    assert table.arrive(C1, CLIENT, at(DECLINE_KEPT_S)) == Wait()


def test_the_table_is_bounded() -> None:
    table = PairingTable(capacity=2)
    for number in range(2):
        assert table.arrive(CarrierId(f"c{number}"), CLIENT, at(0)) == Wait()
        table.decline(CarrierId(f"d{number}"), "no", at(0))
    assert table.arrive(C2, CLIENT, at(0)) == Refuse(
        "the relay is overloaded: try again in a minute"
    )
    assert table.arrive(CarrierId("c0"), AGENT, at(0)) == JoinLegs()
    table.decline(CarrierId("d2"), "no", at(0))
    assert table.arrive(CarrierId("d2"), CLIENT, at(1)) == Wait()
    assert table.arrive(CarrierId("d1"), CLIENT, at(1)) == Refuse("no")
