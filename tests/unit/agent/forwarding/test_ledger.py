"""Claims about what is recorded of forwarded connections, and that it never floods."""

from __future__ import annotations

from hypothesis import given, strategies as st

from tests.support.clock import EPOCH, at
from tether.agent.forwarding.ledger import MAX_TEXT, ForwardLedger
from tether.protocol.messages.reports import (
    ForwardEnd,
    ForwardItem,
    ForwardKind,
    ForwardRecord,
    ForwardRollup,
    destination_of,
)

TCP, REMOTE = ForwardKind.DIRECT_TCPIP, ForwardKind.FORWARDED_TCPIP
BY_CLIENT, BY_WORKSPACE = ForwardEnd.CLIENT_CLOSED, ForwardEnd.WORKSPACE_CLOSED


def test_a_connection_is_recorded_at_its_start_and_at_its_end() -> None:
    ledger = ForwardLedger("c1")
    number, begun = ledger.started(TCP, "127.0.0.1:8080", at(1.0), origin="10.0.0.9:4000")
    ended = ledger.ended(number, BY_WORKSPACE, at(3.5), rx_bytes=10, tx_bytes=20)
    start = ForwardRecord(
        connection_id="c1",
        forward_id=1,
        kind="direct_tcpip",
        destination="127.0.0.1:8080",
        origin="10.0.0.9:4000",
        started_at=EPOCH + 1.0,
    )
    assert begun == [start]
    assert ended == [
        ForwardRecord(
            connection_id="c1",
            forward_id=1,
            kind="direct_tcpip",
            destination="127.0.0.1:8080",
            origin="10.0.0.9:4000",
            started_at=EPOCH + 1.0,
            ended_at=EPOCH + 3.5,
            duration_s=2.5,
            end="workspace_closed",
            rx_bytes=10,
            tx_bytes=20,
        )
    ]
    assert ledger.deadline() is None


def test_a_second_end_is_nothing() -> None:
    ledger = ForwardLedger("c1")
    number, _ = ledger.started(TCP, "a:1", at(0))
    assert len(ledger.ended(number, BY_CLIENT, at(1))) == 1
    assert ledger.ended(number, BY_CLIENT, at(2)) == []


def test_ten_thousand_short_ones_are_a_few_records() -> None:
    ledger = ForwardLedger("c1")
    items: list[ForwardItem] = []
    now = 0.0
    for _ in range(10_000):
        number, begun = ledger.started(TCP, "localhost:3000", at(now))
        now += 0.01
        items += begun + ledger.ended(number, BY_WORKSPACE, at(now), rx_bytes=1, tx_bytes=2)
        items += ledger.tick(at(now))
    items += ledger.finish(at(now))
    records = [item for item in items if isinstance(item, ForwardRecord)]
    rollups = [item for item in items if isinstance(item, ForwardRollup)]
    assert (len(records), len(rollups)) == (40, 2)
    assert sum(rollup.ended for rollup in rollups) == 9_980
    assert sum(rollup.tx_bytes for rollup in rollups) == 2 * 9_980
    assert rollups[0].ends == {"workspace_closed": rollups[0].ended}
    assert rollups[0].until - rollups[0].since >= 60.0


def test_what_starts_in_one_window_may_end_in_the_next() -> None:
    ledger = ForwardLedger("c1", per_destination=0)
    number, begun = ledger.started(TCP, "a:1", at(0))
    assert begun == []
    assert ledger.deadline() == 60.0
    assert ledger.tick(at(59.9)) == []
    (first,) = ledger.tick(at(60.0))
    assert (first.started, first.ended) == (1, 0)  # type: ignore[union-attr]
    assert ledger.deadline() is None
    assert ledger.ended(number, BY_CLIENT, at(70), rx_bytes=5) == []
    (second,) = ledger.finish(at(80))
    assert second == ForwardRollup(
        connection_id="c1",
        kind="direct_tcpip",
        destination="a:1",
        since=EPOCH + 70,
        until=EPOCH + 80,
        ended=1,
        ends={"client_closed": 1},
        rx_bytes=5,
        longest_s=70.0,
    )


def test_a_busy_days_windows_grow_longer() -> None:
    ledger = ForwardLedger("c1", per_destination=0)
    lengths = []
    now = 0.0
    for _ in range(6):
        ledger.started(TCP, "a:1", at(now))
        deadline = ledger.deadline()
        assert deadline is not None
        lengths.append(deadline - now)
        now = deadline
        ledger.tick(at(now))
    assert lengths == [60, 120, 240, 480, 900, 900]


def test_destinations_and_kinds_are_told_apart() -> None:
    ledger = ForwardLedger("c1", per_destination=1)
    for kind, destination in ((TCP, "a:1"), (TCP, "b:1"), (REMOTE, "a:1")) * 2:
        ledger.started(kind, destination, at(0))
    rollups = [item for item in ledger.finish(at(1)) if isinstance(item, ForwardRollup)]
    assert {(r.kind, r.destination, r.started) for r in rollups} == {
        ("direct_tcpip", "a:1", 1),
        ("direct_tcpip", "b:1", 1),
        ("forwarded_tcpip", "a:1", 1),
    }


def test_a_browser_behind_a_proxy_has_bounds_too() -> None:
    ledger = ForwardLedger("c1")
    items: list[ForwardItem] = []
    for number in range(3_000):
        items += ledger.started(TCP, f"host-{number}.example:443", at(0))[1]
    items += ledger.finish(at(1))
    rollups = [item for item in items if isinstance(item, ForwardRollup)]
    assert len(items) - len(rollups) == 2 * 200
    assert len(rollups) == 17
    assert sum(rollup.started for rollup in rollups) == 2_800
    assert [r.started for r in rollups if r.destination == "*"] == [2_800 - 16]


def test_what_could_not_be_had_is_one_record() -> None:
    ledger = ForwardLedger("c1")
    assert ledger.refused(
        TCP, "a:1", ForwardEnd.BLOCKED, at(1), cause="policy.local_forwarding_blocked"
    ) == [
        ForwardRecord(
            connection_id="c1",
            forward_id=1,
            kind="direct_tcpip",
            destination="a:1",
            started_at=EPOCH + 1,
            ended_at=EPOCH + 1,
            end="blocked",
            cause="policy.local_forwarding_blocked",
        )
    ]
    assert (ledger.served, ledger.open) == (0, 0)


def test_refusals_do_not_flood_either() -> None:
    ledger = ForwardLedger("c1", per_destination=2)
    items: list[ForwardItem] = []
    for _ in range(1_000):
        items += ledger.refused(TCP, "a:1", ForwardEnd.REFUSED, at(1), detail="no one there")
    items += ledger.finish(at(2))
    assert len(items) == 3
    assert items[-1].ends == {"refused": 998}  # type: ignore[union-attr]


def test_the_end_of_the_connection_ends_what_is_open() -> None:
    ledger = ForwardLedger("c1", per_destination=1)
    ledger.started(TCP, "a:1", at(0))
    ledger.started(TCP, "a:1", at(1))
    record, rollup = ledger.finish(at(5), cause="client.unreachable")
    assert isinstance(record, ForwardRecord)
    assert isinstance(rollup, ForwardRollup)
    assert (record.end, record.cause, record.duration_s) == (
        "connection_ended",
        "client.unreachable",
        5.0,
    )
    assert rollup.ends == {"connection_ended": 1}
    assert ledger.finish(at(6)) == []


def test_a_clients_text_is_one_bounded_printable_line() -> None:
    ledger = ForwardLedger("c1")
    (record,) = ledger.started(TCP, "a\nb\x1b[2J" + "x" * 999, at(0))[1]
    assert isinstance(record, ForwardRecord)
    assert record.destination.startswith("a\ufffdb\ufffd[2J")
    assert len(record.destination) == MAX_TEXT


def test_an_ipv6_destination_has_brackets() -> None:
    assert destination_of("::1", 80) == "[::1]:80"
    assert destination_of("localhost", 80) == "localhost:80"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "end", "refuse", "tick"]),
            st.sampled_from(ForwardKind),
            st.sampled_from(["a:1", "b:2", "c:3"]),
            st.sampled_from(ForwardEnd),
            st.integers(0, 50),
        ),
        max_size=120,
    )
)
def test_everything_that_started_has_ended_in_some_record(
    script: list[tuple[str, ForwardKind, str, ForwardEnd, int]],
) -> None:
    ledger = ForwardLedger("c1", per_destination=2, per_connection=5, destinations=2)
    items: list[ForwardItem] = []
    open_ones: list[int] = []
    begun, now, moved = 0, 0.0, 0
    for step, kind, destination, end, number in script:
        now += number
        match step:
            case "start":
                one, more = ledger.started(kind, destination, at(now))
                open_ones.append(one)
                begun += 1
            case "end":
                more = []
                if open_ones:
                    one = open_ones.pop(number % len(open_ones))
                    more = ledger.ended(one, end, at(now), rx_bytes=number)
                    moved += number
            case "refuse":
                more = ledger.refused(kind, destination, end, at(now))
                begun += 1
            case _:
                more = ledger.tick(at(now))
        items += more
        assert ledger.open == len(open_ones)
    items += ledger.finish(at(now + 1))
    alone = [i for i in items if isinstance(i, ForwardRecord) and i.ended_at is not None]
    rollups = [item for item in items if isinstance(item, ForwardRollup)]
    assert len(alone) + sum(rollup.ended for rollup in rollups) == begun
    assert sum(r.rx_bytes for r in alone) + sum(r.rx_bytes for r in rollups) == moved
    assert all(sum(rollup.ends.values()) == rollup.ended for rollup in rollups)
    assert len(alone) <= 5
    assert ledger.open == 0
