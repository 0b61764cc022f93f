"""A captive portal: the network of a host lets nothing out until somebody logs in to it.

Law: everything is done on the router that the host hangs on. Open connections are cut as well.
"""

from __future__ import annotations

from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.capabilities import require
from tether_gauntlet.lab.fault import Fault, numbers
from tether_gauntlet.lab.proxy import start_proxy

PORT = 8080


def captive_portal(lab: Lab, host: str) -> Fault:
    """Answer every TCP connection of the host with a log-in page, whoever it is for."""
    require("nft-nat", "conntrack")
    router, address = lab.router_of(host), lab.link_of(host).child_address
    portal, _ = start_proxy(router, port=PORT, options=("--captive",))
    table = f"portal{next(numbers)}"
    router.tool(
        "nft",
        "-f",
        "-",
        given=f"table inet {table} {{\n chain c {{\n"
        "  type nat hook prerouting priority -100; policy accept;\n"
        f"  ip saddr {address} ip protocol tcp redirect to :{PORT}\n }}\n}}\n",
    )
    router.tool("conntrack", "-F")  # what goes on from here is answered by the router's own kernel

    def undo() -> None:
        router.tool("nft", "delete", "table", "inet", table)
        router.tool("conntrack", "-F")
        portal.kill()

    return Fault(lab.faults, f"a captive portal answers {host}", undo)
