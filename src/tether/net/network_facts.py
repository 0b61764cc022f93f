"""What the network did, told from the point of view of one stream.

Law: pure reading of a `NetworkWatch`; says what changed, never that it mattered. Interfaces that a
container engine makes and unmakes (their addresses are none of the stream's) are told only as far as
an address or a default route of the machine is concerned.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, Vantage
from tether.net.network_watch import AddressChange, LinkChange, NetworkWatch, RouteChange

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
    """The facts of the last `within_s` seconds for a stream from `local_address` ("": unknown)."""
    changes = watch.recent(within_s)
    addresses = [change for change in changes if isinstance(change, AddressChange)]
    routes = [change for change in changes if isinstance(change, RouteChange)]
    links = [change for change in changes if isinstance(change, LinkChange)]
    told: list[Evidence] = []
    added = [change.address for change in addresses if not change.gone]
    removed = [change.address for change in addresses if change.gone]
    for gone in removed[-MOST:]:
        took_its_place = [one for one in added if one != gone]
        told.append(
            ev.AddressChanged(
                vantage=vantage,
                at=at,
                party=party,
                removed=gone,
                added=took_its_place[-1] if took_its_place else "",
                ours=gone == local_address,
            )
        )
    if not removed:
        told += [
            ev.AddressChanged(vantage=vantage, at=at, party=party, added=one)
            for one in added[-MOST:]
        ]
    if routes:
        now = watch.default_interface()
        over = [change.interface for change in routes]
        told.append(
            ev.RouteChanged(
                vantage=vantage,
                at=at,
                party=party,
                interface=now,
                tunnel=any(watch.is_tunnel(name) for name in (now, *over)),
            )
        )
    mine = watch.interfaces_of(local_address) if local_address else watch.default_interfaces()
    told += [
        ev.LinkChanged(vantage=vantage, at=at, party=party, interface=link.interface, up=link.up)
        for link in links
        if link.interface in mine
    ][-MOST:]
    return told
