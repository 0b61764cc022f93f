"""What a relay carried, told by its next start."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import structlog

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.net.derp.splice import CarrierEnding
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.base import records_of
from tether.protocol.messages.derp import CarrierReport
from tether.relay import previous_run
from tether.relay.previous_run import CARRIERS_FILE, EVERY_S, CarriersOnDisk, Left, owed, read_left

pytestmark = pytest.mark.virtual_time

ONE, TWO = CarrierId("c1", 1), CarrierId("c2", 3)
ENDING = CarrierEnding((), (), rx_bytes=1, tx_bytes=2)
KILLED = ev.PreviousRunDied(
    vantage=Vantage.RELAY, at=7.0, party=Party.RELAY, host_rebooted=False, signal=9
)


@dataclass
class Told:
    """A `CarrierLog` that keeps what it is told."""

    joined: list[CarrierId] = field(default_factory=list)
    ended: list[tuple[CarrierId, CarrierEnding]] = field(default_factory=list)

    async def carrier_joined(self, carrier: CarrierId) -> None:
        self.joined.append(carrier)

    async def carrier_ended(self, carrier: CarrierId, ending: CarrierEnding) -> None:
        self.ended.append((carrier, ending))


async def test_what_is_carried_is_on_the_disk_until_it_has_ended(tmp_path: Path) -> None:
    on_disk = CarriersOnDisk(Told(), tmp_path, "run-1")
    await on_disk.carrier_joined(TWO)
    await on_disk.carrier_joined(ONE)
    await asyncio.sleep(2 * EVERY_S)
    assert read_left(tmp_path) == Left("run-1", (("c1", 1), ("c2", 3)))
    assert (tmp_path / CARRIERS_FILE).stat().st_mode & 0o777 == 0o600
    await on_disk.carrier_ended(ONE, ENDING)
    await asyncio.sleep(2 * EVERY_S)
    assert read_left(tmp_path) == Left("run-1", (("c2", 3),))
    await on_disk.close()


async def test_everything_is_passed_on_whatever_the_disk_does(tmp_path: Path) -> None:
    told = Told()
    on_disk = CarriersOnDisk(told, tmp_path / "gone", "run-1")
    await on_disk.carrier_joined(ONE)
    await on_disk.carrier_ended(ONE, ENDING)
    await on_disk.close()
    assert (told.joined, told.ended) == ([ONE], [(ONE, ENDING)])


async def test_many_changes_within_a_second_are_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[Left]()
    monkeypatch.setattr(
        previous_run,
        "write_atomically",
        lambda _path, text: written.append(msgspec.json.decode(text, type=Left)),
    )
    on_disk = CarriersOnDisk(Told(), tmp_path, "run-1")
    for number in range(1, 101):
        await on_disk.carrier_joined(CarrierId("c1", number))
        await asyncio.sleep(0.001)
    await asyncio.sleep(2 * EVERY_S)
    await on_disk.close()
    assert [len(left.carriers) for left in written] == [1, 100]


async def test_a_disk_that_refuses_is_told_of_once_until_it_takes_something_again(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "later"
    directory.write_text("not a directory")
    on_disk = CarriersOnDisk(Told(), directory, "run-1")
    with structlog.testing.capture_logs() as lines:
        for number in (1, 2, 3):
            await on_disk.carrier_joined(CarrierId("c1", number))
            await asyncio.sleep(2 * EVERY_S)
        assert [line["event"] for line in lines] == ["the list of carriers cannot be kept"]
        directory.unlink()
        await on_disk.carrier_joined(CarrierId("c1", 4))
        await asyncio.sleep(2 * EVERY_S)
        assert len(read_left(directory).carriers) == 4
        shutil.rmtree(directory)
        directory.write_text("not a directory")
        await on_disk.carrier_ended(CarrierId("c1", 4), ENDING)
        await asyncio.sleep(2 * EVERY_S)
        assert len(lines) == 2
    await on_disk.close()


@pytest.mark.parametrize("kept", [None, b"", b"[1", b'{"carriers": 7}', b"\xff"])
def test_a_list_that_cannot_be_read_is_an_empty_one(tmp_path: Path, kept: bytes | None) -> None:
    if kept is not None:
        (tmp_path / CARRIERS_FILE).write_bytes(kept)
    assert read_left(tmp_path) == Left()


def test_a_run_that_died_owes_the_end_of_each_carrier_with_what_is_known_of_its_death() -> None:
    left = Left("run-1", (("c1", 1), ("c2", 3)))
    facts = records_of((KILLED,))
    assert owed(left, [KILLED], at=7.0) == [
        CarrierReport(connection_id="c1", carrier=1, at=7.0, facts=facts),
        CarrierReport(connection_id="c2", carrier=3, at=7.0, facts=facts),
    ]


def test_a_run_that_left_in_order_owes_nothing() -> None:
    assert owed(Left("run-1", (("c1", 1),)), [], at=7.0) == []
