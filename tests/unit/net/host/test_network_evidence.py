"""What changed in a network, as a stream that has ended hears of it."""

from __future__ import annotations

import pytest

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.net.host.network import NetworkChange, NetworkWatch, RouteChange
from tether.net.host.network_evidence import network_facts


class Seen(NetworkWatch):
    """A watch that saw just these changes, each so many seconds ago."""

    def __init__(self, *changes: tuple[float, NetworkChange]) -> None:
        super().__init__(lambda change: None)
        self._told = list(changes)

    def recent(self, within_s: float) -> list[tuple[float, NetworkChange]]:
        return [(age, change) for age, change in self._told if age <= within_s]

    def is_tunnel(self, interface: str) -> bool:
        return interface.startswith("tun")


@pytest.mark.parametrize(
    ("silence_s", "at", "tunnel"), [(12.0, 95.0, False), (30.0, 95.0, True), (1.0, 95.0, True)]
)
def test_a_tunnel_that_was_gone_before_the_last_byte_does_not_colour_what_came_after(
    silence_s: float, at: float, tunnel: bool
) -> None:
    """Where nothing came after the last byte, the change is told whole: it explains nothing anyway."""
    watch = Seen(
        (25.0, RouteChange("tun0", "default", "", gone=True)),
        (5.0, RouteChange("eth0", "default", "10.0.0.1", gone=True)),
    )
    told = network_facts(watch, 60.0, silence_s, "", Party.CLIENT, Vantage.CLIENT, 100.0)
    assert told == [
        ev.RouteChanged(
            vantage=Vantage.CLIENT, at=at, party=Party.CLIENT, interface="", tunnel=tunnel
        )
    ]
