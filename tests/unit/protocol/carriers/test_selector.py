"""The client's choice of ways, in virtual time: races, moves, losses, and what it never does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tether.attribution.vocabulary import ConnectionMethod
from tether.protocol.carriers.candidate import (
    ANSWER_S,
    ASK_S,
    DIAL_S,
    DIRECT_AGAIN_S,
    FORGET_S,
    IDLE_PING_S,
    MAX_DIALS,
    PROBE_S,
    SETTLE_S,
    STAGGER_S,
    STANDBY_PING_S,
    STANDBY_S,
    START_S,
)
from tether.protocol.carriers.commands import (
    AskServer,
    Carried,
    Command,
    DialDirect,
    DialRelay,
    Over,
    PingCarrier,
    RelayTicket,
    Retire,
    Show,
    Stalled,
    StreamActivity,
    UseCarrier,
)
from tether.protocol.carriers.selector import CarrierSelector
from tether.protocol.messages.coordination import TRIED_ENDPOINTS

DIRECT, DERP = ConnectionMethod.DIRECT, ConnectionMethod.DERP
FRA, AMS = RelayTicket("wss://fra", "t1", "fra"), RelayTicket("wss://ams", "t2", "ams")
DAY = 86400.0


def approx(number: float, abs: float | None = None) -> Any:
    return pytest.approx(number, abs=abs)


class Play:
    """A machine, the present, and every command with the moment of its birth."""

    def __init__(
        self,
        *endpoints: str,
        relay: RelayTicket | None = FRA,
        resume_s: float = DAY,
        jitter: float = 0.0,
    ) -> None:
        self.paths = CarrierSelector(
            relay=relay, endpoints=endpoints, resume_s=resume_s, jitter=lambda: jitter
        )
        self.now = 100.0
        self.log: list[tuple[float, Any]] = []
        self.sight = StreamActivity()
        self.answers: set[int] = set()
        """Carriers whose other end answers pings."""
        self.do(self.paths.start(self.now))

    def do(self, commands: list[Command]) -> list[Any]:
        self.log += [(round(self.now - 100.0, 3), command) for command in commands]
        for command in commands:
            if isinstance(command, PingCarrier) and command.number in self.answers:
                self.do(self.paths.pong(command.number, 0.01, self.now))
        return commands

    def up(self, number: int, rtt_s: float | None = None, *, answers: bool = True) -> None:
        if answers:
            self.answers.add(number)
        self.do(self.paths.up(number, rtt_s, self.now))

    def passes(self, seconds: float) -> list[tuple[float, Any]]:
        """Let time pass, tick by tick; what was commanded meanwhile."""
        until, seen = self.now + seconds, len(self.log)
        while (due := self.paths.deadline()) is not None and due <= until:
            assert due > self.now, "a busy loop"
            self.now = due
            self.do(self.paths.tick(self.now, self.sight))
        self.now = until
        return self.log[seen:]

    def said(self, *kinds: type[Any]) -> list[Any]:
        """All commands so far of these kinds, in order."""
        return [command for _, command in self.log if isinstance(command, kinds)]


def relayed(*endpoints: str, **options: Any) -> Play:
    """A tunnel that is carried by the relay; direct attempts have failed."""
    play = Play(*endpoints, **options)
    play.up(1, 0.05)
    for number in range(2, 2 + len(endpoints)):
        play.do(play.paths.failed(number, "refused", play.now))
    play.now += 12.0
    play.do(play.paths.pong(1, 0.05, play.now))
    play.log.clear()
    return play


def direct_with_standby(**options: Any) -> Play:
    play = Play("10.0.0.1:1", **options)
    play.up(1, 0.05)
    play.up(2, 0.001)
    play.now += 12.0
    play.do(play.paths.pong(2, 0.001, play.now))
    play.log.clear()
    return play


# -- the race ----------------------------------------------------------------------------


def test_relay_and_endpoints_are_raced_a_few_at_a_time() -> None:
    play = Play("a:1", "b:1", "c:1", "d:1")
    play.passes(1.0)
    assert play.log == [
        (0.0, DialRelay(1, FRA)),
        (0.0, DialDirect(2, "a:1")),
        (0.05, DialDirect(3, "b:1")),
    ]
    assert play.paths.current is None


def test_a_direct_attempt_that_fails_lets_the_next_one_start_at_once() -> None:
    play = Play("a:1", "b:1", "c:1")
    play.now += 0.01
    assert play.do(play.paths.failed(2, "refused", play.now)) == [DialDirect(3, "b:1")]


def test_the_first_carrier_that_attaches_is_used() -> None:
    play = Play("a:1")
    play.now += 0.02
    assert play.do(play.paths.up(1, 0.02, play.now)) == [
        UseCarrier(1),
        Show(Carried(1, DERP, "fra", approx(0.02))),
    ]
    assert play.paths.current == 1


def test_a_direct_carrier_takes_over_and_the_relayed_one_stays_as_standby() -> None:
    play = Play("a:1")
    play.up(1, 0.02)
    play.log.clear()
    play.up(2, 0.001)
    assert play.log == [(0.0, UseCarrier(2)), (0.0, Show(Carried(2, DIRECT, "a:1")))]


def test_the_relays_leg_is_waited_for_when_a_direct_carrier_was_first() -> None:
    play = Play("a:1", "b:1", "c:1")
    play.passes(STAGGER_S)
    play.log.clear()
    play.up(2, 0.001)
    assert play.said(UseCarrier, Retire) == [UseCarrier(2), Retire(3)]
    play.log.clear()
    play.up(1, 0.02)
    assert play.log == []


def test_a_direct_carrier_that_is_much_slower_than_the_relay_is_not_used() -> None:
    play = Play("a:1")
    play.up(1, 0.02)
    play.log.clear()
    play.up(2, 0.3)
    assert play.said(UseCarrier, Retire) == []


def test_a_carrier_that_comes_after_its_attempt_was_dropped_is_retired() -> None:
    play = Play("a:1")
    assert play.paths.up(7, None, play.now) == [Retire(7)]


def test_no_carrier_in_time_is_told_with_what_became_of_the_relay_and_of_the_addresses() -> None:
    play = Play("127.0.0.1:41851")
    assert play.paths.sought() == "the relay wss://fra or the agent at 127.0.0.1:41851"
    play.do(play.paths.failed(1, "fra did not answer in time", play.now))
    play.do(play.paths.failed(2, "nothing listens at 127.0.0.1:41851", play.now))
    play.passes(START_S)
    told = (
        "the relay wss://fra could not be used (fra did not answer in time), and nothing answers at"
        " the agent's own addresses (127.0.0.1:41851)"
    )
    assert play.log[-1] == (START_S, Over("timed_out", told))
    assert play.paths.deadline() is None
    assert play.paths.tick(play.now + 1, StreamActivity()) == []


def test_a_refusal_that_will_not_change_is_told_at_once() -> None:
    play = Play("a:1")
    assert play.paths.failed(1, "the agent serves enough", play.now, final=True) == [
        Over("failed", "the agent serves enough")
    ]


def test_the_same_refusal_of_a_later_carrier_is_only_a_failure() -> None:
    play = relayed()
    play.do(play.paths.ended(1, "reset", play.now))
    play.do(play.paths.granted(2, AMS, [], play.now))
    play.do(play.paths.failed(2, "no", play.now, final=True))
    assert play.said(DialRelay, Over) == [DialRelay(2, AMS)]


def test_a_grant_without_a_relay_is_left_alone_for_a_second() -> None:
    play = Play("a:1", relay=None)
    play.passes(5.0)
    assert play.log == [(0.0, DialDirect(2, "a:1")), (1.0, AskServer(3, "", ()))]


def test_of_ten_thousand_endpoints_a_few_are_tried() -> None:
    play = Play(*(f"h{n}:1" for n in range(10_000)), relay=None)
    for number in range(2, 200):
        play.do(play.paths.failed(number, "no", play.now))
    assert len(play.said(DialDirect)) == TRIED_ENDPOINTS


# -- losses ------------------------------------------------------------------------------


def test_the_standby_takes_over_at_once() -> None:
    play = direct_with_standby()
    play.do(play.paths.pong(1, 0.05, play.now))
    assert play.do(play.paths.ended(2, "reset", play.now)) == [
        UseCarrier(1),
        Show(Carried(1, DERP, "fra")),
    ]


def test_without_a_standby_everything_is_tried_at_once_and_the_user_is_told() -> None:
    play = relayed("a:1")
    assert play.do(play.paths.ended(1, "the relay was lost", play.now)) == [
        DialDirect(3, "a:1"),
        AskServer(4, "fra", ("wss://fra",)),
        Show(Stalled(play.now, "the relay was lost")),
    ]
    play.now += 2.0
    play.do(play.paths.granted(4, AMS, [], play.now))
    play.now += 1.0
    play.log.clear()
    play.up(4, 0.03)
    assert play.said(UseCarrier, Show) == [UseCarrier(4), Show(Carried(4, DERP, "ams", 3.0))]


def test_a_relay_whose_other_end_left_is_not_to_blame() -> None:
    play = relayed()
    play.do(play.paths.ended(1, "the agent's leg was lost", play.now, at_fault=False))
    assert play.said(AskServer) == [AskServer(2, "fra", ())]


def test_a_relay_that_failed_is_avoided_for_a_while() -> None:
    play = relayed()
    play.do(play.paths.ended(1, "reset", play.now))
    play.do(play.paths.unasked(2, play.now))
    play.passes(2 * FORGET_S)
    asked = play.said(AskServer)
    assert asked[1] == AskServer(3, "fra", ("wss://fra",))
    assert asked[-1].avoid == ()


def test_questions_are_asked_again_by_a_backoff_of_at_most_five_seconds() -> None:
    play = relayed()
    play.do(play.paths.ended(1, "reset", play.now))
    moments = []
    for number in range(2, 12):
        moments += [round(play.now, 3)]
        play.do(play.paths.denied(number, "agent_not_connected", "not there", play.now))
        assert play.said(AskServer)[-1].number == number
        play.passes(5.0) if number > 8 else play.passes(0.1 * 2 ** (number - 2))
    gaps = [round(b - a, 3) for a, b in pairwise(moments)]
    assert gaps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 5.0, 5.0]


def test_a_question_without_an_answer_is_asked_again() -> None:
    play = relayed()
    play.do(play.paths.ended(1, "reset", play.now))
    play.log.clear()
    play.passes(ASK_S + 0.1)
    assert [c.number for c in play.said(AskServer)] == [3]


def test_late_and_strange_answers_of_the_server_change_nothing() -> None:
    play = relayed()
    assert play.paths.granted(9, AMS, ["x:1"], play.now) == []
    assert play.paths.denied(9, "tunnel_over", "it ended", play.now) == []
    assert play.paths.unasked(9, play.now) == []
    play.do(play.paths.ended(1, "reset", play.now))
    play.log.clear()
    assert play.paths.granted(9, AMS, [], play.now) == []
    assert play.paths.denied(9, "tunnel_over", "it ended", play.now) == []
    assert play.paths.unasked(9, play.now) == []
    assert play.paths.ended(77, "reset", play.now) == []
    assert play.paths.failed(77, "no", play.now) == []


def test_a_grant_of_endpoints_only_counts_as_no_relay() -> None:
    play = relayed()
    play.do(play.paths.ended(1, "reset", play.now))
    assert play.do(play.paths.granted(2, None, ["b:1"], play.now)) == [DialDirect(3, "b:1")]
    assert play.paths.deadline() == approx(play.now + 0.1)


@pytest.mark.parametrize("code", ["tunnel_over", "tunnel_unknown"])
def test_a_tunnel_that_is_over_ends_with_the_servers_cause(code: str) -> None:
    play = relayed()
    play.do(play.paths.ended(1, "reset", play.now))
    answer = play.paths.denied(
        2, code, "The workspace was stopped.", play.now, cause="workspace.stopped", actor="user:bob"
    )
    assert answer == [Over(code, "The workspace was stopped.", "workspace.stopped", "user:bob")]
    assert play.paths.ended(1, "x", play.now) == []
    assert play.paths.deadline() is None


@pytest.mark.parametrize("code", ["tunnel_over", "tunnel_unknown"])
def test_a_carrier_that_works_is_not_dropped_because_a_spare_one_is_denied(code: str) -> None:
    play = direct_with_standby()
    play.do(play.paths.ended(1, "reset", play.now))
    play.passes(STANDBY_S + 5.0)
    asked = play.said(AskServer)[-1]
    assert not any(isinstance(c, Over) for c in play.paths.denied(asked.number, code, "", play.now))
    assert play.paths.current == 2
    play.do(play.paths.ended(2, "reset", play.now))
    assert play.passes(60.0), "it is asked again, as after any other answer"
    asked = play.said(AskServer)[-1]
    assert play.paths.denied(asked.number, code, "it ended", play.now) == [Over(code, "it ended")]


def test_an_agent_behind_a_relay_that_knows_no_tunnel_ends_it() -> None:
    play = relayed("a:1")
    play.do(play.paths.ended(1, "reset", play.now))
    play.do(play.paths.granted(4, AMS, [], play.now))
    assert play.paths.refused(4, "tunnel_unknown", "it restarted", play.now) == [
        Over("tunnel_unknown", "it restarted")
    ]


def test_whoever_answers_at_an_endpoint_cannot_end_the_tunnel() -> None:
    play = Play("192.168.0.2:1")
    assert play.paths.refused(2, "tunnel_unknown", "who are you?", play.now) == []
    assert play.paths.deadline() is not None


def test_a_refusal_for_another_reason_is_a_failed_attempt() -> None:
    play = relayed()
    play.do(play.paths.ended(1, "reset", play.now))
    play.do(play.paths.granted(2, AMS, [], play.now))
    play.log.clear()
    play.do(play.paths.refused(2, "wrong_proof", "no", play.now))
    play.passes(0.5)
    assert play.said(AskServer) == [AskServer(3, "fra", ("wss://fra", "wss://ams"))]


def test_policy_ends_a_tunnel_that_nothing_carries() -> None:
    play = relayed(resume_s=600.0)
    play.do(play.paths.ended(1, "reset", play.now))
    ended_at = play.now
    play.passes(700.0)
    at, last = play.log[-1]
    assert (at, last) == (
        round(ended_at - 100.0 + 600.0, 3),
        Over("timed_out", "the workspace's agent did not answer"),
    )


def test_an_attempt_that_never_ends_is_given_up() -> None:
    play = relayed()
    play.do(play.paths.ended(1, "reset", play.now))
    play.do(play.paths.granted(2, AMS, [], play.now))
    play.log.clear()
    play.passes(DIAL_S + 0.2)
    assert play.said(Retire, AskServer) == [
        Retire(2),
        AskServer(3, "fra", ("wss://fra", "wss://ams")),
    ]


# -- signs of life -------------------------------------------------------------------------


def test_an_idle_carrier_is_pinged_every_five_seconds() -> None:
    play = relayed()
    pings = [round(at - 12.0, 1) for at, c in play.passes(23.0) if isinstance(c, PingCarrier)]
    assert pings == [approx(n * IDLE_PING_S, abs=1.1) for n in (1, 2, 3, 4)]


def test_a_standby_is_pinged_every_half_minute() -> None:
    play = direct_with_standby()
    at = [at for at, c in play.passes(70.0) if c == PingCarrier(1)]
    assert len(at) == 2
    assert at[1] - at[0] == approx(STANDBY_PING_S, abs=1.1)


def test_a_frame_that_waits_for_a_second_has_the_carrier_pinged() -> None:
    play = relayed()
    play.sight = StreamActivity(waiting_since=play.now)
    assert [c for _, c in play.passes(1.5)] == [PingCarrier(1)]


def test_a_stream_of_news_that_stops_has_the_carrier_pinged() -> None:
    play = relayed()
    for _ in range(6):
        play.sight = StreamActivity(heard_at={1: play.now})
        play.passes(0.5)
    play.log.clear()
    play.passes(2.0)
    assert play.said(PingCarrier) == [PingCarrier(1)]


def test_the_carriers_are_asked_again_after_the_last_symptom_of_a_change() -> None:
    play = relayed()
    play.do(play.paths.disturbed(play.now))
    play.passes(0.1)
    play.do(play.paths.disturbed(play.now))
    play.log.clear()
    assert [c for _, c in play.passes(0.5)] == [PingCarrier(1)]


def test_bytes_are_as_good_as_an_answer() -> None:
    play = relayed()
    play.answers.clear()
    start = play.now
    for _ in range(40):
        play.sight = StreamActivity(waiting_since=start, heard_at={1: play.now, 99: play.now})
        play.passes(0.5)
    assert play.said(Show, AskServer) == []


def test_a_carrier_that_does_not_answer_is_kept_while_another_is_sought() -> None:
    play = relayed()
    play.answers.clear()
    silent_since = play.now + 1.0
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(ANSWER_S + 2.1)
    assert [c for _, c in play.log] == [
        PingCarrier(1),
        AskServer(2, "fra", ()),
        Show(Stalled(approx(silent_since), "no answer")),
    ]
    assert play.paths.current == 1


def test_a_byte_after_the_ping_says_that_the_carrier_lives() -> None:
    play = relayed()
    play.answers.clear()
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(1.5)
    play.sight = StreamActivity(heard_at={1: play.now})
    play.passes(5.0)
    assert [c for _, c in play.log] == [PingCarrier(1)]


def test_a_carrier_that_answers_after_all_is_shown_as_such() -> None:
    play = relayed()
    play.answers.clear()
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(6.0)
    play.log.clear()
    assert play.do(play.paths.pong(1, 0.1, play.now)) == [
        Show(Carried(1, DERP, "fra", approx(5.0)))
    ]


def test_the_new_carrier_is_used_and_the_silent_one_forgotten_after_a_minute() -> None:
    play = relayed()
    play.answers.clear()
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(5.0)
    play.do(play.paths.granted(2, AMS, [], play.now))
    play.sight = StreamActivity()
    play.log.clear()
    play.up(2, 0.02)
    assert play.said(UseCarrier) == [UseCarrier(2)]
    assert play.said(Retire) == [Retire(1)]


def test_after_one_that_fell_silent_small_segments_are_asked_for_until_the_net_changes() -> None:
    play = direct_with_standby()
    play.answers.discard(2)
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(5.0)
    play.answers.discard(1)
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(5.0)
    assert play.said(UseCarrier, DialDirect, AskServer) == [
        UseCarrier(1),
        DialDirect(3, "10.0.0.1:1", True),
        AskServer(4, "fra", (), True),
    ]
    play.do(play.paths.granted(4, AMS, [], play.now))
    assert play.said(DialRelay) == [DialRelay(4, AMS, True)]
    play.up(4, 0.02)
    play.log.clear()
    play.do(play.paths.disturbed(play.now))
    play.passes(20.0)
    assert {command.small_segments for command in play.said(DialDirect, AskServer)} == {False}


def test_a_cut_direct_path_falls_back_to_the_standby_once_that_has_answered() -> None:
    play = direct_with_standby()
    play.answers.discard(2)
    play.sight = StreamActivity(waiting_since=play.now)
    moves = [
        (round(at - 12.0, 1), c)
        for at, c in play.passes(4.5)
        if isinstance(c, PingCarrier | UseCarrier)
    ]
    assert moves[0] == (1.0, PingCarrier(2))
    assert [move for move in moves if move[1] == UseCarrier(1)] == [(4.0, UseCarrier(1))]
    assert moves.index((4.0, UseCarrier(1))) > [c for _, c in moves].index(PingCarrier(1))


def test_a_healed_direct_path_is_returned_to_but_not_in_haste() -> None:
    play = direct_with_standby()
    play.answers.discard(2)
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(5.0)
    play.sight = StreamActivity()
    play.log.clear()
    healed_at = play.now
    play.do(play.paths.pong(2, 0.001, play.now))
    play.answers.add(2)
    play.passes(20.0)
    returned = [at for at, c in play.log if c == UseCarrier(2)]
    assert returned == [approx(healed_at - 100.0 + SETTLE_S, abs=2.0)]


def test_a_stopped_peer_answers_nowhere_and_loses_no_carrier() -> None:
    play = direct_with_standby()
    play.answers.clear()
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(3600.0)
    assert play.said(UseCarrier) == []
    assert play.paths.current == 2


def test_a_silent_standby_is_dropped_after_a_minute_and_replaced() -> None:
    play = direct_with_standby()
    play.answers.discard(1)
    play.passes(STANDBY_PING_S + FORGET_S + 5.0)
    assert Retire(1) in play.said(Retire)
    assert play.said(UseCarrier) == []
    assert play.said(AskServer)


def test_a_pong_of_a_forgotten_carrier_is_nothing() -> None:
    play = relayed()
    assert play.paths.pong(9, 0.1, play.now) == []


# -- direct again ----------------------------------------------------------------------------


@pytest.mark.parametrize(("jitter", "after"), [(0.0, DIRECT_AGAIN_S), (0.9, 1.9 * DIRECT_AGAIN_S)])
def test_while_relayed_direct_endpoints_are_tried_again(jitter: float, after: float) -> None:
    play = relayed("a:1", jitter=jitter)
    tried = [at for at, c in play.passes(after + 1.0) if isinstance(c, DialDirect)]
    assert tried == [approx(after, abs=0.01)]


def test_a_direct_carrier_that_was_lost_in_use_must_last_before_it_is_used_again() -> None:
    play = direct_with_standby()
    play.do(play.paths.ended(2, "reset", play.now))
    play.passes(DIRECT_AGAIN_S)
    assert play.said(DialDirect) == [DialDirect(3, "10.0.0.1:1")]
    play.log.clear()
    play.up(3, 0.001)
    assert play.said(UseCarrier) == []
    up_at = play.now - 100.0
    play.passes(SETTLE_S + 1.0)
    assert [at for at, c in play.log if c == UseCarrier(3)] == [approx(up_at + SETTLE_S, abs=1.0)]


def test_a_lost_standby_is_replaced_without_haste() -> None:
    play = direct_with_standby()
    play.do(play.paths.ended(1, "reset", play.now))
    asked = [at for at, c in play.passes(30.0) if isinstance(c, AskServer)]
    assert asked[0] == approx(12.0 + STANDBY_S)
    play.do(play.paths.granted(3, AMS, [], play.now))
    play.up(3, 0.03)
    assert play.said(UseCarrier) == []


def test_a_second_relay_is_not_kept() -> None:
    play = relayed()
    play.answers.clear()
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(5.0)
    play.do(play.paths.granted(2, AMS, [], play.now))
    play.do(play.paths.pong(1, 0.1, play.now))
    play.log.clear()
    play.up(2, 0.02)
    assert play.said(UseCarrier, Retire) == [Retire(2)]


# -- where the agent is now ------------------------------------------------------------------


def test_a_new_endpoint_is_tried_at_once_and_used_if_it_answers() -> None:
    play = relayed("a:1")
    assert play.do(play.paths.offered(["a:1", "b:1"], "", play.now)) == [DialDirect(3, "b:1")]
    play.now += 0.01
    play.log.clear()
    play.up(3, 0.001)
    assert [c for _, c in play.log] == [UseCarrier(3), Show(Carried(3, DIRECT, "b:1"))]


def test_the_same_endpoints_once_more_are_no_news() -> None:
    play = relayed("a:1", "b:1")
    assert play.paths.offered(["b:1", "a:1"], "", play.now) == []


def test_a_new_endpoint_is_not_tried_while_a_direct_carrier_serves() -> None:
    play = direct_with_standby()
    play.do(play.paths.offered(["10.0.0.1:1", "b:1"], "", play.now))
    play.passes(3 * DIRECT_AGAIN_S)
    assert play.said(DialDirect, UseCarrier, Retire) == []


def test_an_endpoint_that_is_taken_back_is_not_dialled_any_more() -> None:
    play = Play("a:1", "b:1", "c:1")
    play.log.clear()
    assert play.do(play.paths.offered(["b:1", "d:1"], "", play.now)) == [Retire(2)]
    play.passes(1.0)
    assert play.said(DialDirect) == [DialDirect(3, "d:1"), DialDirect(4, "b:1")]


def test_without_any_endpoint_none_is_dialled() -> None:
    play = relayed("a:1")
    assert play.paths.offered([], "", play.now) == []
    play.passes(5 * DIRECT_AGAIN_S)
    assert play.said(DialDirect) == []


def test_a_carrier_whose_endpoint_is_taken_back_is_asked_and_used_while_it_answers() -> None:
    play = direct_with_standby()
    assert play.do(play.paths.offered([], "", play.now)) == [PingCarrier(2)]
    assert play.do(play.paths.offered([], "", play.now)) == []
    play.passes(60.0)
    assert play.said(UseCarrier, Retire) == []
    assert play.paths.current == 2


def test_a_carrier_whose_endpoint_is_taken_back_and_is_silent_is_left_within_a_second() -> None:
    play = direct_with_standby()
    play.do(play.paths.pong(1, 0.05, play.now))
    play.answers.discard(2)
    play.do(play.paths.offered([], "", play.now))
    left = [at - 12.0 for at, c in play.passes(5.0) if c == UseCarrier(1)]
    assert left == [approx(PROBE_S, abs=0.1)]
    assert Retire(2) in play.said(Retire)


def test_an_agent_that_has_moved_is_followed_before_the_old_carrier_ends() -> None:
    play = direct_with_standby()
    asked = play.do(play.paths.offered(["10.0.0.2:1"], "", play.now))
    assert asked == [PingCarrier(2), DialDirect(3, "10.0.0.2:1")]
    play.log.clear()
    play.up(3, 0.001)
    assert [c for _, c in play.log] == [
        UseCarrier(3),
        Retire(2),
        Show(Carried(3, DIRECT, "10.0.0.2:1")),
    ]


def test_an_agent_that_gives_up_the_address_in_use_is_tried_at_all_the_others() -> None:
    play = direct_with_standby()
    assert play.do(play.paths.offered(["10.0.0.1:1", "b:1"], "", play.now)) == []
    play.now += 1.0
    assert play.do(play.paths.offered(["b:1", "c:1"], "", play.now)) == [
        PingCarrier(2),
        DialDirect(3, "c:1"),
    ]
    play.now += STAGGER_S
    assert play.do(play.paths.tick(play.now, play.sight)) == [DialDirect(4, "b:1")]


def test_an_endpoint_that_is_back_is_as_good_as_before() -> None:
    play = direct_with_standby()
    play.do(play.paths.offered(["10.0.0.2:1"], "", play.now))
    play.do(play.paths.offered(["10.0.0.1:1"], "", play.now))
    assert play.said(DialDirect, Retire) == [DialDirect(3, "10.0.0.2:1"), Retire(3)]
    play.passes(60.0)
    assert play.said(UseCarrier) == []


def test_a_carrier_that_is_being_asked_gets_no_more_time_when_its_endpoint_is_taken_back() -> None:
    play = direct_with_standby()
    play.answers.discard(2)
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(1.5)
    assert play.paths.offered([], "", play.now) == []
    play.passes(3.1)
    assert play.said(UseCarrier) == [UseCarrier(1)]


def test_of_ten_thousand_new_endpoints_a_few_are_tried() -> None:
    play = relayed()
    play.do(play.paths.offered([f"h{n}:1" for n in range(10_000)], "", play.now))
    for number in range(2, 200):
        play.do(play.paths.failed(number, "no", play.now))
    assert len(play.said(DialDirect)) == TRIED_ENDPOINTS


def test_the_agents_new_home_is_where_the_next_relay_is_asked_for() -> None:
    play = relayed()
    assert play.paths.offered([], "ams", play.now) == []
    assert play.paths.offered([], "", play.now) == []
    play.do(play.paths.ended(1, "reset", play.now))
    assert play.said(AskServer) == [AskServer(2, "ams", ("wss://fra",))]


def test_what_is_offered_after_the_end_changes_nothing() -> None:
    play = Play("a:1")
    play.do(play.paths.failed(1, "no", play.now, final=True))
    assert play.paths.offered(["b:1"], "", play.now) == []


# -- what was announced, and what happened to this machine ------------------------------------


def test_a_relay_that_will_restart_is_left_before_it_does() -> None:
    play = relayed()
    assert play.do(play.paths.restarting(1, play.now)) == [AskServer(2, "fra", ("wss://fra",))]
    assert play.do(play.paths.restarting(1, play.now)) == []
    play.do(play.paths.granted(2, AMS, [], play.now))
    play.log.clear()
    play.up(2, 0.03)
    assert [c for _, c in play.log] == [UseCarrier(2), Retire(1), Show(Carried(2, DERP, "ams"))]


def test_a_standby_takes_over_from_a_relay_that_will_restart() -> None:
    play = direct_with_standby()
    play.do(play.paths.restarting(1, play.now))
    assert play.said(UseCarrier, Retire) == [Retire(1)]
    assert play.paths.restarting(1, play.now) == []


def test_after_a_change_of_the_network_every_carrier_is_asked_at_once() -> None:
    play = direct_with_standby()
    assert set(play.do(play.paths.disturbed(play.now))) == {PingCarrier(1), PingCarrier(2)}


def test_a_silence_that_was_our_own_is_not_held_against_a_carrier() -> None:
    play = direct_with_standby()
    play.answers.clear()
    play.sight = StreamActivity(waiting_since=play.now)
    play.passes(1.5)
    play.now += 60.0  # this process was stopped
    assert set(play.do(play.paths.disturbed(play.now))) == {PingCarrier(1), PingCarrier(2)}
    play.do(play.paths.tick(play.now, play.sight))
    assert play.said(UseCarrier, AskServer, Show) == []


def test_a_carrier_that_does_not_answer_after_a_change_is_left_within_a_second() -> None:
    play = direct_with_standby()
    play.answers.discard(2)
    play.do(play.paths.disturbed(play.now))
    left = [at - 12.0 for at, c in play.passes(5.0) if c == UseCarrier(1)]
    assert left == [approx(PROBE_S, abs=0.1)]


def test_attempts_of_the_old_network_are_begun_anew() -> None:
    play = relayed("a:1")
    play.do(play.paths.ended(1, "unreachable", play.now))
    play.do(play.paths.granted(4, AMS, [], play.now))
    play.passes(3.0)
    play.log.clear()
    play.do(play.paths.disturbed(play.now))
    assert [c for _, c in play.log] == [
        Retire(3),
        Retire(4),
        DialDirect(5, "a:1"),
        AskServer(6, "fra", ()),
    ]


def test_attempts_that_have_just_begun_go_on_and_a_flood_of_changes_counts_once() -> None:
    play = Play("a:1")
    assert play.paths.disturbed(play.now) == []
    play.now += 0.5
    assert play.paths.disturbed(play.now) == []


def test_a_control_link_that_is_back_is_used_at_once() -> None:
    play = relayed()
    play.do(play.paths.ended(1, "reset", play.now))
    for number in (2, 3, 4, 5):
        play.do(play.paths.unasked(number, play.now))
        play.passes(1.0)
    play.do(play.paths.unasked(6, play.now))
    play.log.clear()
    assert play.do(play.paths.control_back(play.now)) != []


# -- whatever happens ---------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("up", "failed", "refused", "ended", "pong", "granted", "granted_none", "denied"),
                *("unasked", "control_back", "restarting", "disturbed", "time", "long", "silence"),
                "offered",
            ]
        ),
        st.integers(0, 5),
    ),
    max_size=60,
)


class World:
    """Plays any events, and checks after each what must always hold."""

    def __init__(self, endpoints: int, jitter: float) -> None:
        self.paths = CarrierSelector(
            relay=FRA,
            endpoints=[f"h{n}:1" for n in range(endpoints)],
            resume_s=DAY,
            jitter=lambda: jitter,
        )
        self.now, self.sight = 0.0, StreamActivity()
        self.dialling: list[int] = []
        self.live: list[int] = []
        self.asked: list[int] = []
        self.used: int | None = None
        self.numbers: set[int] = set()
        self.over = False
        self.take(self.paths.start(self.now))

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case DialRelay(number=number) | DialDirect(number=number):
                    assert number not in self.numbers
                    self.numbers.add(number)
                    self.dialling.append(number)
                case AskServer(number=number):
                    assert number not in self.numbers
                    self.asked = [number]
                case UseCarrier(number=number):
                    assert number in self.live
                    self.used = number
                case Retire(number=number):
                    assert number != self.used
                    self.live = [n for n in self.live if n != number]
                    self.dialling = [n for n in self.dialling if n != number]
                case PingCarrier(number=number):
                    assert number in self.live
                case Over():
                    self.over = True
                case Show():
                    pass
        self.check()

    def check(self) -> None:
        deadline = self.paths.deadline()
        assert self.over == (deadline is None)
        if deadline is None:
            return
        assert deadline > self.now, "a busy loop"
        assert len(self.dialling) <= MAX_DIALS
        assert self.paths.current == self.used
        assert self.used is not None or self.dialling or self.asked or deadline < self.now + 31.0

    def step(self, what: str, which: int) -> None:
        pick: Callable[[list[int]], int] = lambda them: them[which % len(them)]  # noqa: E731
        paths, now = self.paths, self.now
        match what:
            case "up" if self.dialling:
                number = pick(self.dialling)
                self.dialling.remove(number)
                self.live.append(number)
                self.take(paths.up(number, 0.001 * which, now))
            case "failed" | "refused" if self.dialling:
                number = pick(self.dialling)
                self.dialling.remove(number)
                if what == "failed":
                    self.take(paths.failed(number, "no", now, final=which == 5))
                else:
                    self.take(paths.refused(number, "wrong_proof", "no", now))
            case "ended" if self.live:
                number = pick(self.live)
                self.live.remove(number)
                self.used = None if self.used == number else self.used
                self.take(paths.ended(number, "reset", now, at_fault=which > 2))
            case "pong" if self.live:
                self.take(paths.pong(pick(self.live), 0.01, now))
            case "restarting" if self.live:
                self.take(paths.restarting(pick(self.live), now))
            case "granted" | "granted_none" | "denied" | "unasked" if self.asked:
                number, self.asked = self.asked[0], []
                if what == "granted":
                    self.take(paths.granted(number, AMS, [], now))
                elif what == "granted_none":
                    self.take(paths.granted(number, None, [f"n{which}:1"], now))
                elif what == "denied":
                    self.take(paths.denied(number, "relay_unavailable", "", now))
                else:
                    self.take(paths.unasked(number, now))
            case "control_back":
                self.take(paths.control_back(now))
            case "disturbed":
                self.take(paths.disturbed(now))
            case "offered":
                self.take(paths.offered([f"h{n}:1" for n in range(which, 6)], "", now))
            case "silence":
                self.sight = StreamActivity(waiting_since=now if which else None)
            case "time" | "long":
                self.pass_time(which if what == "time" else 20.0 * which)
            case _:
                pass

    def pass_time(self, seconds: float) -> None:
        until, ticks = self.now + seconds, 0
        while (due := self.paths.deadline()) is not None and due <= until:
            self.now, ticks = due, ticks + 1
            self.asked = []  # an unanswered question lapses in the machine
            self.take(self.paths.tick(self.now, self.sight))
            assert ticks <= 40 * (seconds + 1), "a busy loop"
        self.now = until


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, endpoints=st.integers(0, 6), jitter=st.floats(0.0, 0.99))
def test_whatever_happens_attempts_are_bounded_and_something_is_always_under_way(
    steps: list[tuple[str, int]], endpoints: int, jitter: float
) -> None:
    world = World(endpoints, jitter)
    for what, which in steps:
        if not world.over:
            world.step(what, which)


def test_a_ticket_is_never_printed() -> None:
    assert repr(DialRelay(1, FRA)) == (
        "DialRelay(number=1, relay=RelayTicket(url='wss://fra', region='fra'))"
    )
