"""Fixtures for every test. Law: nothing here starts a process or opens a socket."""

from __future__ import annotations

import os

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support import loop
from tether.net import unexpected

# Shared two-core machines are slow now and then; a slow example is not a failing one.
_patient = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True, database=None
)
# A change is judged by the same examples every time; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("tether", _patient, derandomize=True)
settings.register_profile("explore", _patient, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tether"))

# A traceback with every local variable, as structlog prints it by itself, takes ten seconds.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


@pytest.fixture(autouse=True)
def _log_each_first_again() -> None:
    """What no table foresees is logged once for each kind in a process, and here once in a test."""
    unexpected.forget()


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio: the product uses nothing else."""
    return "asyncio"


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`virtual_time` puts an async test and its fixtures on the jumping loop, and on no other."""
    mark = metafunc.definition.get_closest_marker("virtual_time")
    if mark is not None and "anyio_backend" in metafunc.fixturenames:
        jumping = pytest.param(loop.backend(**mark.kwargs), id=pytest.HIDDEN_PARAM)
        metafunc.definition.add_marker(pytest.mark.parametrize("anyio_backend", [jumping]))
