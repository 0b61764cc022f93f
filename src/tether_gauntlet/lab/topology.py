"""Who is connected to whom: a tree of hosts, and the addresses and routes that follow from it.

Law: pure. The root is the middle of the internet; every other node hangs on its parent by one link. A
node below one with `nat` has a private address, which nobody above can route to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tether_gauntlet.lab.shell import LabError

LONGEST_NAME = 12  # an interface's name is `to-NAME`, and Linux takes 15 characters


@dataclass(frozen=True, slots=True, kw_only=True)
class LabNode:
    """A host or a router."""

    name: str
    parent: str = ""
    """"": the root."""
    nat: bool = False
    """Translates the source address of what comes from below."""
    drops_inbound: bool = False
    """A firewall: whatever was not begun from below is dropped."""


@dataclass(frozen=True, slots=True)
class Cable:
    """One cable: the child's end and its parent's."""

    child: str
    parent: str
    child_address: str
    parent_address: str

    @property
    def child_device(self) -> str:
        return f"to-{self.parent}"

    @property
    def parent_device(self) -> str:
        return f"to-{self.child}"

    @property
    def subnet(self) -> str:
        return f"{self.child_address.rpartition('.')[0]}.0/24"


@dataclass(frozen=True)
class Topology:
    """A tree of nodes, parents before their children."""

    nodes: tuple[LabNode, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for number, node in enumerate(self.nodes):
            if not 0 < len(node.name) <= LONGEST_NAME or node.name in seen:
                raise LabError(f"a node needs a short name of its own: {node.name!r}")
            if bool(node.parent) != bool(number) or (node.parent and node.parent not in seen):
                raise LabError(f"the root comes first, a parent before its children: {node.name}")
            seen.add(node.name)

    @cached_property
    def by_name(self) -> dict[str, LabNode]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def links(self) -> dict[str, Cable]:
        """The cables, by their child's name."""
        made = {}
        for number, node in enumerate(self.nodes[1:], 1):
            network = f"192.168.{number}" if self.nats_above(node.name) else f"10.{number}.0"
            made[node.name] = Cable(node.name, node.parent, f"{network}.2", f"{network}.1")
        return made

    def above(self, name: str) -> Iterator[LabNode]:
        """The nodes between `name` and the root, nearest first, the root included."""
        node = self.node(name)
        while node.parent:
            node = self.by_name[node.parent]
            yield node

    def below(self, name: str) -> list[Cable]:
        """The cables of the whole subtree of `name`."""
        return [
            link
            for child, link in self.links.items()
            if any(node.name == name for node in self.above(child))
        ]

    def nats_above(self, name: str) -> list[LabNode]:
        return [node for node in self.above(name) if node.nat]

    def node(self, name: str) -> LabNode:
        try:
            return self.by_name[name]
        except KeyError:
            raise LabError(f"no host {name!r} here: there are {', '.join(self.by_name)}") from None

    def children(self, name: str) -> list[LabNode]:
        return [node for node in self.nodes if node.parent == name]

    def address(self, name: str) -> str:
        """The host's own address; the root's is the one that its first child sees."""
        if name in self.links:
            return self.links[name].child_address
        children = self.children(self.node(name).name)
        if not children:
            raise LabError(f"{name} is alone: it has no address")
        return self.links[children[0].name].parent_address

    def address_seen(self, name: str, at: str) -> str:
        """The address under which `at` knows `name`: that of the outermost NAT between them."""
        beside = {at, *(node.name for node in self.above(at))}
        between = [node for node in self.nats_above(name) if node.name not in beside]
        return self.address(between[-1].name if between else name)

    def reachable(self, name: str, at: str) -> bool:
        """Whether `at` can be dialled from `name`: nothing above it translates or drops."""
        beside = {name, *(node.name for node in self.above(name))}
        return not any(
            node.nat or node.drops_inbound for node in self.above(at) if node.name not in beside
        )

    def routes(self, name: str) -> list[str]:
        """The arguments of `ip route add` for each of its routes."""
        routes = []
        if name in self.links:
            routes.append(f"default via {self.links[name].parent_address}")
        for child in self.children(name):
            via = self.links[child.name].child_address
            known = {name, *(node.name for node in self.nats_above(name))}
            routes += [
                f"{link.subnet} via {via}"
                for link in self.below(child.name)
                if known.issuperset(node.name for node in self.nats_above(link.child))
            ]
        return routes

    def ruleset(self, name: str) -> str:
        """The nft rules that make it a router of its kind; "" for none."""
        node, link = self.node(name), self.links.get(name)
        rules = ""
        if node.nat and link is not None:
            below = ", ".join(inner.subnet for inner in self.below(name))
            rules += translation(f"ip saddr {{ {below} }}", link.child_address)
        if node.drops_inbound and link is not None:
            rules += (
                "table inet firewall {\n chain forward {\n"
                "  type filter hook forward priority 0; policy accept;\n"
                f'  iifname "{link.child_device}" ct state != {{ established, related }} drop\n'
                " }\n}\n"
            )
        return rules


NAT_TABLE = "translation"


def translation(match: str, address: str, flags: str = "") -> str:
    """The nft table that gives packets another source address.

    It uses `snat`, since `masquerade` drops connections when the outgoing link changes, which is a fault
    of its own.
    """
    return (
        f"table inet {NAT_TABLE} {{\n chain postrouting {{\n"
        "  type nat hook postrouting priority 100; policy accept;\n"
        f"  {match} snat ip to {address} {flags}\n"
        " }\n}\n"
    )


def internet(
    *,
    clients: int = 1,
    nat: bool = True,
    relays: tuple[str, ...] = ("relay-a", "relay-b"),
    agents: int = 1,
    agents_reachable: bool = True,
) -> Topology:
    """The usual world, or less of it.

    `client`[`2`…] – `nat` – `inet` – {`server`, relays} and `inet` – `gw` – `agent1`….

    Args:
        clients: how many, all behind the same router: `client`, `client2`, ….
        nat: whether that router translates addresses; without it, it only routes.
        relays: the names of the hosts for relays.
        agents: how many hosts for agents: `agent1`, ….
        agents_reachable: whether clients can dial agents; else `gw` translates and drops inbound.
    """
    nodes = [LabNode(name="inet"), LabNode(name="server", parent="inet")]
    if clients:
        nodes.append(LabNode(name="nat", parent="inet", nat=nat))
    for number in range(1, clients + 1):
        nodes.append(LabNode(name="client" + (str(number) if number > 1 else ""), parent="nat"))
    nodes.extend(LabNode(name=name, parent="inet") for name in relays)
    if agents:
        hidden = not agents_reachable
        nodes.append(LabNode(name="gw", parent="inet", nat=hidden, drops_inbound=hidden))
    nodes.extend(LabNode(name=f"agent{n}", parent="gw") for n in range(1, agents + 1))
    return Topology(tuple(nodes))
