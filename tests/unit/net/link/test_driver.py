"""Two drivers, a cable, and hours of virtual time: what each vantage knows of every kind of end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.support.clock import EPOCH
from tests.support.net.cable import IDLE_COUNTERS, Cable
from tests.support.net.links import LINGER, PATIENCE, ControlLink, driver
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, Party, Reach, StreamEnd, Vantage
from tether.net.link.driver import HIGH_WATER, OVERFLOW
from tether.net.tasks import Tasks
from tether.net.transport.streams import StreamLost
from tether.net.transport.tcp import counters_fact
from tether.protocol.link.link import LinkState
from tether.protocol.messages.base import Message, Unrecognized
from tether.protocol.messages.codec import encode
from tether.protocol.messages.control import Goodbye, Unsupported, WorkspaceStop
from tether.protocol.messages.tunnel import HalfClose
from tether.protocol.tunnel.frames import control_frame, parse_frame

pytestmark = pytest.mark.virtual_time

HOUR = 3600.0


def now() -> float:
    return asyncio.get_running_loop().time()


def said(vantage: Vantage, by: Party, cause: str, at: float, **more: str) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=vantage, at=EPOCH + at, by=by, cause=cause, **more)


def ended(vantage: Vantage, peer: Party, how: StreamEnd, at: float, **more: Any) -> ev.StreamEnded:
    return ev.StreamEnded(vantage=vantage, at=EPOCH + at, peer=peer, how=how, **more)


# -- keepalive --------------------------------------------------------------------------


async def test_an_idle_link_lives_for_an_hour() -> None:
    link = ControlLink(delay=0.02).start()
    await asyncio.sleep(HOUR)
    assert (link.agent.link.state, link.server.link.state) == (LinkState.OPEN, LinkState.OPEN)
    assert (link.agent.cell.facts, link.server.cell.facts) == ((), ())
    assert link.agent.link.rtt_s == pytest.approx(0.04)


async def test_messages_arrive_in_order_and_ping_is_not_delivered() -> None:
    link = ControlLink().start()
    stop = WorkspaceStop(cause="workspace.stopped", actor="user:alice")
    for message in (HalfClose(), stop, HalfClose()):
        link.server.send(message)
    await asyncio.sleep(60)
    assert link.heard_by_agent.messages == [HalfClose(), stop, HalfClose()]
    assert link.heard_by_server.messages == []


# -- goodbyes ---------------------------------------------------------------------------


async def test_a_goodbye_is_known_to_both_and_ends_within_a_round_trip() -> None:
    link = ControlLink(delay=0.01).start()
    await asyncio.sleep(100)
    link.agent.leave("agent.shutdown", actor="signal:15 from pid 1 uid 0")
    await link.over()
    actor = "signal:15 from pid 1 uid 0"
    assert link.agent.cell.facts == (
        said(Vantage.AGENT, Party.AGENT, "agent.shutdown", 100, actor=actor),
    )
    assert link.server.cell.facts == (
        said(Vantage.SERVER, Party.AGENT, "agent.shutdown", 100.01, actor=actor),
    )
    assert link.agent.cell.symptoms == ()
    assert now() == pytest.approx(100.03)
    assert link.cable.left.closed == (1000, "goodbye")


async def test_the_one_who_is_left_is_handed_the_goodbye() -> None:
    link = ControlLink().start()
    link.server.leave("server.shutdown", retry_after_s=2.0)
    await link.over()
    assert link.heard_by_agent.messages == [Goodbye(cause="server.shutdown", retry_after_s=2.0)]


async def test_goodbyes_that_cross_leave_each_end_its_own_cause() -> None:
    link = ControlLink(delay=0.01).start()
    await asyncio.sleep(1)
    link.agent.leave("agent.shutdown")
    link.server.leave("server.shutdown")
    await link.over()
    assert link.agent.cell.facts == (said(Vantage.AGENT, Party.AGENT, "agent.shutdown", 1),)
    assert link.server.cell.facts == (said(Vantage.SERVER, Party.SERVER, "server.shutdown", 1),)
    assert link.agent.cell.symptoms[:1] == (
        said(Vantage.AGENT, Party.SERVER, "server.shutdown", 1.01),
    )
    assert link.server.cell.symptoms[:1] == (
        said(Vantage.SERVER, Party.AGENT, "agent.shutdown", 1.01),
    )


async def test_a_goodbye_into_a_dead_cable_lingers_then_ends() -> None:
    link = ControlLink(delay=0.01).start()
    await asyncio.sleep(1)
    link.cable.go_silent()
    link.agent.leave("agent.shutdown")
    await link.agent_run
    assert now() == pytest.approx(1 + LINGER)
    assert link.agent.cell.facts == (said(Vantage.AGENT, Party.AGENT, "agent.shutdown", 1),)
    await link.server_run
    assert link.server.cell.facts == (
        ended(Vantage.SERVER, Party.AGENT, StreamEnd.SILENT, PATIENCE, silence_s=PATIENCE),
    )


async def test_what_was_queued_before_a_goodbye_still_arrives() -> None:
    link = ControlLink(delay=0.01, window=1).start()
    for _ in range(20):
        link.agent.send(HalfClose())
    link.agent.leave("agent.shutdown")
    await link.over()
    assert link.heard_by_server.messages == [HalfClose()] * 20 + [Goodbye(cause="agent.shutdown")]


async def test_no_message_is_sent_after_a_goodbye() -> None:
    link = ControlLink().start()
    link.agent.leave("agent.shutdown")
    link.agent.send(HalfClose())
    await link.over()
    assert link.heard_by_server.messages == [Goodbye(cause="agent.shutdown")]


async def test_data_may_follow_our_own_goodbye_but_not_the_peers() -> None:
    """What ends the layer above (SSH's own disconnect) comes after the cause of it."""
    cable = Cable()
    got: list[bytes] = []
    frames: Any = {"pack": control_frame, "unpack": parse_frame, "deliver": lambda message: None}
    agent = driver(cable.left, me=Party.AGENT, peer=Party.CLIENT, on_data=got.append, **frames)
    client = driver(
        cable.right,
        me=Party.CLIENT,
        peer=Party.AGENT,
        on_data=lambda data: got.append(bytes(data)),
        **frames,
    )
    tasks = Tasks("test")
    runs = [tasks.spawn(end.run(), str(end.link.me)) for end in (agent, client)]
    agent.leave("agent.shutdown")
    agent.send_data(b"\x00last words")
    await asyncio.sleep(0.011)
    client.send_data(b"\x00too late")
    for running in runs:
        await running
    agent.send_data(b"\x00over")
    assert got == [b"last words"]


# -- streams that stop ------------------------------------------------------------------


async def test_a_silent_cable_is_silence_at_both_ends_within_our_patience() -> None:
    link = ControlLink(delay=0.01).start()
    await asyncio.sleep(HOUR)
    link.cable.go_silent()
    await link.over()
    assert now() <= HOUR + PATIENCE
    for end, peer in ((link.agent, Party.SERVER), (link.server, Party.AGENT)):
        (fact,) = end.cell.facts
        assert isinstance(fact, ev.StreamEnded)
        assert (fact.peer, fact.how, fact.silence_s) == (peer, StreamEnd.SILENT, PATIENCE)
        assert end.cell.symptoms == ()
    assert link.cable.left.closed == (4408, "silent for too long")


async def test_one_way_silence_is_noticed_by_the_end_that_hears_nothing_and_told_to_the_other() -> (
    None
):
    link = ControlLink(delay=0.01).start()
    await asyncio.sleep(100)
    link.cable.go_silent(towards=link.cable.right)
    await link.over()
    (server_saw,) = link.server.cell.facts
    (agent_saw,) = link.agent.cell.facts
    assert isinstance(server_saw, ev.StreamEnded)
    assert isinstance(agent_saw, ev.StreamEnded)
    assert server_saw.how is StreamEnd.SILENT
    assert (agent_saw.how, agent_saw.close_code) == (StreamEnd.CLOSED, 4408)


async def test_a_silence_shorter_than_our_patience_is_no_end() -> None:
    link = ControlLink(delay=0.01).start()
    await asyncio.sleep(100)
    link.cable.go_silent()
    await asyncio.sleep(28)
    link.agent.send(HalfClose())
    link.cable.heal()
    await asyncio.sleep(HOUR)
    assert (link.agent.cell.facts, link.server.cell.facts) == ((), ())
    assert link.heard_by_server.messages == [HalfClose()]


async def test_a_lossy_path_whose_other_end_acknowledges_is_borne_with() -> None:
    link = ControlLink(delay=0.01).start()
    await asyncio.sleep(HOUR)
    link.cable.go_silent()
    link.cable.right.tcp = IDLE_COUNTERS | {"total_retrans": 9}
    link.cable.left.tcp = IDLE_COUNTERS | {"total_retrans": 5}
    await asyncio.sleep(2.5 * PATIENCE)
    assert (link.agent.cell.facts, link.server.cell.facts) == ((), ())
    link.cable.heal()
    await asyncio.sleep(HOUR)
    assert (link.agent.cell.facts, link.server.cell.facts) == ((), ())


async def test_what_a_path_lost_before_the_silence_excuses_nobody() -> None:
    link = ControlLink(delay=0.01).start()
    link.cable.right.tcp = link.cable.left.tcp = IDLE_COUNTERS | {"total_retrans": 9}
    await asyncio.sleep(HOUR)
    link.cable.go_silent()
    await asyncio.sleep(1.1 * PATIENCE)
    assert [type(fact) for fact in link.server.cell.facts][:1] == [ev.TcpCounters]


async def test_a_silent_peer_whose_kernel_lives_leaves_counters_as_evidence() -> None:
    link = ControlLink(delay=0.01).start()
    link.cable.right.tcp = IDLE_COUNTERS
    link.cable.go_silent()
    await link.over()
    counters = counters_fact(
        IDLE_COUNTERS, vantage=Vantage.SERVER, peer=Party.AGENT, at=EPOCH + PATIENCE
    )
    assert link.server.cell.facts == (
        counters,
        ended(Vantage.SERVER, Party.AGENT, StreamEnd.SILENT, PATIENCE, silence_s=PATIENCE),
    )


async def test_how_far_a_stream_lets_us_see_is_told_with_its_end_and_its_counters() -> None:
    seen: Any = {"reach": Reach.PROXIED, "proxy": "10.3.0.9"}
    for ends in ("silent", "reset", "given up"):
        link = ControlLink(delay=0.01)
        link.cable.right.tcp = IDLE_COUNTERS
        link.cable.right.reach, link.cable.right.proxy = seen["reach"], seen["proxy"]
        link.start()
        await asyncio.sleep(5)
        if ends == "silent":
            link.cable.go_silent()
        elif ends == "reset":
            link.cable.reset()
        else:
            link.server.give_up()
        await link.over()
        counters, stopped = link.server.cell.facts
        assert isinstance(counters, ev.TcpCounters)
        assert isinstance(stopped, ev.StreamEnded)
        assert counters.reach is Reach.PROXIED
        assert (stopped.reach, stopped.proxy) == (Reach.PROXIED, "10.3.0.9")


async def test_a_reset_is_a_reset_at_both_ends_with_counters_before_it() -> None:
    link = ControlLink(delay=0.01).start()
    link.cable.left.tcp = IDLE_COUNTERS
    await asyncio.sleep(5)
    link.cable.reset()
    await link.over()
    reset: Any = {
        "how": StreamEnd.RESET,
        "at": 5.0,
        "errno": "ECONNRESET",
        "idle_s": 5.0,
        "heard_ago_s": 5.0,
    }
    assert link.agent.cell.facts == (
        counters_fact(IDLE_COUNTERS, vantage=Vantage.AGENT, peer=Party.SERVER, at=EPOCH + 5),
        ended(Vantage.AGENT, Party.SERVER, **reset),
    )
    assert link.server.cell.facts == (ended(Vantage.SERVER, Party.AGENT, **reset),)


async def test_a_killed_process_is_an_eof_not_a_goodbye() -> None:
    link = ControlLink(delay=0.01).start()
    await asyncio.sleep(5)
    link.cable.die(link.cable.right)
    await link.agent_run
    eof = ended(Vantage.AGENT, Party.SERVER, StreamEnd.EOF, 5.01, idle_s=5.01, heard_ago_s=5.01)
    assert link.agent.cell.facts == (eof,)
    await link.tasks.cancel()


async def test_the_kernels_timeout_is_its_own_kind_of_end() -> None:
    link = ControlLink().start()
    await asyncio.sleep(5)
    link.cable.go_silent()
    link.cable.kernel_gives_up(link.cable.left)
    await link.agent_run
    assert link.agent.cell.facts == (
        ended(
            Vantage.AGENT, Party.SERVER, StreamEnd.TIMED_OUT, 5, errno="ETIMEDOUT", heard_ago_s=5.0
        ),
    )
    await link.tasks.cancel()


async def test_a_stream_that_dies_while_we_leave_is_a_symptom() -> None:
    link = ControlLink().start()
    await asyncio.sleep(5)
    link.agent.leave("agent.shutdown")
    link.cable.reset()
    await link.agent_run
    assert link.agent.cell.facts == (said(Vantage.AGENT, Party.AGENT, "agent.shutdown", 5),)
    assert [type(fact) for fact in link.agent.cell.symptoms] == [ev.StreamEnded]
    await link.tasks.cancel()


async def test_a_close_frame_without_a_goodbye_is_told_with_its_code() -> None:
    link = ControlLink(delay=0.01).start()
    await asyncio.sleep(5)
    await link.cable.right.close(1012, "service restart")
    await link.agent_run
    assert link.agent.cell.facts == (
        ended(
            Vantage.AGENT,
            Party.SERVER,
            StreamEnd.CLOSED,
            5.01,
            close_code=1012,
            idle_s=5.01,
            heard_ago_s=5.01,
        ),
    )
    await link.tasks.cancel()


async def test_a_lost_stream_ends_at_once_although_much_is_queued() -> None:
    link = ControlLink(window=1).start()
    link.heard_by_server.busy = asyncio.Event()
    for _ in range(10):
        link.agent.send(HalfClose())
    await asyncio.sleep(5)
    assert link.agent.queued > 0
    link.cable.reset()
    await link.agent_run
    assert now() == 5
    await link.tasks.cancel()


async def test_cancelling_a_driver_closes_its_stream() -> None:
    link = ControlLink().start()
    await asyncio.sleep(1)
    link.agent_run.cancel()
    await link.server_run
    assert link.cable.left.closed == (1001, "going away")
    assert link.server.cell.facts == (
        ended(
            Vantage.SERVER,
            Party.AGENT,
            StreamEnd.CLOSED,
            1.01,
            close_code=1001,
            idle_s=1.01,
            heard_ago_s=1.01,
        ),
    )


# -- misbehaviour -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "what"),
    [(b"\xff\xff", "not a message: "), ("hello", "a text message")],
    ids=["bytes", "text"],
)
async def test_garbage_is_a_violation_that_the_offender_is_told(
    message: bytes | str, what: str
) -> None:
    link = ControlLink().start()
    await link.cable.left.send(message)
    await link.over()
    (server_saw,) = link.server.cell.facts
    assert isinstance(server_saw, ev.ProtocolViolated)
    assert server_saw.by is Party.AGENT
    assert server_saw.what.startswith(what)
    agent_saw = link.agent.cell.facts
    assert agent_saw[-1:] == (
        said(
            Vantage.AGENT,
            Party.SERVER,
            "agent.protocol_error",
            agent_saw[-1].at - EPOCH,
            detail=server_saw.what,
        ),
    )
    assert agent_saw[:-1] == (server_saw,)


async def test_a_peer_that_is_being_left_may_rave_on() -> None:
    link = ControlLink().start()
    link.server.leave("server.shutdown")
    for _ in range(5):
        await link.cable.left.send(b"\xff")
    await link.over()
    assert [type(fact) for fact in link.server.cell.symptoms] == []


async def test_a_broken_websocket_is_a_violation_by_the_peer() -> None:
    cable = Cable()
    agent = driver(
        cable.left,
        me=Party.AGENT,
        peer=Party.CLIENT,
        deliver=lambda message: None,
    )
    cable.left.lose(StreamLost(StreamEnd.OTHER, violation="invalid opcode"))
    cell = await agent.run()
    assert cell.facts == (
        ev.ProtocolViolated(
            vantage=Vantage.AGENT, at=EPOCH, by=Party.CLIENT, what="invalid opcode"
        ),
    )


async def test_a_message_of_a_newer_peer_is_answered_with_unsupported() -> None:
    link = ControlLink().start()
    await link.cable.left.send(b"\x92\xa8teleport\x80")
    await asyncio.sleep(1)
    assert link.heard_by_server.messages == [Unrecognized(message_type="teleport")]
    assert link.heard_by_agent.messages == [Unsupported(message_type="teleport")]
    assert link.server.link.state is LinkState.OPEN


async def test_a_handler_that_fails_ends_the_link_with_its_own_blame(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(message: Message) -> None:
        raise KeyError("x")

    link = ControlLink()
    link.agent = driver(link.cable.left, me=Party.AGENT, peer=Party.SERVER, deliver=fail)
    with caplog.at_level(logging.ERROR):
        link.start()
        link.server.send(HalfClose())
        await link.over()
    (agent_saw,) = link.agent.cell.facts
    assert isinstance(agent_saw, ev.InternalFailure)
    assert (agent_saw.party, agent_saw.what) == (Party.AGENT, "KeyError: 'x'")
    assert link.server.cell.facts[0] == agent_saw
    assert [fact.kind for fact in link.server.cell.facts] == ["internal_failure", "goodbye_said"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_server_that_fails_tells_the_fact_and_declares_the_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(message: Message) -> None:
        raise ZeroDivisionError

    link = ControlLink()
    link.server = driver(link.cable.right, me=Party.SERVER, peer=Party.AGENT, deliver=fail)
    link.start()
    link.agent.send(HalfClose())
    await link.over()
    assert [fact.kind for fact in link.agent.cell.facts] == [
        "internal_failure",
        "goodbye_said",
    ]
    assert classify(ConnectType.SERVER_TO_AGENT, link.agent.cell.facts).disconnect.cause == (
        "server.internal_error"
    )


# -- back-pressure ----------------------------------------------------------------------


async def test_drain_waits_for_a_slow_reader_and_goes_on_with_it() -> None:
    link = ControlLink(window=64 << 10).start()
    gate = asyncio.Event()
    link.heard_by_server.busy = gate
    frame = encode(WorkspaceStop(cause="x", detail="y" * (60 << 10)))
    while link.agent.queued <= 2 * HIGH_WATER:
        link.agent.send_data(frame)
        await asyncio.sleep(0)
    drained = link.tasks.spawn(link.agent.drain(), "drain")
    await asyncio.sleep(40)
    assert not drained.done()
    link.heard_by_server.busy = None
    gate.set()
    await asyncio.sleep(10)
    assert drained.done()
    assert link.agent.queued == 0
    await link.tasks.cancel()


async def test_drain_does_not_outlive_its_link() -> None:
    link = ControlLink(window=1).start()
    link.heard_by_server.busy = asyncio.Event()
    for _ in range(4):
        link.agent.send_data(encode(WorkspaceStop(cause="x", detail="y" * (HIGH_WATER + 1))))
    drained = link.tasks.spawn(link.agent.drain(), "drain")
    await asyncio.sleep(1)
    assert not drained.done()
    link.cable.reset()
    await asyncio.sleep(0)
    await link.agent_run
    assert drained.done()
    await link.tasks.cancel()


async def test_a_peer_that_never_reads_is_given_up_before_memory_is() -> None:
    link = ControlLink(window=1).start()
    link.heard_by_server.busy = asyncio.Event()
    frame = encode(WorkspaceStop(cause="x", detail="y" * (1 << 20)))
    written = 0
    while link.agent.link.state is LinkState.OPEN:
        link.agent.send_data(frame)
        written += 1
        await asyncio.sleep(0)
    await link.agent_run
    assert OVERFLOW // len(frame) <= written <= OVERFLOW // len(frame) + 3
    assert link.agent.cell.facts == (
        ev.QueueOverflowed(
            vantage=Vantage.AGENT,
            at=EPOCH + now(),
            party=Party.SERVER,
            queue="outbox",
            limit=OVERFLOW,
        ),
    )
    await link.tasks.cancel()


async def test_while_our_own_handler_is_busy_no_peer_is_called_silent() -> None:
    link = ControlLink().start()
    gate = asyncio.Event()
    link.heard_by_server.busy = gate
    link.agent.send(HalfClose())
    await asyncio.sleep(10 * PATIENCE)
    assert link.server.link.state is LinkState.OPEN
    link.heard_by_server.busy = None
    gate.set()
    await asyncio.sleep(HOUR)
    assert link.server.cell.facts == ()


# -- data frames ------------------------------------------------------------------------


async def test_data_goes_past_the_link_and_proves_that_the_peer_lives() -> None:
    cable = Cable()
    got: list[bytes] = []

    async def take(data: memoryview) -> None:
        got.append(bytes(data))

    server = driver(
        cable.right,
        me=Party.SERVER,
        peer=Party.AGENT,
        deliver=lambda message: None,
        on_data=take,
        unpack=memoryview,
    )
    link = ControlLink()
    running = link.tasks.spawn(server.run(), "server")
    for i in range(10):
        await cable.left.send(b"%d" % i)
        await asyncio.sleep(PATIENCE - 1)
    assert got == [b"%d" % i for i in range(10)]
    assert not running.done()
    await link.tasks.cancel()


async def test_data_where_none_belongs_is_a_violation() -> None:
    cable = Cable()
    server = driver(
        cable.right,
        me=Party.SERVER,
        peer=Party.AGENT,
        deliver=lambda message: None,
        unpack=memoryview,
    )
    await cable.left.send(b"abc")
    cell = await server.run()
    (fact,) = cell.facts
    assert isinstance(fact, ev.ProtocolViolated)
    assert fact.what == "data on a control link"
