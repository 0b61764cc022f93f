"""What a client says of the end of its tunnel when it fails by a bug of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.clock import EPOCH, LoopClock
from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, Vantage
from tether.client.connection import ClientConnection
from tether.protocol.messages.base import records_of
from tether.protocol.messages.reports import Ended

pytestmark = pytest.mark.virtual_time

BUG = ev.InternalFailure(
    vantage=Vantage.CLIENT, at=EPOCH, party=Party.CLIENT, what="RuntimeError: a bug"
)
LEFT = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=EPOCH)


@dataclass
class Over:
    """A tunnel that its user has left."""

    cell: CloseCell = field(default_factory=CloseCell)
    rx_bytes: int = 10
    tx_bytes: int = 20


def account(directory: Path, *, granted: bool = True, fails: bool, over: bool) -> Ended | None:
    env = {"TETHER_CONFIG_DIR": str(directory), "TETHER_URL": "http://s", "TETHER_TOKEN": "t"}
    connection = ClientConnection("dev", env, clock=LoopClock())
    connection.connection_id = "c" if granted else ""
    if fails:
        connection.failed(RuntimeError("a bug"))
    seen = Over()
    seen.cell.offer(LEFT)
    return connection._account(seen if over else None)


async def test_a_bug_that_ends_a_tunnel_is_its_cause(tmp_path: Path) -> None:
    assert account(tmp_path, fails=True, over=False) == Ended(
        connection_id="c", at=EPOCH, facts=records_of((BUG,))
    )


async def test_a_bug_that_follows_an_end_is_its_symptom(tmp_path: Path) -> None:
    assert account(tmp_path, fails=True, over=True) == Ended(
        connection_id="c",
        at=EPOCH,
        facts=records_of((LEFT,)),
        symptoms=records_of((BUG,)),
        rx_bytes=10,
        tx_bytes=20,
    )


async def test_of_a_tunnel_that_was_not_granted_or_did_not_end_nothing_is_said(
    tmp_path: Path,
) -> None:
    assert account(tmp_path, granted=False, fails=True, over=False) is None
    assert account(tmp_path, fails=False, over=False) is None
