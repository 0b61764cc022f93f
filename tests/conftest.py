"""Fixtures for every test. Law: nothing here starts a process or opens a socket."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Shared two-core machines are slow now and then; a slow example is not a failing one.
settings.register_profile(
    "tether", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("tether")


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio: the product uses nothing else."""
    return "asyncio"
