"""What a relay does on its server's word, and in which order it leaves."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.relay import Site, site
from tether.attribution.vocabulary import Party
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream
from tether.net.tunnel.relay_dial import dial_relay
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.control import Goodbye, Hello
from tether.protocol.messages.derp import (
    RelayDrain,
    RelayDraining,
    RelayEnd,
    RelayGoodbye,
    RelayRegister,
    RelayReport,
    Restarting,
    decode_word,
)
from tether.relay.lifecycle import RECONNECT_IN_S

FOR_EVER = 10 * DEADLINE_S
ME = "signal:15 from pid 1 uid 0"
LEFT = RelayGoodbye(cause="relay.shutdown", actor=ME)


async def word(leg: MessageStream) -> object:
    """What the relay itself says to this leg next."""
    said = await asyncio.wait_for(leg.recv(), DEADLINE_S)
    assert isinstance(said, str)
    return decode_word(said)


def leaves(here: Site) -> tuple[Tasks, asyncio.Task[None]]:
    tasks = Tasks("leaving")
    return tasks, tasks.spawn(here.life.leave(ME), "leave")


# -- on the server's word -----------------------------------------------------------------------


async def test_the_keys_that_sign_tickets_come_with_the_registration() -> None:
    told: list[int] = []
    async with site(on_keys=lambda keys: told.append(len(keys))) as here:
        await here.join()
    assert told == [1]


async def test_legs_are_told_to_move_when_the_region_is_taken_off_the_map_and_nothing_ends() -> (
    None
):
    async with site() as here:
        client, agent = await here.join()
        here.server.say(RelayDrain(draining=True))
        assert [await word(leg) for leg in (client, agent)] == [Restarting()] * 2
        here.server.say(RelayDrain(draining=False))
        await client.send(b"still here")
        assert await asyncio.wait_for(agent.recv(), DEADLINE_S) == b"still here"


async def test_a_tunnel_that_is_ended_by_somebody_ends_with_their_cause_for_both() -> None:
    async with site() as here:
        one, other = await here.join("c1"), await here.join("c2")
        here.server.say(RelayEnd(connection_id="c1", cause="access.user_revoked", actor="user:bob"))
        said = RelayGoodbye(cause="access.user_revoked", actor="user:bob")
        assert [await word(leg) for leg in one] == [said] * 2
        await other[0].send(b"on")
        assert await asyncio.wait_for(other[1].recv(), DEADLINE_S) == b"on"


async def test_a_carrier_that_the_agent_cannot_take_is_declined_before_it_comes() -> None:
    async with site() as here:
        asked = RelayEnd(
            connection_id="c1", carrier=1, cause="agent.declined", detail="256 are served"
        )
        here.server.say(asked)
        with pytest.raises(DialFailed, match="256 are served"):
            await dial_relay(here.url(), here.ticket(Party.CLIENT))


# -- leaving ------------------------------------------------------------------------------------


async def test_everybody_is_told_before_anything_ends_and_the_link_is_left_last() -> None:
    async with site(move_s=FOR_EVER) as here:
        client, agent = await here.join()
        tasks, leaving = leaves(here)
        assert await here.server.hear(RelayDraining) == RelayDraining(reconnect_in_s=RECONNECT_IN_S)
        moves = Restarting(reconnect_in_s=RECONNECT_IN_S)
        assert [await word(leg) for leg in (client, agent)] == [moves] * 2
        assert here.relay.living() == [CarrierId("c1", 1)]
        await client.close(1000, "")  # it has moved
        await asyncio.wait_for(leaving, DEADLINE_S)
        goodbye = await here.server.hear(Goodbye)
        await tasks.cancel()
    assert (goodbye.cause, goodbye.actor) == ("relay.shutdown", ME)
    assert [type(one) for one in here.server.heard] == [
        Hello,
        RelayRegister,
        RelayReport,  # it was joined
        RelayDraining,
        RelayReport,  # it has ended
        Goodbye,
    ]


async def test_who_does_not_move_in_time_is_told_goodbye_with_its_cause() -> None:
    async with site(move_s=0.01) as here:
        client, agent = await here.join()
        tasks, leaving = leaves(here)
        for leg in (client, agent):
            assert [await word(leg), await word(leg)] == [
                Restarting(reconnect_in_s=RECONNECT_IN_S),
                LEFT,
            ]
        await asyncio.wait_for(leaving, DEADLINE_S)
        await tasks.cancel()


async def test_no_leg_is_taken_any_more_once_it_leaves() -> None:
    async with site(move_s=FOR_EVER) as here:
        await here.join("c1")
        tasks, _ = leaves(here)
        await here.server.hear(RelayDraining)
        with pytest.raises(DialFailed) as refused:
            await dial_relay(here.url(), here.ticket(Party.CLIENT, "c2"))
        assert refused.value.cause == "relay.shutdown"
        await tasks.cancel()


async def test_a_second_signal_ends_every_wait() -> None:
    async with site(move_s=FOR_EVER) as here:
        await here.join()
        tasks, leaving = leaves(here)
        await here.server.hear(RelayDraining)
        here.life.hurry()
        await asyncio.wait_for(leaving, DEADLINE_S)
        await tasks.cancel()
        assert (await here.server.hear(Goodbye)).cause == "relay.shutdown"
