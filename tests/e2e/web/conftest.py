"""A browser for a module, and a window that is signed in for a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.support.e2e.browser import Window, chromium, window
from tests.support.e2e.stack import Stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def fresh(browser: Browser, stack: Stack) -> Iterator[Window]:
    """A window that nobody is signed in in."""
    with window(browser, stack.url) as opened:
        yield opened


@pytest.fixture
def page(fresh: Window, stack: Stack) -> Page:
    """A page of the administrator."""
    return fresh.sign_in(stack)
