"""Two links and a cable that delays and loses: whatever happens, each ends once and with a cause."""

from __future__ import annotations

from collections import deque

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.clock import at
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.link.link import (
    CloseStream,
    Command,
    DeliverMessage,
    Link,
    LinkEnded,
    LinkState,
    SendMessage,
)
from tether.protocol.messages.base import Message, Unrecognized
from tether.protocol.messages.control import GoodbyeAck
from tether.protocol.messages.tunnel import HalfClose

sides = st.integers(0, 1)


class TwoLinks(RuleBasedStateMachine):
    """An agent and a server, and what is under way to each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.links = (
            Link(me=Party.AGENT, peer=Party.SERVER, now=at(0), ping_every=15, patience=45),
            Link(me=Party.SERVER, peer=Party.AGENT, now=at(0), ping_every=15, patience=45),
        )
        self.under_way: tuple[deque[Message], deque[Message]] = (deque(), deque())
        self.ended = [0, 0]
        self.causes: list[tuple[ev.Evidence, ...]] = [(), ()]

    def perform(self, side: int, commands: list[Command]) -> None:
        assert not self.ended[side] or not commands, "a link spoke after its end"
        for i, command in enumerate(commands):
            match command:
                case SendMessage(message=message):
                    self.under_way[1 - side].append(message)
                case LinkEnded():
                    assert i == len(commands) - 1, "Ended comes last"
                    assert isinstance(commands[i - 1], CloseStream)
                    self.ended[side] += 1
                case CloseStream() | DeliverMessage():
                    pass

    @rule(side=sides, message=st.sampled_from([HalfClose(), Unrecognized(message_type="x")]))
    def say(self, side: int, message: Message) -> None:
        if self.links[side].state is LinkState.OPEN:
            self.under_way[1 - side].append(message)

    @rule(side=sides, stray=st.sampled_from([GoodbyeAck(), HalfClose()]))
    def stray(self, side: int, stray: Message) -> None:
        self.perform(side, self.links[side].receive(stray, at(self.now)))

    @precondition(lambda self: any(self.under_way))
    @rule(side=sides)
    def arrive(self, side: int) -> None:
        if self.under_way[side]:
            message = self.under_way[side].popleft()
            self.perform(side, self.links[side].receive(message, at(self.now)))

    @rule(side=sides)
    def lose_everything_under_way(self, side: int) -> None:
        self.under_way[side].clear()

    @rule(side=sides, cause=st.sampled_from(["agent.shutdown", "server.shutdown"]))
    def leave(self, side: int, cause: str) -> None:
        self.perform(side, self.links[side].leave(cause, at(self.now)))

    @rule(side=sides)
    def violate(self, side: int) -> None:
        self.perform(side, self.links[side].violated("nonsense", at(self.now)))

    @rule(side=sides, how=st.sampled_from(StreamEnd))
    def cut(self, side: int, how: StreamEnd) -> None:
        link = self.links[side]
        gone = ev.StreamEnded(vantage=Vantage(str(link.me)), at=self.now, peer=link.peer, how=how)
        self.perform(side, link.cut(gone))

    @rule(seconds=st.sampled_from([0.1, 3.0, 14.0, 45.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [d for link in self.links if (d := link.deadline()) is not None and d <= end]:
            self.now = max(self.now, min(due))
            for side, link in enumerate(self.links):
                self.perform(side, link.tick(at(self.now)))
        self.now = end

    @invariant()
    def a_link_has_ended_once_if_it_is_closed(self) -> None:
        for side, link in enumerate(self.links):
            assert self.ended[side] == (link.state is LinkState.CLOSED)
            assert (link.deadline() is None) == (link.state is LinkState.CLOSED)

    @invariant()
    def an_ending_link_has_a_cause_and_an_open_one_has_none(self) -> None:
        for link in self.links:
            assert link.cell.ended == (link.state is not LinkState.OPEN)

    @invariant()
    def the_first_cause_never_changes(self) -> None:
        for side, link in enumerate(self.links):
            if self.causes[side]:
                assert link.cell.facts == self.causes[side]
            if link.cell.ended:
                self.causes[side] = link.cell.facts

    def teardown(self) -> None:
        """Left alone, both links end: nothing lives for ever."""
        for deque_ in self.under_way:
            deque_.clear()
        self.time_passes(1000.0)
        assert self.ended == [1, 1]


TestTwoLinks = TwoLinks.TestCase
TestTwoLinks.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
