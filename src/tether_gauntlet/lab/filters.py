"""How a router filters packets for a fault.

Law: a fault's filter is a table of its own in one router: it comes and goes as a whole, and no fault can
undo another's.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.fault import Fault, numbers, void
from tether_gauntlet.lab.host import Host

Way: TypeAlias = Literal["from", "to", "both"]
"""Of the packets that come from the host, go to it, or either."""


def filter_packets(
    lab: Lab,
    host: str,
    peer: str | None,
    way: Way,
    port: int | None,
    verdict: str,
    what: str,
    *,
    protocol: str = "",
) -> Fault:
    router = lab.router_of(host)
    seen = lab.topology.address_seen(host, router.name)
    hidden = lab.topology.node(host).nat
    behind = [] if hidden else [link.subnet for link in lab.topology.below(host)]
    mine = f"{{ {', '.join((seen, *behind))} }}" if behind else seen
    other = lab.topology.address_seen(peer, router.name) if peer is not None else None
    rules = []
    for here, there, ways in (("saddr", "daddr", "from"), ("daddr", "saddr", "to")):
        if way in (ways, "both"):
            rule = f"ip {here} {mine}" + (f" ip {there} {other}" if other else "")
            if port is not None:
                rules += [f"{rule} tcp {end} {port} {verdict}" for end in ("sport", "dport")]
            else:
                rules.append(f"{rule}{f' ip protocol {protocol}' if protocol else ''} {verdict}")
    name = add_table(router, "forward", *rules)
    return Fault(
        lab.faults, what, lambda: void(router.tool("nft", "delete", "table", "inet", name))
    )


def add_table(host: Host, hook: str, *rules: str) -> str:
    """Put `rules` into a new table of the host, and return its name."""
    name = f"fault{next(numbers)}"
    chain = f"type filter hook {hook} priority -10; policy accept;"
    body = "\n".join(f"  {rule}" for rule in (chain, *rules))
    host.tool("nft", "-f", "-", given=f"table inet {name} {{\n chain c {{\n{body}\n }}\n}}\n")
    return name


def said(host: str, peer: str | None, way: Way) -> str:
    words = {"from": f"from {host}", "to": f"to {host}", "both": f"to and from {host}"}[way]
    return words + with_peer(peer)


def with_peer(peer: str | None) -> str:
    return f" with {peer}" if peer is not None else ""
