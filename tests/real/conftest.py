"""Fixtures of the tests with real processes."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.real.stack import Stack

# Under nohup everything that is started here would inherit an ignored SIGHUP, as it should; but a
# terminal that closes is one of the ends that these tests bring about.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


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
