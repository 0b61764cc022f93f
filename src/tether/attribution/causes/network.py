"""What the network did, where neither end did anything.

Law: rows only; see `causes`.
"""

from __future__ import annotations

from tether.attribution.causes.cause import Cause
from tether.attribution.vocabulary import Initiator, Reason

ROWS: tuple[Cause, ...] = (
    Cause(
        "network.path_lost",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "The network between both ends was cut",
        "Both ends of the connection lost each other: the network between them carried "
        "nothing any more.",
        "Check the network in between: a router, a firewall, an uplink.",
    ),
    Cause(
        "network.client_upload_lost",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "Nothing from the client arrived any more",
        "What the client sent was lost on the way, while what was sent to it still arrived.",
        "Check for a firewall or a failing uplink on the client's way out.",
    ),
    Cause(
        "network.client_download_lost",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "Nothing reached the client any more",
        "What was sent to the client was lost on the way, while what it sent still arrived.",
        "Check for a firewall or a failing route on the way back to the client.",
    ),
    Cause(
        "network.agent_upload_lost",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "Nothing from the workspace arrived any more",
        "What the workspace sent was lost on the way, while what was sent to it still arrived.",
        "Check for a firewall or a failing uplink on the workspace's way out.",
    ),
    Cause(
        "network.agent_download_lost",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "Nothing reached the workspace any more",
        "What was sent to the workspace was lost on the way, while what it sent still arrived.",
        "Check for a firewall or a failing route on the way back to the workspace.",
    ),
    Cause(
        "network.mtu_black_hole",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "Large packets were lost on the way",
        "Large packets were lost on the way while small ones passed: something in between has "
        "a smaller MTU and does not say so.",
        "Lower the MTU of the VPN or the interface, or let ICMP 'fragmentation needed' pass.",
    ),
    Cause(
        "network.middlebox_reset",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "Something in between cut the connection",
        "A firewall, proxy or load balancer in between cut the connection; neither end did.",
        "Look at the logs of what lies in between at that time.",
    ),
    Cause(
        "network.nat_rebinding",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "A NAT in between lost the connection",
        "A NAT or firewall in between lost its record of the connection and reset both ends.",
        "Reconnect; raise the NAT's timeouts, or look for a restart of the router.",
    ),
    Cause(
        "network.idle_timeout",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "Something in between cut an idle connection",
        "A load balancer, proxy or firewall in between cut the connection because it had been "
        "idle.",
        "Raise its idle time-out, or set `ServerAliveInterval 20` in the ssh configuration.",
    ),
    Cause(
        "network.dns_failed",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "The server's name could not be resolved",
        "The connection was lost, and the server's name could not be resolved after it.",
        "Check the name servers and the network of the machine that dialled.",
    ),
    Cause(
        "network.proxy_refused",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "A proxy or a captive portal stood in the way",
        "The connection was lost, and a proxy or a captive portal answered the next dial.",
        "Log in to the network or the proxy, then reconnect.",
    ),
    Cause(
        "network.tls_intercepted",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "Something in between broke TLS",
        "The connection was lost, and the next dial met a TLS certificate that is not the "
        "server's.",
        "Check for a captive portal, or a proxy that inspects TLS; ask the operator whether "
        "the certificate is right.",
    ),
)
