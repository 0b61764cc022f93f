"""The terminal in a page: it types, survives a cut line and a reload, and says why it ended."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.e2e.browser import window
from tests.support.e2e.stack import Stack

pytestmark = [pytest.mark.real, pytest.mark.long]


def open_terminal(page: Page, stack: Stack) -> None:
    page.goto(f"/terminal?workspace={stack.workspace}")
    expect(page.locator(".view[data-state='attached']")).to_be_visible(timeout=20_000)


def shows(page: Page, text: str | re.Pattern[str], timeout: float = 20_000) -> None:
    expect(page.locator(".xterm-rows")).to_contain_text(text, timeout=timeout)


def type_line(page: Page, line: str) -> None:
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.type(line)
    page.keyboard.press("Enter")


def test_a_shell_runs_in_the_page_and_its_end_is_told(page: Page, stack: Stack) -> None:
    open_terminal(page, stack)
    type_line(page, "echo he''llo $((40+2))")
    shows(page, "hello 42")
    with stack.one_new_row() as row:
        page.reload()
        shows(page, "hello 42")
        type_line(page, "exit 3")
        expect(page.get_by_role("status").filter(has_text="exit code 3")).to_be_visible()
    assert (row["type"], row["disconnect_cause"], row["exit_code"]) == (
        "reconnecting_pty",
        "session.exit",
        3,
    )


def test_vim_draws_and_follows_the_windows_size(page: Page, stack: Stack) -> None:
    open_terminal(page, stack)
    type_line(page, "vim -u NONE -c 'set ruler laststatus=2' notes.txt")
    shows(page, "notes.txt")
    page.keyboard.type("ione line from a browser")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 900, "height": 500})
    page.keyboard.type(":wq")
    page.keyboard.press("Enter")
    type_line(page, "cat notes.txt; stty size")
    shows(page, "one line from a browser")
    shows(page, re.compile(r"[12]\d \d{2}(?!\d)"))
    type_line(page, "exit")


def test_ten_megabytes_come_without_a_stall(page: Page, stack: Stack) -> None:
    open_terminal(page, stack)
    type_line(page, "head -c 7500000 /dev/urandom | base64 | tail -c 10000000; echo do''ne")
    shows(page, "done", timeout=60_000)
    type_line(page, "exit")


def test_a_server_that_restarts_is_told_in_one_line_and_nothing_is_lost(
    browser: Browser, own_stack: Stack
) -> None:
    with window(browser, own_stack.url) as opened:
        page = opened.sign_in(own_stack)
        open_terminal(page, own_stack)
        type_line(page, "marker=st''ill-here")
        own_stack.server.stop()
        interrupted = page.get_by_role("status").filter(has_text="interrupted")
        expect(interrupted).to_be_visible(timeout=20_000)
        own_stack.start_server()
        expect(page.locator(".view[data-state='attached']")).to_be_visible(timeout=60_000)
        type_line(page, "echo =$marker=")
        shows(page, "=still-here=", timeout=30_000)
        type_line(page, "exit")


def test_a_page_stays_on_its_own_origin_where_there_are_relays_of_others(
    browser: Browser, own_stack: Stack
) -> None:
    own_stack.start_relay("eu-1")
    with own_stack.one_new_row() as row, window(browser, own_stack.url) as opened:
        page = opened.sign_in(own_stack)
        open_terminal(page, own_stack)
        type_line(page, "exit")
        expect(page.get_by_role("status").filter(has_text="exit code 0")).to_be_visible()
    assert row["disconnect_cause"] == "session.exit"
