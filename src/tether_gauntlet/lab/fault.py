"""What a fault is, and how packets are filtered for one.

Law: a fault's filter is a table of its own in one router: it comes and goes as a whole, and no fault can
undo another's.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, TypeAlias

from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.host import Host

Way: TypeAlias = Literal["from", "to", "both"]
"""Of the packets that come from the host, go to it, or either."""

numbers = itertools.count(1)
"""For names of tables and devices that are not taken."""


class Fault:
    """Something that was harmed. A context manager; `undo` may be called more than once."""

    def __init__(self, lab: Lab | None, what: str, undo: Callable[[], None]) -> None:
        self.what = what
        self.began = time.monotonic()
        self._lab, self._undo, self._undone = lab, undo, False
        if lab is not None:
            lab.faults.append(self)

    def undo(self) -> None:
        if self._undone:
            return
        self._undo()
        self._undone = True
        if self._lab is not None:
            self._lab.faults.remove(self)

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<Fault: {self.what}>"


def void(_: object) -> None:
    """What an undo returns is of no interest."""


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
    return Fault(lab, what, lambda: void(router.tool("nft", "delete", "table", "inet", name)))


def add_table(host: Host, hook: str, *rules: str) -> str:
    """A table of its own for each fault: it comes and goes as a whole."""
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
