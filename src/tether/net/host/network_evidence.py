"""Changes of the network as facts, from the point of view of one stream.

Law: only reads a `NetworkWatch`; says what changed, never that it mattered. Links that come and go
without being the stream's own, such as those of a container engine, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, Vantage
from tether.net.host.network import (
    AddressChange,
    LinkChange,
    NetworkChange,
    NetworkWatch,
    RouteChange,
)

MOST = 8
"""Changes of one kind that are told: the last ones, where a network flaps for an hour."""


@dataclass(frozen=True, slots=True)
class _NetworkSeen:
    """The changes to tell of, and what the facts about them have in common."""

    watch: NetworkWatch
    changes: Sequence[tuple[float, NetworkChange]]
    """Each with its age in seconds; oldest first."""
    silence_s: float
    local_address: str
    party: Party
    vantage: Vantage
    at: float


def network_facts(
    watch: NetworkWatch,
    within_s: float,
    silence_s: float,
    local_address: str,
    party: Party,
    vantage: Vantage,
    at: float,
) -> list[Evidence]:
    """What changed in the last `within_s` seconds, for a stream from `local_address` ("" if unknown) on
    which nothing had come for `silence_s` seconds.

    The stream's address may be gone, or its link down, without a change that was seen: that happened
    before the watch began, and is told as of now.
    """
    seen = _NetworkSeen(watch, watch.recent(within_s), silence_s, local_address, party, vantage, at)
    return [*_addresses(seen), *_routes(seen), *_links(seen)]


def _addresses(seen: _NetworkSeen) -> Iterator[Evidence]:
    changes = [(age, c) for age, c in seen.changes if isinstance(c, AddressChange)]
    added = [(age, change.address) for age, change in changes if not change.gone]
    removed = [(age, change.address) for age, change in changes if change.gone]
    mine = seen.local_address
    unseen = bool(mine) and mine not in [address for _, address in removed]
    if unseen and seen.watch.has(mine) is False:
        removed.append((0.0, mine))
    for age, gone in removed[-MOST:]:
        in_its_place = [one for _, one in added if one != gone]
        yield ev.AddressChanged(
            vantage=seen.vantage,
            at=seen.at - age,
            party=seen.party,
            removed=gone,
            added=in_its_place[-1] if in_its_place else "",
            ours=gone == mine,
        )
    if not removed:
        for age, one in added[-MOST:]:
            yield ev.AddressChanged(
                vantage=seen.vantage, at=seen.at - age, party=seen.party, added=one
            )


def _routes(seen: _NetworkSeen) -> Iterator[Evidence]:
    """The last way, with what it led over since the stream fell silent; what was before that did it no
    harm, and must not colour what came after."""
    routes = [(age, c.interface) for age, c in seen.changes if isinstance(c, RouteChange)]
    routes = [route for route in routes if route[0] <= seen.silence_s] or routes
    if routes:
        now = seen.watch.default_interface()
        over = [interface for _, interface in routes]
        yield ev.RouteChanged(
            vantage=seen.vantage,
            at=seen.at - routes[-1][0],
            party=seen.party,
            interface=now,
            tunnel=any(seen.watch.is_tunnel(name) for name in (now, *over)),
        )


def _links(seen: _NetworkSeen) -> Iterator[Evidence]:
    watch, address = seen.watch, seen.local_address
    mine = watch.interfaces_of(address) if address else watch.default_interfaces()
    links = [(age, c.interface, c.up) for age, c in seen.changes if isinstance(c, LinkChange)]
    links += [(0.0, name, False) for name in sorted(mine) if watch.is_down(name)]
    fallen: set[str] = set()
    for age, interface, up in links[-MOST:]:
        if interface in mine and (up or interface not in fallen):
            yield ev.LinkChanged(
                vantage=seen.vantage,
                at=seen.at - age,
                party=seen.party,
                interface=interface,
                up=up,
            )
        (fallen.discard if up else fallen.add)(interface)
