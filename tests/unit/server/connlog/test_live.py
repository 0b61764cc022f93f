"""What watchers are told, and that one who does not read costs nothing."""

from __future__ import annotations

import pytest

from tests.support.server.rows import connection_row
from tether.server.connlog.live import MAX_WAITING, MAX_WATCHERS, LiveFeed, TooManyWatchers
from tether.server.connlog.rows import RowOpened
from tether.server.identity import Identity

pytestmark = pytest.mark.anyio

ADMIN = Identity(kind="user", user="admin", role="admin")
ALICE = Identity(kind="user", user="alice", role="member")


def opened(user: str, workspace_id: str = "w1") -> RowOpened:
    return RowOpened(connection_row(user=user, workspace_id=workspace_id))


async def test_a_watcher_is_told_of_what_is_theirs() -> None:
    feed = LiveFeed()
    with feed.watch(ALICE, frozenset({"w2"})) as alice, feed.watch(ADMIN, frozenset()) as admin:
        for change in (opened("alice"), opened("bob"), opened("bob", "w2")):
            feed.publish(change)
        seen = [
            [(change.row.user, change.row.workspace_id) for change in await one.some(1.0) or ()]
            for one in (alice, admin)
        ]
    assert seen == [
        [("alice", "w1"), ("bob", "w2")],
        [("alice", "w1"), ("bob", "w1"), ("bob", "w2")],
    ]


async def test_one_who_does_not_read_is_told_to_read_anew() -> None:
    feed = LiveFeed()
    with feed.watch(ADMIN, frozenset()) as watcher:
        one = opened("alice")
        for _ in range(100 * MAX_WAITING):
            feed.publish(one)
        assert feed.longest_queue <= MAX_WAITING
        assert await watcher.some(1.0) is None
        feed.publish(opened("alice"))
        assert len(await watcher.some(1.0) or ()) == 1
        assert await watcher.some(0.0) == []


async def test_watchers_are_bounded_and_sent_away_at_the_end() -> None:
    feed = LiveFeed()
    held = [feed.watch(ADMIN, frozenset()) for _ in range(MAX_WATCHERS)]
    watchers = [one.__enter__() for one in held]
    with pytest.raises(TooManyWatchers), feed.watch(ADMIN, frozenset()):
        pass
    feed.close()
    with pytest.raises(StopAsyncIteration):
        await watchers[0].some(1.0)
    for one in held:
        one.__exit__(None, None, None)
    assert feed.watchers == 0
