"""The DERP region that is nearest to this machine, as `tether netcheck` found it last.

Law: a hint and no more. It is asked for with each tunnel, and the server decides; what is missing, old,
of another server or damaged is no hint.
"""

from __future__ import annotations

import json

from tether.config import ClientFiles, write_atomically

GOOD_FOR_S = 7 * 86400.0


def load_home(files: ClientFiles, url: str, now: float) -> str:
    """The region, or "". `now` is in unix seconds."""
    try:
        saved = json.loads((files.directory / "netcheck.json").read_bytes())
        if saved["url"] == url and 0 <= now - float(saved["at"]) < GOOD_FOR_S:
            return str(saved["home_region"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ""


def save_home(files: ClientFiles, url: str, region: str, now: float) -> None:
    """Remember `region` as the nearest one."""
    files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps({"url": url, "home_region": region, "at": now})
    write_atomically(files.directory / "netcheck.json", f"{text}\n", mode=0o600)
