"""Fixtures of the tests with network namespaces. Where a machine has none, each test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.capabilities import Missing
from tether_gauntlet.lab.topology import Topology, internet


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """What this machine lacks, a test says when it comes to it."""
    try:
        return (yield)
    except Missing as lacking:
        pytest.skip(f"this machine cannot: {lacking}")


def build(topology: Topology, directory: Path) -> Lab:
    """A laboratory, or a skipped test that says what is missing."""
    try:
        return Lab(topology, directory=directory)
    except Missing as lacking:
        pytest.skip(f"this machine cannot: {lacking}")


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Client, NAT and server; one for a module, healed after each test by `lab`."""
    topology = internet(relays=("relay-a",), agents=0)
    with build(topology, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    """The module's laboratory, without faults before and after."""
    assert shared_lab.faults == []
    yield shared_lab
    shared_lab.heal()


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[[Topology], Lab]]:
    """Builds laboratories that end with the test."""
    made: list[Lab] = []

    def make(topology: Topology) -> Lab:
        made.append(build(topology, tmp_path / str(len(made))))
        return made[-1]

    yield make
    for each in made:
        each.close()
