"""What a server that loses its database does to its links: SQLite itself refuses to write here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.server.live_server import LiveServer, Peer, ended, running
from tether.attribution.vocabulary import Party
from tether.net.transport.streams import DialFailed
from tether.protocol.messages.control import Goodbye
from tether.protocol.messages.coordination import CoordinateClosed, CoordinateOpen, CoordinateOpened
from tether.protocol.messages.reports import Report
from tether.server.db.store import StoreUnavailable
from tether.server.health import MISSED_BEATS, OutageWatch

pytestmark = pytest.mark.anyio

READ_ONLY = "the server may not write its database; check the file's permissions"
CAUSE = "server.database_unavailable"


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveServer]:
    async with running(tmp_path) as server:
        yield server


async def lose_database(live: LiveServer) -> None:
    await live.server.store.write(lambda tx: tx.exec_driver_sql("PRAGMA query_only=1"))


async def give_back_database(live: LiveServer) -> None:
    await live.server.store._writer.dispose()  # the next connection has no such pragma


async def beats(live: LiveServer, watch: OutageWatch, count: int) -> None:
    """What the server's own beat does, without its five seconds."""
    for _ in range(count):
        try:
            await live.server.connections.beat(live.server.run_id)
            watch.beat_worked()
        except StoreUnavailable as wrong:
            watch.beat_failed(wrong)


async def test_an_outage_ends_every_link_with_its_cause_and_the_rows_follow_later(
    live: LiveServer,
) -> None:
    _, token = await live.workspace()
    agent, client = await live.agent(token), await live.client()
    agent.send(CoordinateOpen())
    await agent.expect(CoordinateOpened)
    watch = OutageWatch(lost=live.server.hub.database_lost, back=live.server.hub.database_back)
    await lose_database(live)
    with capture_logs() as lines:
        await beats(live, watch, MISSED_BEATS - 1)
        assert agent.run is not None and not agent.run.done(), "two beats are bad luck"
        await beats(live, watch, 1)
        for peer in (agent, client):
            goodbye = await peer.over()
            assert goodbye == Goodbye(cause=CAUSE, detail=READ_ONLY, retry_after_s=5.0)
        await give_back_database(live)
        await beats(live, watch, 1)
        for peer in (agent, client):
            row = await live.closed(peer.connection_id)
            assert (row["disconnect_cause"], row["disconnect_expected"]) == (CAUSE, False)
    told = [line["event"] for line in lines]
    assert told.count("the connection log cannot be written") <= 1
    again = await live.agent(token)
    again.send(CoordinateOpen())
    await again.expect(CoordinateOpened)


async def test_no_stream_is_opened_during_an_outage(live: LiveServer) -> None:
    _, token = await live.workspace()
    agent = await live.agent(token)
    live.server.hub._coordination.close(CAUSE, error="coordinator unhealthy")
    agent.send(CoordinateOpen())
    assert (await agent.expect(CoordinateClosed)).cause == CAUSE


async def test_a_report_that_cannot_be_kept_ends_its_link_and_no_other(live: LiveServer) -> None:
    _, token = await live.workspace()
    agent, client = await live.agent(token), await live.client()
    await lose_database(live)
    agent.send(Report(journal_id=agent.hello.journal_id, first_seq=1, items=[ended("c")]))
    goodbye = await agent.over()
    assert goodbye == Goodbye(cause=CAUSE, detail=READ_ONLY, retry_after_s=5.0)
    assert client.run is not None and not client.run.done()
    await give_back_database(live)
    row = await live.closed(agent.connection_id)
    assert (row["disconnect_cause"], row["disconnect_detail"]) == (CAUSE, READ_ONLY)


async def test_who_comes_during_an_outage_is_told_instead_of_welcomed(live: LiveServer) -> None:
    _, token = await live.workspace()
    await lose_database(live)
    peer = await Peer.dial(live, token, Party.AGENT)
    peer.start()
    assert await peer.over() == Goodbye(cause=CAUSE, detail=READ_ONLY, retry_after_s=5.0)
    await give_back_database(live)
    assert await live.rows(type="control") == [], "a failed dial is not a disconnect"


async def test_a_database_that_cannot_even_be_read_is_a_refusal(live: LiveServer) -> None:
    _, token = await live.workspace()
    live.server.store._closed = True
    try:
        with pytest.raises(DialFailed) as refused:
            await Peer.dial(live, token, Party.AGENT)
        assert (refused.value.status, refused.value.cause) == (503, "database_unavailable")
    finally:
        live.server.store._closed = False
