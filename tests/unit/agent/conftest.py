"""The agent's tests run on the agent's loops."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.agent import loops


@pytest.fixture(params=loops.NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return loops.backend(request.param)
