"""A real Chromium on the web interface of a stack. What the page complains of fails the test.

Law: the system's browser, headless, with a profile of its own; it is closed with its fixture. Nothing
sleeps: Playwright's expectations wait for what is to be seen.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENT_MS = 1000 * DEADLINE_S
expect.set_options(timeout=PATIENT_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """One window, and what its pages complained of."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context, self.url = context, url
        context.set_default_timeout(PATIENT_MS)
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        of_the_network = (
            "the server responded with a status of",
            "net::ERR_",
            "WebSocket connection",
        )
        if message.type == "error" and not any(one in message.text for one in of_the_network):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        where = request.url.removeprefix("ws://").removeprefix("http://")
        if not where.startswith((self.url.removeprefix("http://") + "/", "data:", "blob:")):
            self.elsewhere.append(request.url)

    def sign_in(self, stack: Stack) -> Page:
        """Open the one-time link of the stack's administrator."""
        self.page.goto(stack.tether("web", "--print").stdout.strip())
        self.page.get_by_role("navigation", name="Pages", include_hidden=True).wait_for(
            state="attached"
        )
        return self.page


@contextmanager
def window(browser: Browser, url: str, **options: Any) -> Iterator[Window]:
    """A window without cookies. At its end, no page may have complained or asked elsewhere."""
    context = browser.new_context(
        **{"viewport": {"width": 1360, "height": 860}, "base_url": url, **options}
    )
    opened = Window(context, url)
    try:
        yield opened
        assert opened.complaints == []
        assert opened.elsewhere == []
    finally:
        context.close()
