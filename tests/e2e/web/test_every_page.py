"""Every page for everybody: no violation that axe finds, and nothing wider than the window.

A page is looked at as an administrator over two played days, on a desk and on a phone, in light and in
dark. axe-core comes with axe-playwright-python.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.support.e2e.browser import window
from tests.support.e2e.played_stack import PlayedStack, played_stack

pytestmark = [pytest.mark.real, pytest.mark.long]

SIZES = {"desk": {"width": 1360, "height": 860}, "phone": {"width": 390, "height": 844}}

PAGES = {
    "/": ".sides b",
    "/connections": "tr[data-id]",
    "/connections?open={end}": ".lanes .dot",
    "/connections/{end}": ".lanes .dot",
    "/incidents": "tbody tr",
    "/incidents/{incident}": "tbody tr",
    "/people": "main a[href^='/people/']",
    "/people/ben": "main h2",
    "/workspaces": "tbody tr",
    "/workspaces/data-lab": ".strip",
    "/relays": "main h1",
    "/deploys": "tbody tr",
    "/deploys/run-after": "main h1",
    "/fleet": "tbody tr",
    "/terminal": "main h1, main label",
    "/admin": "main dl",
    "/account": "main h1",
}
"""Path -> what is there once it is loaded."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedStack]:
    if shutil.which("ssh") is None:
        pytest.skip("OpenSSH's ssh is not installed")
    with played_stack(tmp_path_factory.mktemp("played") / "stack") as stack:
        stack.open_session("sleep", "600")
        yield stack


@pytest.fixture(scope="module")
def signed_in(browser: Browser, played: PlayedStack) -> Any:
    """The cookies of an administrator."""
    with window(browser, played.url) as opened:
        opened.sign_in(played)
        return opened.context.storage_state()


WIDEST = """[...document.querySelectorAll('body *')]
  .filter((one) => one.getBoundingClientRect().right > innerWidth)
  .map((one) => one.outerHTML.slice(0, 80)).slice(-3).join(' … ')"""
"""The innermost of what sticks out to the right."""


def violations(page: Page) -> list[str]:
    """What axe finds, one line for each element."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(
    browser: Browser, played: PlayedStack, signed_in: Any, size: str, scheme: str
) -> None:
    end = played.connections(cause="client.suspended")[0]
    incident = played.connections(cause="agent.oom_killed")[0]
    found: dict[str, list[str]] = {}
    wide: list[str] = []
    with window(
        browser,
        played.url,
        viewport=SIZES[size],
        color_scheme=scheme,
        storage_state=signed_in,
        bypass_csp=True,  # axe is put into the page as a script
        reduced_motion="reduce",
    ) as opened:
        page = opened.page
        for path, until in PAGES.items():
            page.goto(path.format(end=end["connection_id"], incident=incident["incident_id"]))
            page.locator(until).first.wait_for()
            expect(page.locator("[aria-busy=true]")).to_have_count(0)
            page.locator("h1").first.wait_for()
            if left := violations(page):
                found[path] = left
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wide.append(f"{path}: {page.evaluate(WIDEST)}")
    assert (found, wide) == ({}, [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page_to_sign_in(
    browser: Browser, played: PlayedStack, scheme: str
) -> None:
    with window(browser, played.url, color_scheme=scheme, bypass_csp=True) as opened:
        opened.page.goto("/")
        opened.page.get_by_label("Your token").wait_for()
        assert violations(opened.page) == []
