"""The real mosh, whose datagrams go through the tunnel, seen in tmux."""

from __future__ import annotations

import shlex
import shutil

import pytest

from tests.support.e2e.stack import TETHER, Stack
from tests.support.e2e.window import Window

pytestmark = [
    pytest.mark.real,
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("mosh-client") is None, reason="mosh is not installed"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


def test_a_mosh_session_shows_what_the_workspace_shows_and_ends_with_its_shell(
    stack: Stack,
) -> None:
    argv = ["env", "LC_ALL=C.UTF-8", *TETHER, "mosh", "dev"]
    window = Window(stack, shlex.join(argv))
    try:
        window.line("echo $TETHER_WORK''SPACE=$TETHER_WORKSPACE $((6 * 7))")
        window.shows("=dev 42")
        window.line("exit 0")
        window.shows("code=0", "given back")
    finally:
        window.close()
