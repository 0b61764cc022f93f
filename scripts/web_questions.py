"""The ten-second test: an operator's twelve questions, over a log of a million rows, and what they cost.

    python scripts/web_questions.py [--rows 1000000] [--to docs/img] [--write docs/web.md] [--root DIR]

Each question starts on the first screen; its interactions are done in the system's Chromium, and the
picture is taken once the answer is there. Then what the pages ask of the API is measured: milliseconds
by the clock, and of the server's own CPU. `--write` replaces this script's sections of the page.
`--root` takes (or makes) the history in a directory that is kept. A million rows take 0.8 GB.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import structlog
from playwright.sync_api import Page
from web_screenshots import DESK, Camera

from tests.support.e2e.browser import chromium
from tests.support.e2e.played_stack import PlayedStack, played_stack

QUESTIONS_HEADING = "## Twelve questions of an operator"
TIMES_HEADING = "## What the pages cost"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Click:
    """One interaction: a link, a button, a row's link, or words typed into the search."""

    role: Any
    name: str = ""
    exact: bool = False
    region: str = ""
    """Where there are several: the accessible name of the part of the page."""

    def do(self, page: Page) -> None:
        within = page.get_by_label(self.region, exact=True) if self.region else page
        if self.role == "search":
            page.get_by_role("searchbox", name="Search").fill(self.name)
        elif self.role == "row":
            page.get_by_role("row", name=self.name).first.get_by_role("link").first.click()
        else:
            within.get_by_role(self.role, name=self.name, exact=self.exact).first.click()

    def __str__(self) -> str:
        return f"type “{self.name}”" if self.role == "search" else f"“{self.name}”"


def link(name: str, region: str = "", exact: bool = False) -> Click:
    return Click("link", name, exact, region)


@dataclass(frozen=True)
class Question:
    """`answer` is a selector, and `says` what it contains once the question is answered."""

    asked: str
    picture: str
    clicks: tuple[Click, ...]
    answer: str
    says: str


PAGES = "Pages"
QUESTIONS = (
    Question("Who was cut off since yesterday, and was it us?", "who", (), ".side.us", "goran"),
    Question(
        "What is new today against the day before?",
        "new",
        (),
        "section[aria-label='What changed']",
        "new",
    ),
    Question(
        "Which relay failed, who was hit, and are they back?",
        "relay",
        (link("The relay was killed or crashed", "Incidents"),),
        "main",
        "are back",
    ),
    Question(
        "Why was ben cut off, and what is he to do?",
        "ben-last",
        (link("2×", "Network"),),
        ".sentence",
        "",
    ),
    Question(
        "Why does ben get dropped every day?",
        "ben",
        (link("People", PAGES, True), link("ben", "", True)),
        "main",
        "NAT",
    ),
    Question(
        "Who had the same trouble as ben?",
        "same-cause",
        (link("A NAT in between lost the connection", "What changed"),),
        "tr[data-id]",
        "NAT",
    ),
    Question(
        "What did the last deploy do to people?",
        "deploy",
        (link("deploys"), Click("row", "deploy of")),
        ".three .panel",
        "",
    ),
    Question(
        "Who is connected right now?",
        "now",
        (link("open"),),
        "tr[data-id]",
        "Open",
    ),
    Question(
        "When was the agent of data-lab away, and why?",
        "workspace",
        (link("Workspaces", PAGES), link("data-lab", "", True)),
        "section[aria-label='Latest ends']",
        "memory",
    ),
    Question(
        "Which causes came how often in the last month?",
        "month",
        (link("Connections", PAGES), Click("button", "30 days")),
        "aside",
        "The client",
    ),
    Question(
        "What became of the connections from 203.0.113.17?",
        "address",
        (link("Connections", PAGES), Click("search", "203.0.113.17")),
        "tr[data-id]",
        "ben",
    ),
    Question(
        "Which agents are outdated or silent?",
        "fleet",
        (link("Fleet", PAGES),),
        "tbody tr",
        "data-lab",
    ),
)

ASKED = {
    "first screen": "/overview",
    "connections of a day": "/log?since=24h&type=!control&limit=100",
    "… counted": "/log/summary?since=24h&type=!control",
    "connections, one cause, a week": "/log?since=7d&cause=client.suspended&limit=100",
    "… counted ": "/log/summary?since=7d&cause=client.suspended",
    "connections, all": "/log?type=!control&limit=100",
    "… counted  ": "/log/summary?type=!control",
    "connections, a word in a year": "/log?q=203.0.113.17&limit=100",
    "one end": "/connections/{slept}",
    "incidents": "/incidents",
    "people": "/log/summary?since=7d&expected=false&connect_type=agent_to_client",
    "a person": "/people/u7",
    "a workspace": "/workspaces/w77/life",
    "relays": "/relays",
    "fleet": "/fleet",
    "deploys": "/restarts",
    "report of one cause": "/report?cause=session.exit",
    "report of everything": "/report",
}
"""What is shown -> what it asks of the API."""


def answers(camera: Camera) -> list[str]:
    """Ask every question; lines of the table."""
    told = []
    with camera.window(**DESK) as opened:
        page = opened.page
        for number, question in enumerate(QUESTIONS, 1):
            page.goto("/")
            page.locator(".sides b").first.wait_for()
            began = time.monotonic()
            for click in question.clicks:
                click.do(page)
            page.locator(question.answer, has_text=question.says).first.wait_for()
            took = time.monotonic() - began
            name = f"question-{question.picture}"
            camera.keep(name, page)
            how = ", ".join(map(str, question.clicks)) or "none: it is on the first screen"
            told.append(
                f"| {number} | {question.asked} | {len(question.clicks)}: {how} |"
                f" {took:.1f} s | [picture](img/{name}.png) |"
            )
            print(told[-1], flush=True)
    return told


def costs(stack: PlayedStack, times: int) -> list[str]:
    """Ask the API; lines of the table."""
    told = []
    slept = stack.connections(cause="client.suspended")[0]["connection_id"]
    for name, path in ASKED.items():
        asked = path.format(slept=slept)
        ask: Callable[[], Any] = lambda asked=asked: stack.api.get(asked)  # noqa: E731
        ask()
        walls = []
        before = cpu_s(stack.server.pid)
        for _ in range(times):
            began = time.perf_counter()
            ask()
            walls.append(1000 * (time.perf_counter() - began))
        cpu = 1000 * (cpu_s(stack.server.pid) - before) / times
        shown = path.partition("?")[0]
        told.append(
            f"| {name.strip()} | `{shown}` | {statistics.median(walls):.0f} | {max(walls):.0f} |"
            f" {cpu:.0f} |"
        )
        print(told[-1], flush=True)
    return told


def cpu_s(pid: int) -> float:
    """The seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def put(where: Path, heading: str, lines: list[str]) -> None:
    """Put a section into the page, in the place of what was there."""
    before, _, rest = where.read_text().partition(heading)
    after = rest[rest.find("\n## ") + 1 :] if "\n## " in rest else ""
    section = "\n".join((heading, "", *lines, ""))
    where.write_text(before.rstrip() + "\n\n" + section + ("\n" + after if after else ""))


def main() -> int:
    """Build the stack, ask, and take it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=7, help="calls of each kind")
    parser.add_argument("--to", type=Path, default=Path("docs/img"))
    parser.add_argument("--root", type=Path, help="of the history; it is kept")
    parser.add_argument("--write", type=Path, help="put the sections into this page")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    options.to.mkdir(parents=True, exist_ok=True)
    kept = options.root and nullcontext(str(options.root))
    with (
        kept or tempfile.TemporaryDirectory(prefix="tether-questions-") as root,
        played_stack(Path(root), rows=options.rows) as stack,
    ):
        for _ in range(2):
            stack.open_session("sleep", "600")
        measured = costs(stack, options.times)
        with chromium() as browser:
            answered = answers(Camera(browser, stack, options.to))
    said = (
        f"Written by `scripts/web_questions.py` on {datetime.now(UTC):%Y-%m-%d}; never edited by hand."
        f" {options.rows:,} connections in a year, SQLite, and two played days on top; load average"
        f" {os.getloadavg()[1]:.1f} on {os.cpu_count()} CPUs."
    )
    questions = [
        "| | question | interactions | answered in | |",
        "|---|---|---|---|---|",
        *answered,
    ]
    times = [
        "| shown | asked | p50 ms | slowest | server's CPU ms |",
        "|---|---|---|---|---|",
        *measured,
    ]
    if options.write:
        put(options.write, QUESTIONS_HEADING, [said, "", *questions])
        put(options.write, TIMES_HEADING, [said, "", *times])
    return 0


if __name__ == "__main__":
    sys.exit(main())
