"""Takes the pictures of the web interface that the README and docs/web.md show.

    python scripts/web_screenshots.py [--to docs/img] [--all] [--root DIR]

A real server with a relay, agents and open sessions, over two played days (tests/support/server/
played_log.py), and the system's Chromium. Nothing is retouched. `--all` takes every page, for whoever
works on them. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import structlog
from playwright.sync_api import Browser, Page

from tests.support.e2e.browser import Window, chromium, window
from tests.support.e2e.played_stack import LIVE, PlayedStack, played_stack

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 1}
DESK = {"viewport": {"width": 1360, "height": 860}}
DARK = {"color_scheme": "dark"}
MOST_BYTES = 200_000


class Camera:
    """Takes pictures of one stack's pages."""

    def __init__(self, browser: Browser, stack: PlayedStack, to: Path) -> None:
        self._browser, self._stack, self._to = browser, stack, to
        with window(browser, stack.url) as opened:
            opened.sign_in(stack)
            self._signed_in = opened.context.storage_state()

    def take(self, name: str, path: str, *, until: str, full: bool = False, **options: Any) -> None:
        """Show `path`, wait until `until` (a selector) is there, and keep the picture as `name`."""
        with self.window(**{**DESK, **options}) as opened:
            page = opened.page
            page.goto(path)
            page.locator(until).first.wait_for()
            self.keep(name, page, full)

    def keep(self, name: str, page: Page, full: bool = False) -> None:
        """Keep what `page` shows."""
        page.wait_for_function("!document.querySelector('[aria-busy=true]')")
        page.mouse.move(0, 0)
        picture = self._to / f"{name}.png"
        page.screenshot(path=picture, full_page=full, animations="disabled", caret="hide")
        size = picture.stat().st_size
        print(f"{picture}: {size:,} bytes{' TOO LARGE' if size > MOST_BYTES else ''}", flush=True)

    def window(self, **options: Any) -> AbstractContextManager[Window]:
        """A window of the administrator."""
        signed_in = {"storage_state": self._signed_in}
        return window(self._browser, self._stack.url, **options, **signed_in)

    def terminal(self, name: str) -> None:
        """A terminal that has been detached and has come back."""
        with self.window(**DESK) as opened:
            page = opened.page
            page.goto(f"/terminal?workspace={self._stack.workspace}")
            page.locator(".view[data-state='attached']").wait_for()
            page.locator(".xterm-helper-textarea").focus()
            page.keyboard.type(
                "PS1='dev:~$ '; clear; ls --color=always -C /etc | head -12; uname -sr\n"
            )
            page.locator(".xterm-rows", has_text="Linux").wait_for()
            self.keep(name, page)


def of_the_readme(camera: Camera, stack: PlayedStack) -> None:
    """What the README shows."""
    slept = stack.connections(cause="client.suspended")[0]["connection_id"]
    incident = stack.connections(cause="agent.oom_killed")[0]["incident_id"]
    one_cause = "/connections?cause=client.suspended&since=7d"
    camera.take("first-screen", "/", until=".sides b")
    camera.take("first-screen-dark", "/", until=".sides b", **DARK)
    camera.take("first-screen-phone", "/", until=".sides b", **PHONE)
    camera.take("connections-one-cause", one_cause, until="aside summary")
    camera.take("one-end", f"/connections/{slept}", until=".lanes .dot")
    camera.take("incident", f"/incidents/{incident}", until="table tbody tr")
    camera.terminal("terminal")


PAGES = {
    "connections": ("/connections", "aside summary"),
    "connections-open": ("/connections?open={slept}", ".lanes .dot"),
    "incidents": ("/incidents", "table tbody tr"),
    "person": ("/people/ben", "h2"),
    "people": ("/people", "h1"),
    "workspaces": ("/workspaces", "table tbody tr"),
    "workspace": ("/workspaces/api", ".strip a.link"),
    "deploys": ("/deploys", "table tbody tr"),
    "relays": ("/relays", "h1"),
    "fleet": ("/fleet", "table tbody tr"),
    "admin": ("/admin", "dl"),
    "account": ("/account", "h1"),
}
"""Name -> path, and what is there once it is loaded."""


def every_page(camera: Camera, stack: PlayedStack) -> None:
    """The others, light on a desk and dark on a phone."""
    slept = stack.connections(cause="client.suspended")[0]["connection_id"]
    for name, (path, until) in PAGES.items():
        where = path.format(slept=slept)
        camera.take(name, where, until=until, full=True)
        camera.take(f"{name}-phone-dark", where, until=until, full=True, **PHONE, **DARK)


def main() -> int:
    """Build the stack, take the pictures, and take it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("docs/img"))
    parser.add_argument("--root", type=Path, help="of the history; it is kept")
    parser.add_argument("--all", action="store_true", help="every page")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    options.to.mkdir(parents=True, exist_ok=True)
    kept = options.root and nullcontext(str(options.root))
    with (
        kept or tempfile.TemporaryDirectory(prefix="tether-pictures-") as root,
        played_stack(Path(root), live=LIVE) as stack,
        chromium() as browser,
    ):
        stack.start_relay("eu-central")
        for _ in range(2):
            stack.open_session("sleep", "600")
        camera = Camera(browser, stack, options.to)
        of_the_readme(camera, stack)
        if options.all:
            every_page(camera, stack)
    return 0


if __name__ == "__main__":
    sys.exit(main())
