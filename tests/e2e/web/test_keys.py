"""The keyboard on the pages, and what a reader asked of their system: dark colours, no motion."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.e2e.browser import window
from tests.support.e2e.stack import Stack

pytestmark = [pytest.mark.real]


def rows_of_two(page: Page, stack: Stack) -> None:
    """Show connections where there are at least two."""
    for _ in range(2):
        stack.ssh("true", check=True)
    page.goto("/connections")
    expect(page.locator("tr[data-id]").nth(1)).to_be_visible()


def test_keys_move_open_search_and_leave(page: Page, stack: Stack) -> None:
    rows_of_two(page, stack)
    chosen = page.locator("tr.at")
    first, second = (page.locator("tr[data-id]").nth(n).get_attribute("data-id") for n in (0, 1))
    page.keyboard.press("j")
    expect(chosen).to_have_attribute("data-id", first or "")
    page.keyboard.press("j")
    expect(chosen).to_have_attribute("data-id", second or "")
    page.keyboard.press("k")
    expect(chosen).to_have_attribute("data-id", first or "")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"open={first}"))
    expect(page.get_by_role("region", name="The connection")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="The connection")).to_have_count(0)
    page.keyboard.press("/")
    search = page.get_by_role("searchbox", name="Search")
    expect(search).to_be_focused()
    page.keyboard.type("j?")  # while one types, keys are letters
    expect(search).to_have_value("j?")
    page.keyboard.press("Escape")
    expect(search).not_to_be_focused()


def test_a_question_mark_shows_the_keys_and_they_go_to_pages(page: Page) -> None:
    page.keyboard.press("?")
    listed = page.get_by_role("dialog", name="Keys")
    expect(listed).to_contain_text("go to connections")
    page.keyboard.press("Escape")
    expect(listed).to_have_count(0)
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", name="Connections")).to_be_visible()


def test_a_row_can_be_reached_and_opened_without_a_mouse(page: Page, stack: Stack) -> None:
    rows_of_two(page, stack)
    page.get_by_role("searchbox", name="Search").focus()
    link = page.locator("tr[data-id] td.how a").first
    for _ in range(80):
        page.keyboard.press("Tab")
        if link.evaluate("one => one === document.activeElement"):
            break
    expect(link).to_be_focused()
    assert link.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="The connection")).to_be_visible()


def test_the_systems_colours_and_stillness_are_followed(browser: Browser, stack: Stack) -> None:
    looks = {}
    for scheme in ("light", "dark"):
        options = {"color_scheme": scheme, "reduced_motion": "reduce"}
        with window(browser, stack.url, **options) as opened:
            page = opened.sign_in(stack)
            looks[scheme] = page.evaluate(
                "getComputedStyle(document.documentElement).backgroundColor"
            )
            moving = page.evaluate(
                "[...document.querySelectorAll('*')].filter(one => {"
                " const s = getComputedStyle(one);"
                " return s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0 })"
                ".length"
            )
            assert moving == 0
    assert looks == {"light": "rgb(246, 247, 249)", "dark": "rgb(15, 17, 21)"}


def test_the_button_for_dark_or_light_is_remembered(page: Page) -> None:
    page.get_by_role("button", name="Dark or light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
