"""What the program of a reconnecting terminal starts with."""

from __future__ import annotations

import pytest

from tether.agent.terminal.service import with_terminal


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"LC_CTYPE": "C.UTF-8"}),
        ({"LANG": "en_US.UTF-8"}, {"LANG": "en_US.UTF-8"}),
        ({"LANG": "de_DE.utf8"}, {"LANG": "de_DE.utf8"}),
        ({"LANG": "C"}, {"LANG": "C", "LC_CTYPE": "C.UTF-8"}),
        ({"LC_CTYPE": "C"}, {"LC_CTYPE": "C.UTF-8"}),
        ({"LC_CTYPE": "en_US.UTF-8", "LANG": "C"}, {"LC_CTYPE": "en_US.UTF-8", "LANG": "C"}),
        ({"LANG": "en_US.UTF-8", "LC_CTYPE": "C"}, {"LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8"}),
        ({"LC_ALL": "C"}, {"LC_ALL": "C"}),
        ({"LC_ALL": "", "LANG": "C"}, {"LC_ALL": "", "LANG": "C", "LC_CTYPE": "C.UTF-8"}),
        ({"TERM": "dumb"}, {"LC_CTYPE": "C.UTF-8"}),
    ],
)
def test_a_terminals_environment_is_xterm_with_utf_8(
    given: dict[str, str], expected: dict[str, str]
) -> None:
    assert with_terminal(given) == {
        **expected,
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }
