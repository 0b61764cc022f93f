"""Fixtures of the tests with real processes."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.support.e2e.stack import Stack

# Under nohup, or in the background of a script, everything that is started here would inherit ignored
# signals, as it should; but a closed terminal and Ctrl-C are among the ends that these tests bring.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running Tether for a whole module."""
    if shutil.which("ssh") is None:
        pytest.skip("OpenSSH's ssh is not installed")
    built = Stack(tmp_path_factory.mktemp("stack"))
    try:
        yield built
    finally:
        built.close()


@pytest.fixture
def own_stack(tmp_path: object) -> Iterator[Stack]:
    """One running Tether for one test that breaks it."""
    if shutil.which("ssh") is None:
        pytest.skip("OpenSSH's ssh is not installed")
    from pathlib import Path

    built = Stack(Path(str(tmp_path)))
    try:
        yield built
    finally:
        built.close()
