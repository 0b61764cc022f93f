"""IPv6 in a laboratory, beside or instead of IPv4.

Law: every cable gets a network of its own, everybody can reach everybody, and nothing is translated.
"""

from __future__ import annotations

from tether_gauntlet.lab.building import DOMAIN, Lab
from tether_gauntlet.lab.fault import Fault, void
from tether_gauntlet.lab.topology import Cable


def give_ipv6(lab: Lab) -> None:
    """Every host gets IPv6 addresses and routes; no name leads to them yet."""
    for host in lab.hosts.values():
        devices = [
            link.child_device for link in lab.topology.links.values() if link.child == host.name
        ]
        devices += [
            link.parent_device for link in lab.topology.links.values() if link.parent == host.name
        ]
        for device in ("all", "default", "lo", *devices):
            host.tool("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=0")
        host.tool("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    for link in lab.topology.links.values():
        child, parent, network = lab[link.child], lab[link.parent], _network(lab, link)
        child.ip("addr", "add", f"{network}::2/64", "dev", link.child_device, "nodad")
        parent.ip("addr", "add", f"{network}::1/64", "dev", link.parent_device, "nodad")
        child.ip("-6", "route", "add", "default", "via", f"{network}::1")
    for link in lab.topology.links.values():
        for node in lab.topology.above(link.parent):
            below = next(
                each
                for each in lab.topology.links.values()
                if each.parent == node.name and link in (*lab.topology.below(each.child), each)
            )
            lab[node.name].ip(
                "-6",
                "route",
                "add",
                f"{_network(lab, link)}::/64",
                "via",
                f"{_network(lab, below)}::2",
            )


def name_by_ipv6(lab: Lab, host: str, name: str) -> None:
    """From now on `host` knows `name` by its IPv6 address only."""
    here = lab[host].hosts_file
    kept = [line for line in here.read_text().splitlines() if name not in line.split()]
    address = f"{_network(lab, lab.link_of(name))}::2"
    here.write_text("\n".join([*kept, f"{address} {name} {name}.{DOMAIN}"]) + "\n")


def no_ipv6_route(lab: Lab, host: str) -> Fault:
    """The host's IPv6 default route is removed; its IPv4 is as before."""
    here, gateway = lab[host], f"{_network(lab, lab.link_of(host))}::1"
    here.ip("-6", "route", "del", "default")
    return Fault(
        lab.faults,
        f"{host} has no IPv6 default route",
        lambda: void(here.ip("-6", "route", "add", "default", "via", gateway)),
    )


def _network(lab: Lab, link: Cable) -> str:
    return f"fd00:0:0:{list(lab.topology.links.values()).index(link) + 1:x}"
