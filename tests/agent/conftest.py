"""The agent runs on uvloop where it can, on asyncio elsewhere: its tests run on uvloop, or on the loops
that `TETHER_TEST_LOOPS` names (`make fallback`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.agent.support import World, world


@pytest.fixture(params=os.environ.get("TETHER_TEST_LOOPS", "uvloop").split(","))
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[World]:
    """An agent's SSH server with its loopback port."""
    async with world(tmp_path) as made:
        yield made


@pytest.fixture
async def client(agent: World) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """asyncssh's client, logged in."""
    async with await agent.connect() as connection, asyncio.timeout(30):
        yield connection
