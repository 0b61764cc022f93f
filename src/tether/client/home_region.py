"""The DERP region that is nearest to this machine, as `tether netcheck` found it last.

Law: a hint and no more. It is told with each tunnel and each carrier, and the server decides; what is
missing, old, of another server or damaged is no hint.
"""

from __future__ import annotations

import json

from tether.config import ClientFiles, unless_read_only, write_atomically
from tether.protocol.derp.latency import RegionLatency

GOOD_FOR_S = 7 * 86400.0


def load_home(files: ClientFiles, url: str, now: float) -> RegionLatency:
    """What was found. `now` is in unix seconds."""
    try:
        saved = json.loads((files.directory / "netcheck.json").read_bytes())
        if saved["url"] == url and 0 <= now - float(saved["at"]) < GOOD_FOR_S:
            latency_s = {str(k): float(v) for k, v in saved.get("latency_s", {}).items()}
            return RegionLatency(str(saved["home_region"]), latency_s)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return RegionLatency()


def save_home(files: ClientFiles, url: str, found: RegionLatency, now: float) -> None:
    """Remember what was found."""
    told = {"url": url, "home_region": found.home, "latency_s": dict(found.latency_s), "at": now}
    with unless_read_only():
        write_atomically(files.directory / "netcheck.json", f"{json.dumps(told)}\n", mode=0o600)
