"""The DERP map: which relays there are, from all that is known of them, and which one is to be used.

Law: no I/O. Regions come from the embedded relay, from relays that have registered, and from a map that
an operator set; a set map decides which regions are in use, and a relay of another region is drained.
What is given out is always a relay that takes new carriers now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from tether.protocol.derp.latency import choose
from tether.protocol.messages.derp import (
    EMBEDDED_REGION,
    MAX_REGIONS,
    REGION_NAME,
    DerpMap,
    DerpNode,
    DerpRegion,
    NodeStatus,
)

MAX_NODES, MAX_URL = 64, 512

_KEYS = {"name", "nodes"}, {"url", "status"}


class BadDerpMap(ValueError):
    """A map makes no sense; the text names the place and what it should be."""


@dataclass(frozen=True, slots=True)
class ChosenRelay:
    """A relay that was chosen, and its URL for whom it was chosen for: see `Regions.url_for`."""

    region: str
    url: str


@dataclass(slots=True)
class _Relay:
    url: str
    draining: bool


class Regions:
    """What is known of relays, and what is given out of it."""

    def __init__(self, embedded_url: Callable[[str], str] | None) -> None:
        """
        Args:
            embedded_url: where the embedded relay is reached by a peer that reached us under this host
                and port ("" for anybody); None: there is no embedded relay.
        """
        self.embedded_url = embedded_url
        self._set: tuple[DerpRegion, ...] | None = None
        self._registered: dict[object, tuple[str, _Relay]] = {}  # control link -> region, relay
        self._embedded_leaves = False
        self._observers: list[Callable[[], None]] = []

    def subscribe(self, observer: Callable[[], None]) -> None:
        """Call `observer` after each change of the map from now on."""
        self._observers.append(observer)

    def _changed(self) -> None:
        for observer in self._observers:
            observer()

    # -- what is known ----------------------------------------------------------------------

    def set_map(self, regions: Iterable[DerpRegion] | None) -> None:
        """An operator decides which regions are in use; None: all that registers."""
        self._set = None if regions is None else tuple(regions)
        self._changed()

    @property
    def as_set(self) -> tuple[DerpRegion, ...] | None:
        """The regions that an operator has set; None: all that register are in use."""
        return self._set

    def register(self, key: object, region: str, url: str, *, draining: bool) -> None:
        """A relay has registered; `key` stands for its control link."""
        self._registered[key] = region, _Relay(url, draining)
        self._changed()

    def drain(self, key: object) -> None:
        """A relay will leave."""
        self._registered[key][1].draining = True
        self._changed()

    def drain_embedded(self) -> bool:
        """The embedded relay will leave. False where no other relay could take what it carries:
        nothing is changed then."""
        if self.embedded_url is None or not self._own():
            return False
        self._embedded_leaves = True
        self._changed()
        return True

    def unregister(self, key: object) -> None:
        """A relay's control link is gone."""
        if self._registered.pop(key, None) is not None:
            self._changed()

    def in_use(self, region: str) -> bool:
        """Whether relays of this region take part."""
        return self._set is None or any(one.name == region for one in self._set)

    # -- what is given out ------------------------------------------------------------------

    def map_for(self, host: str = "") -> DerpMap:
        """The map as a peer is to see it that reached us under this host and port ("" for anybody)."""
        regions = [
            DerpRegion(name=name, nodes=[DerpNode(url=u, status=s) for u, s in nodes.items()])
            for name, nodes in self._nodes().items()
        ]
        if self.embedded_url is not None:
            status = NodeStatus.DRAINING if self._embedded_leaves else NodeStatus.OK
            node = DerpNode(url=self.embedded_url(host), status=status)
            regions.append(DerpRegion(name=EMBEDDED_REGION, nodes=[node]))
        return DerpMap(regions=regions)

    def choose(
        self,
        *wanted: str,
        avoid: Collection[str],
        host: str,
        latency_s: Mapping[str, float] = MappingProxyType({}),
        own_origin: bool = False,
    ) -> ChosenRelay | None:
        """A relay for a new carrier; None where there is none.

        Relays of their own come before the embedded one, which shares its process with the control
        plane. What is to be avoided is taken where nothing else is left: it may be back. Where latencies
        are known, the nearest region counts more than a wish.

        Args:
            wanted: regions, the most wanted first; "" is none.
            avoid: relay URLs that failed just now.
            host: under which the peer reached us whose URLs to avoid these are.
            latency_s: round trips (seconds) from one end to the other through each region, as far as
                they are known.
            own_origin: whether the peer may dial this server only: a page, whose policy allows no other
                origin (`web/assets.py`).
        """
        relays = [] if own_origin else self._own()
        if self.embedded_url is not None and not self._embedded_leaves:
            relays.append(ChosenRelay(EMBEDDED_REGION, self.embedded_url(host)))
        fresh = [relay for relay in relays if relay.url not in avoid] or relays
        regions = [relay.region for relay in fresh]
        nearest = choose(latency_s, regions, next(iter(wanted), ""))
        for region in (nearest, *wanted):
            for relay in fresh:
                if relay.region == region:
                    return relay
        return fresh[0] if fresh else None

    def url_for(self, relay: ChosenRelay, host: str) -> str:
        """Where the other end of the carrier, which reached us under `host`, dials a chosen relay."""
        if relay.region == EMBEDDED_REGION and self.embedded_url is not None:
            return self.embedded_url(host)
        return relay.url

    def _own(self) -> list[ChosenRelay]:
        """The relays that take new carriers now, without the embedded one."""
        return [
            ChosenRelay(name, url)
            for name, nodes in self._nodes().items()
            for url, status in nodes.items()
            if status == NodeStatus.OK
        ]

    def _nodes(self) -> dict[str, dict[str, str]]:
        """Region -> URL -> status, without the embedded relay."""
        found: dict[str, dict[str, str]] = {}
        for region in self._set or ():
            found[region.name] = {node.url: node.status for node in region.nodes}
        for name, relay in sorted(self._registered.values(), key=lambda one: (one[0], one[1].url)):
            if self.in_use(name):
                nodes = found.setdefault(name, {})
                if relay.draining:
                    nodes[relay.url] = NodeStatus.DRAINING
                else:  # an operator may drain a relay that is well
                    nodes.setdefault(relay.url, NodeStatus.OK)
        return {name: nodes for name, nodes in found.items() if nodes}


# -- maps that people write ---------------------------------------------------------------------


def read_map(plain: object) -> tuple[DerpRegion, ...]:
    """The regions of `{"regions": [{"name", "nodes": [{"url", "status"}]}]}`.

    Raises:
        BadDerpMap: it is none.
    """
    if not isinstance(plain, Mapping) or set(plain) != {"regions"}:
        raise BadDerpMap('a DERP map is {"regions": […]}')
    listed = _listed(plain["regions"], MAX_REGIONS, "regions")
    regions = tuple(_region(one, f"regions[{at}]") for at, one in enumerate(listed))
    names = [one.name for one in regions]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadDerpMap(f"the region {twice} is there twice")
    return regions


def check_region(name: object, where: str = "the region") -> str:
    """`name`, if it may be a region's.

    Raises:
        BadDerpMap: it may not.
    """
    if not isinstance(name, str) or REGION_NAME.fullmatch(name) is None:
        raise BadDerpMap(
            f"{where}: a region's name is 1 to 32 of a-z, 0-9 and '-', not {name!r:.60}"
        )
    if name == EMBEDDED_REGION:
        raise BadDerpMap(f"{where}: {name} is the name of the server's own relay")
    return name


def check_url(url: object, where: str = "the URL") -> str:
    """`url`, if a relay's legs can be dialled there.

    Raises:
        BadDerpMap: they cannot.
    """
    if isinstance(url, str) and len(url) <= MAX_URL and url.isprintable():
        try:
            parts = urlsplit(url)
            if parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0:
                return url
        except ValueError:
            pass
    raise BadDerpMap(f"{where}: a relay's URL begins with ws:// or wss://, not {url!r:.60}")


def _region(plain: object, where: str) -> DerpRegion:
    if not isinstance(plain, Mapping) or not {"name"} <= set(plain) <= _KEYS[0]:
        raise BadDerpMap(f"{where}: a region has a name, and nodes")
    nodes = _listed(plain.get("nodes", []), MAX_NODES, f"{where}.nodes")
    return DerpRegion(
        name=check_region(plain["name"], where),
        nodes=[_node(one, f"{where}.nodes[{at}]") for at, one in enumerate(nodes)],
    )


def _node(plain: object, where: str) -> DerpNode:
    if not isinstance(plain, Mapping) or not {"url"} <= set(plain) <= _KEYS[1]:
        raise BadDerpMap(f"{where}: a node has a url, and perhaps a status")
    status = plain.get("status", NodeStatus.OK)
    if status not in tuple(NodeStatus):
        raise BadDerpMap(f"{where}: the status is ok or draining, not {status!r:.40}")
    return DerpNode(url=check_url(plain["url"], where), status=str(status))


def _listed(plain: object, most: int, where: str) -> list[object]:
    if not isinstance(plain, list) or len(plain) > most:
        raise BadDerpMap(f"{where}: a list of at most {most}")
    return plain
