"""The DERP map in a file: read at the start, and again when the file changes or on a signal.

Law: a file that makes no sense is refused with one line, and the map that was read last stays in use.
"""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path

from tether.log import get_logger
from tether.protocol.messages.derp import DerpRegion
from tether.server.derp.map import BadDerpMap, Regions, read_map

LOOK_EVERY_S = 2.0
"""How often the file's time of change is looked at: not every file system notifies of changes."""

MAX_BYTES = 1 << 20

_log = get_logger("derp")


class DerpMapFile:
    """One file, JSON or (by its name's end) TOML."""

    def __init__(self, path: Path, regions: Regions) -> None:
        self._path = path
        self._regions = regions
        self._seen: tuple[int, int, int] | None = None
        self._again = asyncio.Event()

    def load(self) -> None:
        """Read the file and put it into use.

        Raises:
            BadDerpMap: it cannot be read, or makes no sense.
        """
        self._seen = self._stamp()
        regions = _read(self._path)
        self._regions.set_map(regions)
        _log.info(
            "derp map loaded", path=str(self._path), regions=[region.name for region in regions]
        )

    def reload(self) -> None:
        """Have the file read anew."""
        self._again.set()

    async def follow(self) -> None:
        """Read the file anew whenever it has changed or somebody asks, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._again.wait()
            except TimeoutError:
                if self._stamp() == self._seen:
                    continue
            self._again.clear()
            try:
                self.load()
            except BadDerpMap as wrong:
                _log.error("derp map not loaded", path=str(self._path), error=str(wrong))

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            now = self._path.stat()
        except OSError:
            return None
        return now.st_mtime_ns, now.st_size, now.st_ino


def _read(path: Path) -> tuple[DerpRegion, ...]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as wrong:
        raise BadDerpMap(f"{path} cannot be read: {wrong.strerror}") from wrong
    if len(raw) > MAX_BYTES:
        raise BadDerpMap(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        text = raw.decode()
        plain: object = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as wrong:  # both formats' errors are ValueErrors
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise BadDerpMap(f"{path} is not {kind}: {wrong}") from wrong
    try:
        return read_map(plain)
    except BadDerpMap as wrong:
        raise BadDerpMap(f"{path}: {wrong}") from wrong
