"""What a relay has yet to tell its server: once while the link lives, again over the next one."""

from __future__ import annotations

from tether.protocol.derp.outbox import MAX_REPORTED, RelayLedger
from tether.protocol.messages.derp import CarrierReport, RelayReport


def end(number: int) -> CarrierReport:
    return CarrierReport(connection_id=f"c{number}", carrier=1, at=0.0, facts=[])


def numbers(report: RelayReport | None) -> tuple[int, list[str]]:
    assert report is not None
    return report.first_seq, [one.connection_id for one in report.ended]


def test_an_end_is_told_once_over_a_link() -> None:
    ledger = RelayLedger()
    assert ledger.report() is None
    ledger.ended(end(1))
    assert numbers(ledger.report()) == (1, ["c1"])
    assert ledger.report() is None
    ledger.ended(end(2))
    assert numbers(ledger.report()) == (2, ["c2"])


def test_what_is_not_on_file_is_told_again_over_the_next_link() -> None:
    ledger = RelayLedger()
    for number in (1, 2, 3):
        ledger.ended(end(number))
    ledger.report()
    ledger.acknowledged(1)
    ledger.link_up()
    assert numbers(ledger.report()) == (2, ["c2", "c3"])
    ledger.acknowledged(3)
    assert not ledger


def test_an_acknowledgement_of_what_was_never_told_forgets_nothing() -> None:
    ledger = RelayLedger()
    ledger.ended(end(1))
    ledger.acknowledged(99)
    assert numbers(ledger.report()) == (1, ["c1"])


def test_a_long_absence_is_told_in_pieces() -> None:
    ledger = RelayLedger()
    for number in range(MAX_REPORTED + 5):
        ledger.ended(end(number))
    told = [ledger.report(), ledger.report()]
    assert [len(one.ended) for one in told if one] == [MAX_REPORTED, 5]
    assert numbers(told[1])[0] == MAX_REPORTED + 1
    assert ledger.report() is None


def test_a_full_ledger_drops_the_oldest_end_and_counts_it() -> None:
    ledger = RelayLedger(capacity=2)
    for number in (1, 2, 3):
        ledger.ended(end(number))
    assert (len(ledger), ledger.dropped) == (2, 1)
    assert numbers(ledger.report()) == (2, ["c2", "c3"])
    ledger.ended(end(4))
    ledger.ended(end(5))
    ledger.ended(end(6))
    assert numbers(ledger.report()) == (5, ["c5", "c6"])


def test_joined_carriers_are_told_as_they_come_and_a_registration_names_the_rest() -> None:
    ledger = RelayLedger(capacity=2)
    ledger.joined("c1")
    assert ledger
    report = ledger.report()
    assert report is not None
    assert report.joined == ["c1"]
    for number in (2, 3, 4):
        ledger.joined(f"c{number}")
    report = ledger.report()
    assert report is not None
    assert report.joined == ["c2", "c3"]
    ledger.joined("c5")
    ledger.link_up()
    assert ledger.report() is None
