"""Who gives way at a listener's door."""

from __future__ import annotations

from tether.net.transport.crowd import Crowd


class Door:
    """Connections by name, and which of them were dropped."""

    def __init__(self) -> None:
        self.dropped: list[str] = []

    def connection(self, name: str) -> Connection:
        return Connection(name, self.dropped)


class Connection:
    def __init__(self, name: str, dropped: list[str]) -> None:
        self.name, self._dropped = name, dropped

    def give_way(self) -> None:
        self._dropped.append(self.name)


def test_the_oldest_of_the_address_that_crowds_the_door_gives_way() -> None:
    door, told = Door(), list[int]()
    crowd = Crowd(most_silent=4, gave_way=lambda: told.append(1))
    crowd.waits(door.connection("honest"), "10.0.0.9")
    for number in range(3):
        crowd.waits(door.connection(f"crowding {number}"), "10.0.0.1")
    for number in range(2):
        crowd.waits(door.connection(f"newer {number}"), "10.0.0.8")
    assert (door.dropped, len(told)) == (["crowding 0", "crowding 1"], 2)


def test_whoever_has_asked_for_something_gives_way_to_nobody() -> None:
    door, crowd = Door(), Crowd(most_silent=2)
    busy = door.connection("busy")
    crowd.waits(busy, "10.0.0.1")
    crowd.speaks(busy)
    for number in range(3):
        crowd.waits(door.connection(f"silent {number}"), "10.0.0.1")
    assert door.dropped == ["silent 0"]
    crowd.waits(busy, "10.0.0.1")  # its next request begins
    assert door.dropped == ["silent 0", "silent 1"]


def test_there_is_an_end_to_how_many_are_served() -> None:
    assert not Crowd().is_full(10_000)
    crowd = Crowd(most=2)
    assert [crowd.is_full(number) for number in (1, 2, 3)] == [False, False, True]
