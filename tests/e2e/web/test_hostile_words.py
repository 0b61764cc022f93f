"""Words that others wrote only stand on a page: markup, bidi overrides, escape sequences.

What the server would refuse at its door is written into its database: no page may rely on that.
"""

from __future__ import annotations

import sqlite3
import time
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.support.e2e.stack import Stack

pytestmark = [pytest.mark.real, pytest.mark.long]

RUNS = "document.body.dataset.hit='1'"
MARKUP = f'<img src=x onerror="{RUNS}"><script>{RUNS}</script>'
BIDI = "safe\u202egnp.exe\u202c"
ESCAPE = "\x1b[2J\x1b]0;owned\x07"
HOSTILE = MARKUP + BIDI + ESCAPE
ID = "e0" * 16
FREE_WORDS = (
    *("workspace", "user", "agent", "client_ip", "app", "disconnect_detail", "disconnect_actor"),
    *("relay_region", "exit_signal", "client_session_id", "rule"),
)


@pytest.fixture
def written(stack: Stack) -> None:
    """A connection all of whose free words are hostile, and its incident."""
    words = dict.fromkeys(FREE_WORDS, HOSTILE)
    now = time.time()
    row = {
        **words,
        "connection_id": ID,
        "status": "closed",
        "connect_type": "agent_to_client",
        "type": "ssh",
        "connection_method": "derp",
        "created_at": now - 60,
        "connected_at": now - 60,
        "disconnected_at": now - 5,
        "disconnect_reason": "process_crashed",
        "coarse_reason": "unknown",
        "disconnect_expected": False,
        "disconnect_initiator": "server",
        "disconnect_cause": "relay.crashed",
        "disconnect_basis": "observed",
        "confidence": "high",
        "revision": 1,
        "incident_id": ID,
        "incident_key": f"relay:{HOSTILE}",
    }
    names = ", ".join(f'"{name}"' for name in row)
    with sqlite3.connect(stack.root / "server" / "server.db", timeout=30) as raw:
        raw.execute(
            f"INSERT OR IGNORE INTO connections ({names}) VALUES ({', '.join('?' * len(row))})",
            list(row.values()),
        )
        raw.execute(
            "INSERT OR IGNORE INTO incidents (incident_id, element, cause, root_event_id, began_at)"
            " VALUES (?, ?, 'relay.crashed', ?, ?)",
            (ID, f"relay:{HOSTILE}", ID, now - 5),
        )
    raw.close()


def is_inert(page: Page) -> None:
    """Nothing of it ran, became an element, or went elsewhere."""
    assert page.evaluate("document.body.dataset.hit ?? ''") == ""
    assert page.locator("main img, main script").count() == 0
    assert "owned" not in page.title()


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/connections",
        f"/connections?open={ID}",
        f"/connections/{ID}",
        f"/connections?q={quote(MARKUP)}",
        f"/connections?user={quote(MARKUP + BIDI, safe='')}",
        "/incidents",
        f"/incidents/{ID}",
        "/people",
        f"/people/{quote(MARKUP, safe='')}",
        "/relays",
        f"/workspaces/{quote(MARKUP, safe='')}",
    ],
)
def test_hostile_words_stand_on_the_page_and_do_nothing(page: Page, path: str) -> None:
    page.goto(path)
    page.locator("main h1, main [role=alert]").first.wait_for()
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    is_inert(page)


@pytest.mark.usefixtures("written")
def test_the_words_are_shown_as_they_were_written(page: Page) -> None:
    page.goto(f"/connections/{ID}")
    detail = page.locator(".detail")
    expect(detail).to_contain_text(MARKUP)
    expect(detail).to_contain_text(BIDI)
    assert detail.evaluate("one => getComputedStyle(one).unicodeBidi") == "isolate"
    is_inert(page)


def test_a_terminals_title_is_text(page: Page, stack: Stack) -> None:
    page.goto(f"/terminal?workspace={stack.workspace}")
    page.locator(".view[data-state='attached']").wait_for()
    page.locator(".xterm-helper-textarea").focus()
    title = MARKUP.replace("'", "'\\''").replace("%", "%%")
    page.keyboard.type(f"printf '\\033]0;{title}\\007'; echo do''ne\n")
    expect(page.locator(".xterm-rows")).to_contain_text("done")
    assert page.evaluate("document.body.dataset.hit ?? ''") == ""
    assert page.locator("img").count() == 0
    page.keyboard.type("exit\n")
