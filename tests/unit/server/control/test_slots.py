"""Slots are taken together or not at all, and one holder leaves room for the others."""

from __future__ import annotations

from tether.server.control.slots import Holder, Slots

LIMITS = {Holder.ALL: 3, Holder.TOKEN: 2}


def test_one_token_leaves_room_for_another() -> None:
    slots = Slots(LIMITS)
    noisy, quiet = (Holder.TOKEN, "noisy"), (Holder.TOKEN, "quiet")
    everybody = (Holder.ALL, "")
    assert [slots.take(everybody, noisy) for _ in range(3)] == [None, None, Holder.TOKEN]
    assert slots.taken(everybody) == 2, "what was refused took nothing"
    assert slots.take(everybody, quiet) is None
    assert slots.take(everybody, (Holder.TOKEN, "third")) is Holder.ALL


def test_what_is_given_back_can_be_taken_again_and_leaves_nothing_behind() -> None:
    slots = Slots(LIMITS)
    one = (Holder.TOKEN, "one")
    assert [slots.take(one), slots.take(one), slots.take(one)] == [None, None, Holder.TOKEN]
    slots.give_back(one, one)
    assert slots.taken(one) == 0
    assert slots.take(one) is None


def test_a_holder_without_a_limit_is_never_refused() -> None:
    slots = Slots(LIMITS)
    assert {slots.take((Holder.USER, "alice")) for _ in range(9)} == {None}
