"""What a relay carries, kept on its disk, so that its next start can report how those carriers ended.

Law: nobody dies in silence, and a disk that refuses costs the list, not the relay. All file work after
`read_left` is done in a thread, at most one piece at a time and one a second: a carrier that lived
shorter than that may be missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tether.attribution.evidence import Evidence
from tether.config import write_atomically
from tether.log import get_logger
from tether.net.derp.splice import CarrierEnding, CarrierLog
from tether.net.tasks import Tasks
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.base import records_of
from tether.protocol.messages.derp import CarrierReport

CARRIERS_FILE = "carriers.json"
EVERY_S = 1.0

_log = get_logger("relay")


@dataclass(frozen=True, slots=True)
class Left:
    """The carriers of a run, as it last said."""

    instance_id: str = ""
    carriers: tuple[tuple[str, int], ...] = ()
    """Connection and number."""


def read_left(directory: Path) -> Left:
    """What the last run left in `directory`; nothing where that cannot be read."""
    try:
        return msgspec.json.decode((directory / CARRIERS_FILE).read_bytes(), type=Left)
    except (OSError, msgspec.MsgspecError):
        return Left()


def owed(left: Left, death: Sequence[Evidence], *, at: float) -> list[CarrierReport]:
    """The ends that a run which died owes: nothing where `death` tells of none."""
    if not death:
        return []
    facts = records_of(tuple(death))
    return [
        CarrierReport(connection_id=connection_id, carrier=number, at=at, facts=facts)
        for connection_id, number in left.carriers
    ]


class CarriersOnDisk:
    """Keeps the list of the joined carriers in `directory`, and passes on to `log`. A `CarrierLog`."""

    def __init__(self, log: CarrierLog, directory: Path, instance_id: str) -> None:
        self._log = log
        self._path = directory / CARRIERS_FILE
        self._instance_id = instance_id
        self._joined: set[tuple[str, int]] = set()
        self._changed = self._refused = False
        self._tasks = Tasks("carriers")
        self._writing: asyncio.Task[None] | None = None

    async def carrier_joined(self, carrier: CarrierId) -> None:
        """See `CarrierLog`."""
        self._joined.add((carrier.connection_id, carrier.number))
        self._save()
        await self._log.carrier_joined(carrier)

    async def carrier_ended(self, carrier: CarrierId, ending: CarrierEnding) -> None:
        """See `CarrierLog`."""
        self._joined.discard((carrier.connection_id, carrier.number))
        self._save()
        await self._log.carrier_ended(carrier, ending)

    async def close(self) -> None:
        """Write no more."""
        await self._tasks.cancel()

    def _save(self) -> None:
        self._changed = True
        if self._writing is None or self._writing.done():
            self._writing = self._tasks.spawn(self._save_until_unchanged(), "write")

    async def _save_until_unchanged(self) -> None:
        while self._changed:
            self._changed = False
            left = Left(self._instance_id, tuple(sorted(self._joined)))
            try:
                await asyncio.to_thread(write_atomically, self._path, msgspec.json.encode(left))
                self._refused = False
            except OSError as wrong:
                if not self._refused:
                    _log.warning("the list of carriers cannot be kept", error=str(wrong))
                self._refused = True
            await asyncio.sleep(EVERY_S)
