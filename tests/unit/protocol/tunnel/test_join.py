"""The proof of a carrier, and the numbers that were used."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from tether.attribution.vocabulary import Party
from tether.protocol.messages.base import Garbage
from tether.protocol.tunnel.join import (
    MAX_NUMBER,
    REMEMBERED,
    Join,
    JoinRefused,
    TunnelKey,
    UsedNumbers,
    check_join,
)

KEY = TunnelKey(bytes(range(32)))
ATTACH = KEY.join(Party.CLIENT, "c1", 7, 42)
REFUSAL = KEY.refuse(JoinRefused(code="tunnel_over", cause="a.b", actor="x", detail="y"), "c1", 7)


def test_a_proof_is_good_under_its_key_only() -> None:
    assert KEY.proves(ATTACH)
    assert not TunnelKey(bytes(32)).proves(ATTACH)


@pytest.mark.parametrize(
    "change",
    [{"connection_id": "c2"}, {"carrier": 8}, {"party": "agent"}, {"received": 43}, {"proof": b""}],
    ids=lambda change: next(iter(change)),
)
def test_a_proof_covers_every_field(change: dict[str, object]) -> None:
    assert not KEY.proves(msgspec.structs.replace(ATTACH, **change))


@pytest.mark.parametrize(
    "change",
    [{"code": "x"}, {"cause": "x"}, {"actor": "y"}, {"detail": "z"}, {"proof": b""}],
    ids=lambda change: next(iter(change)),
)
def test_a_refusals_proof_covers_every_field(change: dict[str, object]) -> None:
    assert KEY.proves_refusal(REFUSAL, "c1", 7)
    assert not KEY.proves_refusal(REFUSAL, "c1", 8)
    assert not KEY.proves_refusal(REFUSAL, "c2", 7)
    assert not KEY.proves_refusal(msgspec.structs.replace(REFUSAL, **change), "c1", 7)


def test_words_cannot_be_moved_between_fields() -> None:
    one = KEY.refuse(JoinRefused(code="ab", cause="c"), "c1", 7)
    other = msgspec.structs.replace(one, code="a", cause="bc")
    assert not KEY.proves_refusal(other, "c1", 7)


def test_a_key_is_read_from_a_grant() -> None:
    text = base64.b64encode(bytes(range(32))).decode()
    assert TunnelKey.read(text).proves(ATTACH)


@pytest.mark.parametrize("text", ["", "AAAA", "!", "é", base64.b64encode(bytes(33)).decode()])
def test_what_is_no_key_is_garbage(text: str) -> None:
    with pytest.raises(Garbage, match=r"^no tunnel key$"):
        TunnelKey.read(text)


def test_nothing_secret_is_printed() -> None:
    assert repr(KEY) == "TunnelKey(…)"
    assert repr(ATTACH) == "Join(connection_id='c1', carrier=7, party='client', received=42)"
    assert repr(REFUSAL) == "JoinRefused(code='tunnel_over', cause='a.b', actor='x')"


@pytest.mark.parametrize(
    ("attach", "code"),
    [
        (ATTACH, ""),
        (KEY.join(Party.CLIENT, "c1", 3, 0), "carrier_used"),
        (KEY.join(Party.CLIENT, "c1", 0, 0), "bad_proof"),
        (KEY.join(Party.CLIENT, "c1", -1, 0), "bad_proof"),
        (KEY.join(Party.CLIENT, "c1", MAX_NUMBER + 1, 0), "bad_proof"),
        (KEY.join(Party.CLIENT, "c2", 7, 0), "bad_proof"),
        (KEY.join(Party.AGENT, "c1", 7, 0), "bad_proof"),
        (TunnelKey(bytes(32)).join(Party.CLIENT, "c1", 3, 0), "bad_proof"),
    ],
)
def test_an_attach_is_judged(attach: Join, code: str) -> None:
    used = UsedNumbers()
    used.add(3)
    assert check_join(attach, key=KEY, connection_id="c1", peer=Party.CLIENT, used=used) == code


@given(st.lists(st.integers(1, 3 * REMEMBERED), max_size=60))
@settings(deadline=None)
def test_used_numbers_are_remembered_and_the_old_count_as_used(numbers: list[int]) -> None:
    used, all_of_them = UsedNumbers(), set[int]()
    for number in numbers:
        used.add(number)
        all_of_them.add(number)
    highest = max(all_of_them, default=0)
    for number in range(1, 3 * REMEMBERED + 2):
        old = number <= highest - REMEMBERED
        assert (number in used) == (number in all_of_them or old)
