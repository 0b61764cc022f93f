"""Signing in and out, and what the browser is allowed."""

from __future__ import annotations

import urllib.request

import pytest
from playwright.sync_api import Page, expect

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.browser import Window
from tests.support.e2e.stack import Stack

pytestmark = [pytest.mark.real]


def test_a_link_signs_in_once(fresh: Window, stack: Stack) -> None:
    link = stack.tether("web", "--print").stdout.strip()
    fresh.page.goto(link)
    expect(fresh.page.get_by_role("link", name="Connections", exact=True)).to_be_visible()
    assert "link=" not in fresh.page.url
    (cookie,) = fresh.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    fresh.page.get_by_role("button", name="Sign out").click()
    expect(fresh.page.get_by_text("You are signed out.")).to_be_visible()
    fresh.page.goto("about:blank")
    fresh.page.goto(link)
    expect(fresh.page.get_by_role("alert")).to_contain_text("was used already")


def test_a_token_signs_in_and_a_wrong_one_is_told_so(fresh: Window, stack: Stack) -> None:
    fresh.page.goto("/")
    token = fresh.page.get_by_label("Your token")
    token.fill("tether_user_" + "x" * 43)
    fresh.page.get_by_role("button", name="Sign in").click()
    expect(fresh.page.get_by_role("alert")).to_contain_text("is not known here")
    token.fill((stack.root / "server" / "admin-token").read_text().strip())
    fresh.page.get_by_role("button", name="Sign in").click()
    expect(fresh.page.get_by_role("link", name="Connections", exact=True)).to_be_visible()


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(stack: Stack) -> None:
    with urllib.request.urlopen(stack.url + "/") as answer:
        policy = answer.headers["content-security-policy"]
        assert b"<script>" not in answer.read()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_connection_appears_and_ends_while_one_looks(page: Page, stack: Stack) -> None:
    page.get_by_role("link", name="Connections", exact=True).click()
    expect(page.get_by_role("heading", name="Connections")).to_be_visible()
    with stack.one_new_row() as row:
        ssh = stack.spawn_ssh(stack.host)
        ongoing = page.locator("tbody tr", has_text="Open").filter(has_text=stack.workspace)
        expect(ongoing.filter(has_text="ssh")).to_have_count(1)
        expect(page.get_by_text("1 connection", exact=True)).to_be_visible()
        ssh.communicate(b"exit\n", timeout=DEADLINE_S)
    ended = page.locator(f"tr[data-id='{row['id']}']")
    expect(ended).to_contain_text("The command or shell ended")
