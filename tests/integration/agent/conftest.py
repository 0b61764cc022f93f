"""An agent's SSH server and a client of it, on the agent's loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.support.agent import loops
from tests.support.agent.agent_rig import AgentRig, agent_rig
from tests.support.deadline import DEADLINE_S


@pytest.fixture(params=loops.NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return loops.backend(request.param)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[AgentRig]:
    """An agent's SSH server with its loopback port."""
    async with agent_rig(tmp_path) as made:
        yield made


@pytest.fixture
async def client(agent: AgentRig) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """asyncssh's client, logged in."""
    async with await agent.connect() as connection, asyncio.timeout(DEADLINE_S):
        yield connection
