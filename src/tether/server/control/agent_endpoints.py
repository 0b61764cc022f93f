"""Where a client may dial an agent: what the agent offers, and the address that its own link came from.

Law: pure. A client gets the same with a grant and with an update of the agent. Nobody is sent to the
loopback of another machine.
"""

from __future__ import annotations

from ipaddress import ip_address
from socket import inet_aton

import msgspec

from tether.protocol.coordination.access import MAX_NODE_WORD
from tether.protocol.messages.coordination import MAX_ENDPOINTS, Node, PeerUpdate, PeerUpdates


def with_seen(node: Node, seen: str) -> Node:
    """With the address that the server sees, last, and the port that the agent listens on."""
    if not (seen and 0 < len(node.endpoints) < MAX_ENDPOINTS):
        return node
    port = node.endpoints[0].rpartition(":")[2]
    guess = f"[{seen}]:{port}" if ":" in seen else f"{seen}:{port}"
    if guess in node.endpoints or len(guess) > MAX_NODE_WORD:
        return node
    return msgspec.structs.replace(node, endpoints=[*node.endpoints, guess])


def for_client(updates: PeerUpdates, client_ip: str) -> PeerUpdates:
    """With those endpoints only that a client at this address can make use of."""
    return PeerUpdates(updates=[_update(one, client_ip) for one in updates.updates])


def _update(update: PeerUpdate, client_ip: str) -> PeerUpdate:
    if update.node is None:
        return update
    endpoints = reachable(update.node.endpoints, client_ip)
    node = msgspec.structs.replace(update.node, endpoints=endpoints)
    return msgspec.structs.replace(update, node=node)


def reachable(endpoints: list[str], client_ip: str) -> list[str]:
    """Those that make sense for this client to try: nobody else's loopback is ours."""
    if _is_loopback(client_ip):
        return endpoints
    return [one for one in endpoints if not _is_loopback(_host(one))]


def _host(endpoint: str) -> str:
    return endpoint.rpartition(":")[0].removeprefix("[").removesuffix("]")


def _is_loopback(host: str) -> bool:
    """Whether whoever dials `host` reaches itself, however that is written: `127.1`, `0x7f.1`,
    `localhost.`, `0.0.0.0` and `::ffff:127.0.0.1` are all read as the dialler's resolver would."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ip_address(inet_aton(name))  # what getaddrinfo(3) takes for a number
        except OSError:
            return False  # a name: who dials it looks at where it leads
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)
