"""Fixtures of the server's own tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.server.log_rig import LogRig, log_rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LogRig]:
    """A connection log over a real database."""
    async with log_rig(tmp_path) as made:
        yield made
