"""The event loops that an agent runs on: uvloop where it can, asyncio elsewhere.

Law: tests run on uvloop, or on the loops that `TETHER_TEST_LOOPS` names (`make fallback`).
"""

from __future__ import annotations

import os
from typing import Any

NAMES = os.environ.get("TETHER_TEST_LOOPS", "uvloop").split(",")


def backend(name: str) -> tuple[str, dict[str, Any]]:
    """anyio's name for the loop `name`."""
    return "asyncio", {"use_uvloop": name == "uvloop"}
