"""Real sockets are tested on both loops that the product runs on."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every async test of this folder, twice."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}
