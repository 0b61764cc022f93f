"""What the network did, told from the point of view of one stream.

Law: pure reading of a `NetworkWatch`; says what changed, never that it mattered. Interfaces that a
container engine makes and unmakes (their addresses are none of the stream's) are told only as far as
an address or a default route of the machine is concerned.
"""

from __future__ import annotations

from collections.abc import Sequence

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
"""Of one kind; a machine whose network flaps for an hour tells of its last minutes."""


def network_facts(
    watch: NetworkWatch,
    within_s: float,
    local_address: str,
    party: Party,
    vantage: Vantage,
    at: float,
) -> list[Evidence]:
    """The facts of the last `within_s` seconds for a stream from `local_address` ("": unknown).

    What is so now and was never seen to become so happened before anybody watched.
    """
    changes = watch.recent(within_s)
    told: list[Evidence] = []
    added = [(age, c.address) for age, c in changes if isinstance(c, AddressChange) and not c.gone]
    removed = [(age, c.address) for age, c in changes if isinstance(c, AddressChange) and c.gone]
    unseen = local_address not in [address for _, address in removed]
    if local_address and unseen and watch.has(local_address) is False:
        removed.append((0.0, local_address))
    for age, gone in removed[-MOST:]:
        took_its_place = [one for _, one in added if one != gone]
        told.append(
            ev.AddressChanged(
                vantage=vantage,
                at=at - age,
                party=party,
                removed=gone,
                added=took_its_place[-1] if took_its_place else "",
                ours=gone == local_address,
            )
        )
    if not removed:
        told += [
            ev.AddressChanged(vantage=vantage, at=at - age, party=party, added=one)
            for age, one in added[-MOST:]
        ]
    routes = [(age, c.interface) for age, c in changes if isinstance(c, RouteChange)]
    if routes:
        now = watch.default_interface()
        over = [interface for _, interface in routes]
        told.append(
            ev.RouteChanged(
                vantage=vantage,
                at=at - routes[-1][0],
                party=party,
                interface=now,
                tunnel=any(watch.is_tunnel(name) for name in (now, *over)),
            )
        )
    return [*told, *_links(watch, changes, local_address, party, vantage, at)]


def _links(
    watch: NetworkWatch,
    changes: Sequence[tuple[float, NetworkChange]],
    local_address: str,
    party: Party,
    vantage: Vantage,
    at: float,
) -> list[Evidence]:
    told: list[Evidence] = []
    mine = watch.interfaces_of(local_address) if local_address else watch.default_interfaces()
    links = [(age, c.interface, c.up) for age, c in changes if isinstance(c, LinkChange)]
    links += [(0.0, name, False) for name in sorted(mine) if watch.is_down(name)]
    fallen: set[str] = set()
    for age, interface, up in links[-MOST:]:
        if interface in mine and (up or interface not in fallen):
            told.append(
                ev.LinkChanged(
                    vantage=vantage, at=at - age, party=party, interface=interface, up=up
                )
            )
        (fallen.discard if up else fallen.add)(interface)
    return told
