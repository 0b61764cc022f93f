"""Addresses and routes follow from the tree."""

from __future__ import annotations

import pytest

from tether_gauntlet.lab.shell import LabError
from tether_gauntlet.lab.topology import LabNode, Topology, internet


def test_what_is_behind_a_nat_has_a_private_address_that_nobody_above_can_route_to() -> None:
    world = internet(clients=2, agents=0, relays=())
    assert {name: world.address(name) for name in ("server", "nat", "client", "client2")} == {
        "server": "10.1.0.2",
        "nat": "10.2.0.2",
        "client": "192.168.3.2",
        "client2": "192.168.4.2",
    }
    assert world.routes("client") == ["default via 192.168.3.1"]
    assert world.routes("nat") == ["default via 10.2.0.1"]
    assert "192.168" not in " ".join(world.routes("inet"))


def test_a_router_knows_the_way_to_what_is_below_its_children() -> None:
    world = internet(clients=0, relays=(), agents=2)
    assert world.routes("inet") == ["10.3.0.0/24 via 10.2.0.2", "10.4.0.0/24 via 10.2.0.2"]
    assert world.routes("gw") == ["default via 10.2.0.1"]


def test_a_host_is_seen_under_the_address_of_the_outermost_nat_between() -> None:
    home = LabNode(name="home", parent="isp", nat=True)
    world = Topology(
        (
            LabNode(name="inet"),
            LabNode(name="server", parent="inet"),
            LabNode(name="isp", parent="inet", nat=True),
            home,
            LabNode(name="client", parent="home"),
        )
    )
    seen = {at: world.address_seen("client", at) for at in ("home", "isp", "inet", "server")}
    assert seen == {
        "home": world.address("client"),
        "isp": world.address("home"),
        "inet": world.address("isp"),
        "server": world.address("isp"),
    }


def test_agents_that_hide_do_so_behind_their_gateway() -> None:
    open_, hidden = internet(), internet(agents_reachable=False)
    assert open_.address_seen("agent1", "client") == open_.address("agent1")
    assert hidden.address_seen("agent1", "client") == hidden.address("gw")


@pytest.mark.parametrize(
    "nodes",
    [
        (LabNode(name="a", parent="b"),),
        (LabNode(name="a"), LabNode(name="b")),
        (LabNode(name="a"), LabNode(name="b", parent="c"), LabNode(name="c", parent="a")),
        (LabNode(name="a"), LabNode(name="a", parent="a")),
        (LabNode(name="a"), LabNode(name="a-very-long-name", parent="a")),
    ],
)
def test_what_is_no_tree_is_refused(nodes: tuple[LabNode, ...]) -> None:
    with pytest.raises(LabError):
        Topology(nodes)


def test_an_unknown_host_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(LabError, match="there are inet, server, nat, client"):
        internet(relays=(), agents=0).node("nobody")
